"""The service behind the pages: a part of the demo in its read models, and every worker that the pages need."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from prm_es import rebuild
from prm_es.consumers import topics
from prm_es.install import install
from prm_es.local.folder import Folder
from prm_es.projections.registry import ORDERED, READ_MODELS
from prm_es.settings import Settings
from tests.projections.ordered import service as ordered
from tests.workers import Crew, head, late_story, noted, until, write

VERBS: Final = (
    ("dev-issuer",),
    ("api",),
    ("handle",),
    ("publish",),
    ("project", "pipeline", "leads", "performance"),
    ("conflicts",),
)


@dataclass(frozen=True)
class Service:
    """Where the pages are, and whose."""

    settings: Settings
    at: str


@contextmanager
def service(settings: Settings, ports: Folder, share: float = 0.1) -> Iterator[Service]:
    """Fill it with the last share of the demo, and run it as `prm-es up` does."""
    install(settings)
    topics.create(settings)
    write(settings, late_story(share, whole=2))
    with ordered(settings) as models:
        for projector in models.projectors.values():
            while projector.advance().events:
                pass
    for name in READ_MODELS.keys() - ORDERED.keys():
        rebuild.rebuild(settings, READ_MODELS[name])
    api, issuer = f"http://127.0.0.1:{ports.port('web-api')}", f"http://127.0.0.1:{ports.port('web-issuer')}"
    environment = {
        "PRM_API_PORT": api.rpartition(":")[2],
        "PRM_ISSUER_PORT": issuer.rpartition(":")[2],
        "PRM_OIDC_ISSUER": issuer,
        "PRM_SESSION_SECRET": "of the tests, as long as one has to be",
    }
    with Crew(settings, settings.data) as crew:
        started = {verb[0]: crew.start(*verb, **environment) for verb in VERBS}
        for name in ("dev-issuer", "api"):
            address = started[name].until_logged("api.serving")["address"]
            until(lambda address=address: _listens(address), f"{name} listens")  # type: ignore[misc]
        until(lambda: noted(settings) == head(settings), "everything is published")
        yield Service(settings, api)


def _listens(address: str) -> bool:
    found = urlsplit(address)
    try:
        socket.create_connection((found.hostname, found.port), timeout=5).close()
    except OSError:
        return False
    return True
