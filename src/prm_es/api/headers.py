"""Security headers of every answer: scripts and styles are our own files, nobody frames us, nothing is sniffed."""

from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI
from secure import (
    ContentSecurityPolicy,
    CrossOriginOpenerPolicy,
    CrossOriginResourcePolicy,
    PermissionsPolicy,
    ReferrerPolicy,
    Secure,
    StrictTransportSecurity,
    XContentTypeOptions,
    XFrameOptions,
)
from secure.middleware import SecureASGIMiddleware

from prm_es.settings import Settings

YEAR_S: Final = 31_536_000


def install(app: FastAPI, settings: Settings) -> None:
    """Let every answer of the app carry the headers; HSTS only where browsers come by TLS."""
    app.add_middleware(SecureASGIMiddleware, secure=headers(settings))


def headers(settings: Settings) -> Secure:
    """Give the headers for settings."""
    issuer = urlsplit(settings.oidc_issuer)
    # The form that logs out is answered by a redirect to the issuer, and browsers hold that to form-action too.
    forms = ("'self'", f"{issuer.scheme}://{issuer.netloc}") if issuer.netloc else ("'self'",)
    policy = (
        ContentSecurityPolicy()
        .default_src("'self'")
        .script_src("'self'")
        .style_src("'self'")
        .img_src("'self'", "data:")
        .object_src("'none'")
        .base_uri("'none'")
        .form_action(*forms)
        .frame_ancestors("'none'")
    )
    return Secure(
        csp=policy,
        coop=CrossOriginOpenerPolicy().same_origin(),
        corp=CrossOriginResourcePolicy().same_origin(),
        hsts=StrictTransportSecurity().max_age(YEAR_S) if settings.api_url.startswith("https://") else None,
        permissions=PermissionsPolicy().geolocation().camera().microphone(),
        referrer=ReferrerPolicy().same_origin(),
        xcto=XContentTypeOptions().nosniff(),
        xfo=XFrameOptions().deny(),
    )
