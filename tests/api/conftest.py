"""A real API on a real port, with an issuer of its own, on the module's own installation."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import uvicorn

from prm_es.api.app import create_app
from prm_es.api.issuer.app import create_issuer
from prm_es.api.issuer.logins import BY_NAME, NOBODY_YET, Organisation, claims_of
from prm_es.api.issuer.signing import Signer
from prm_es.install import install
from prm_es.local.folder import free_port
from prm_es.settings import Settings

ONE, TWO = NOBODY_YET


@contextmanager
def serving(app: Any, port: int) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{port}"
    try:
        with httpx2.Client(transport=httpx2.HTTPTransport(retries=8)) as client:  # backs off up to some 30 s
            client.get(f"{address}/api/openapi.json")  # counts for nobody
        yield address
    finally:
        server.should_exit = True
        thread.join(timeout=20)


@dataclass
class Api:
    """The API under test, and tokens to ask it with."""

    settings: Settings
    address: str
    signer: Signer
    partners: tuple[Organisation, ...]
    client: httpx2.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx2.Client(base_url=self.address, timeout=60)

    def token(self, login: str, **changes: Any) -> str:
        return self.signer.sign(self.settings.oidc_audience, {**claims_of(BY_NAME[login], self.partners), **changes})

    def headers(self, login: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token(login)}"}

    def ask(self, method: str, path: str, login: str | None = None, **more: Any) -> httpx2.Response:
        headers = {**(self.headers(login) if login else {}), **more.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **more)

    def get(self, path: str, login: str | None = None, **more: Any) -> httpx2.Response:
        return self.ask("GET", path, login, **more)


Running = Callable[..., Api]


@pytest.fixture(scope="module")
def serve(migrated: Settings) -> Iterator[Running]:
    """Start an API, with settings of one's own, and its issuer."""
    install(migrated)
    with ExitStack() as stack:

        def start(**changes: Any) -> Api:
            issuer, port = free_port(), free_port()
            given = {"issuer_port": issuer, "oidc_issuer": f"http://127.0.0.1:{issuer}", "api_port": port, **changes}
            settings = migrated.model_copy(update=given)
            partners = (ONE, TWO)
            stack.enter_context(serving(create_issuer(settings, lambda: partners), issuer))
            address = stack.enter_context(serving(create_app(settings), port))
            return Api(settings, address, Signer(settings.data, settings.oidc_issuer), partners)

        yield start


@pytest.fixture(scope="module")
def api(serve: Running) -> Api:
    return serve()
