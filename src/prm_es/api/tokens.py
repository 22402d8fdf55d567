"""Bearer tokens: signed by the configured issuer, for us, and not over. Its keys are asked for when they are needed."""

from collections.abc import Mapping
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import Any, Final

import httpx2
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from prm_es.api.problems import Problem, unauthenticated
from prm_es.errors import Unavailable, Usage
from prm_es.settings import Settings

KEPT_S: Final = 300.0
AGAIN_S: Final = 10.0  # a token that names a key of nobody's makes us ask no more often than this
PATIENCE_S: Final = 5.0
MAX_BYTES: Final = 16_384
REMEMBERED_S: Final = 60.0  # less than the keys themselves are kept: a key that is withdrawn holds no longer for it
REMEMBERED: Final = 2_000
DISCOVERY: Final = "/.well-known/openid-configuration"


class Keys:
    """The issuer's public keys, kept for a while and asked for anew when a token names one that is not among them."""

    def __init__(self, settings: Settings) -> None:
        self._issuer, self._address = settings.oidc_issuer, settings.oidc_jwks
        self._client = httpx2.Client(timeout=PATIENCE_S)
        self._lock = Lock()
        self._known: KeySet | None = None
        self._asked = float("-inf")

    def current(self) -> KeySet:
        """Give the keys; raises Unavailable if the issuer does not answer and none are known."""
        return self._at_most(KEPT_S)

    def renewed(self) -> KeySet:
        """Give the keys, asked for again unless they were a moment ago; raises Unavailable."""
        return self._at_most(AGAIN_S)

    def close(self) -> None:
        """Let go of the issuer."""
        self._client.close()

    def _at_most(self, age: float) -> KeySet:
        with self._lock:
            if self._known is None or monotonic() - self._asked > age:
                try:
                    self._known = self._ask()
                except (httpx2.HTTPError, ValueError, KeyError, JoseError) as error:
                    if self._known is None:
                        raise Unavailable(f"the issuer {self._issuer} gives no keys: {error}") from error
                self._asked = monotonic()
            return self._known

    def _ask(self) -> KeySet:
        if not self._issuer:
            raise Unavailable("no issuer is configured: set PRM_OIDC_ISSUER")
        return KeySet.import_key_set(self._json(self._address or self._discovered()))

    def _discovered(self) -> str:
        found = self._json(self._issuer.rstrip("/") + DISCOVERY)
        if found.get("issuer") != self._issuer:
            raise ValueError(f"it says that it is {found.get('issuer')}")
        return str(found["jwks_uri"])

    def _json(self, address: str) -> Any:  # noqa: ANN401
        return self._client.get(address).raise_for_status().json()


class Tokens:
    """Verifies bearer tokens: algorithm, signature, issuer, audience, times."""

    def __init__(self, settings: Settings) -> None:
        """Take the issuer from settings; raises Usage for an algorithm that anybody could sign with."""
        self._algorithms = [one.strip() for one in settings.oidc_algorithms.split(",") if one.strip()]
        if not self._algorithms or any(one.lower() == "none" or one.startswith("HS") for one in self._algorithms):
            raise Usage("PRM_OIDC_ALGORITHMS: name algorithms with public keys, as RS256,ES256")
        self._claims = jwt.JWTClaimsRegistry(
            leeway=settings.oidc_leeway,
            iss={"essential": True, "value": settings.oidc_issuer},
            aud={"essential": True, "value": settings.oidc_audience},
            exp={"essential": True},
        )
        self._keys = Keys(settings)
        self._signed: dict[str, tuple[float, Mapping[str, Any]]] = {}

    def remembered(self, token: str) -> Mapping[str, Any] | None:
        """Give the claims of a token whose signature was verified a moment ago; raises Problem 401 if it is over."""
        until, claims = self._signed.get(token, (0.0, {}))
        return self._valid(claims) if monotonic() < until else None

    def verified(self, token: str) -> Mapping[str, Any]:
        """Give the claims of a token; raises Problem 401, which repeats nothing of it, or Unavailable."""
        if len(token) > MAX_BYTES or not token.isascii():
            raise unauthenticated("the token is not one")
        try:
            claims = self._valid(self._decoded(token).claims)
        except (JoseError, ValueError, TypeError) as error:
            raise _refused(error) from None
        if len(self._signed) >= REMEMBERED:
            self._signed = {}
        self._signed[token] = (monotonic() + REMEMBERED_S, claims)
        return claims

    def _valid(self, claims: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            self._claims.validate(dict(claims))
        except (JoseError, ValueError, TypeError) as error:
            raise _refused(error) from None
        return claims

    def close(self) -> None:
        """Let go of the issuer."""
        self._keys.close()

    def _decoded(self, token: str) -> jwt.Token:
        with suppress(InvalidKeyIdError):
            return jwt.decode(token, self._keys.current(), algorithms=self._algorithms)
        return jwt.decode(token, self._keys.renewed(), algorithms=self._algorithms)


def _refused(error: Exception) -> Problem:
    return unauthenticated(f"the token is not accepted: {_reason(error)}")


def _reason(error: Exception) -> str:
    return str(getattr(error, "error", "") or type(error).__name__).replace("_", " ")
