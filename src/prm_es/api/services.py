"""What the endpoints share: settings, database pools, the issuer's keys, limits. Nothing connects unasked."""

from threading import Lock
from typing import Any

from authlib.integrations.starlette_client import OAuth
from fastapi import FastAPI

from prm_es.api.database import Database
from prm_es.api.freshness import Freshness
from prm_es.api.live import Hub
from prm_es.api.rates import Limiter
from prm_es.api.sending import Door
from prm_es.api.tokens import DISCOVERY, Tokens
from prm_es.errors import Unavailable
from prm_es.settings import Settings
from prm_es.status import Observer, Status
from prm_es.store.store import Store


class Services:
    """One of each for an app; `close` lets go of the servers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings)
        self.freshness = Freshness(settings)
        self.hub = Hub(self.freshness)
        self.tokens = Tokens(settings)
        self.limiter = Limiter(settings.api_rate, settings.api_failures)
        self.door = Door(settings)
        self.browser = _browser(settings)
        self._lock = Lock()
        self._store: Store | None = None
        self._history: Store | None = None
        self._observer: Observer | None = None

    def store(self) -> Store:
        """Give the store, open for questions about availability; raises Unavailable or OperationalError."""
        with self._lock:
            if self._store is None:
                self._store = Store(self.settings, "writer", pool_size=4)
            return self._store

    def history(self) -> Store:
        """Give the store, open for reading what happened; raises Unavailable or OperationalError."""
        with self._lock:
            if self._history is None:
                self._history = Store(self.settings, "auditor", pool_size=4)
            return self._history

    def status(self) -> Status:
        """Say how far everything is, one question at a time; raises Unavailable."""
        with self._lock:
            if self._observer is None:
                self._observer = Observer(self.settings)
            try:
                return self._observer.status()
            except Unavailable:
                observer, self._observer = self._observer, None
                observer.close()
                raise

    def close(self) -> None:
        """Let go of every connection."""
        self.database.close()
        self.freshness.close()
        self.tokens.close()
        self.door.close()
        with self._lock:
            for store in (self._store, self._history):
                if store is not None:
                    store.close()
            if self._observer is not None:
                self._observer.close()


def _browser(settings: Settings) -> Any:  # noqa: ANN401
    """Give the client that logs browsers in at the issuer: authorization code with PKCE, state and nonce."""
    return OAuth().register(
        "issuer",
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret or None,
        server_metadata_url=settings.oidc_issuer.rstrip("/") + DISCOVERY,
        client_kwargs={
            "scope": settings.oidc_scope,
            "code_challenge_method": "S256",
            "token_endpoint_auth_method": "client_secret_basic" if settings.oidc_client_secret else "none",
        },
    )


def services_of(app: FastAPI) -> Services:
    """Give an app's services."""
    services: Services = app.state.services
    return services
