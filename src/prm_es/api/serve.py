"""The API and the development issuer as workers: uvicorn in the main thread until it is told to stop."""

import asyncio
from threading import Event
from typing import Any, Final

import structlog
import uvicorn
import uvloop

from prm_es.api.app import create_app
from prm_es.errors import Unavailable, Usage
from prm_es.liveness import LIVE
from prm_es.settings import Settings

log = structlog.get_logger()

TICK_S: Final = 1.0
END_S: Final = 5  # streams of live changes have no end of their own


def work(settings: Settings, stop: Event) -> None:
    """Serve the API until stopped; raises Usage or Unavailable."""
    try:
        app = create_app(settings)
    except ValueError as error:
        raise Usage(str(error)) from error
    run(app, settings.api_host, settings.api_port, stop, proxies=settings.api_proxies)


def run(app: Any, host: str, port: int, stop: Event, *, proxies: str = "") -> None:  # noqa: ANN401
    """Serve an app until stopped; raises Unavailable if it cannot listen there."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or None,
        timeout_graceful_shutdown=END_S,
    )
    server = uvicorn.Server(config)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(server, stop, f"http://{host}:{port}"))
    except SystemExit as error:  # uvicorn's way to say that it could not listen
        raise Unavailable(f"cannot listen at {host}:{port}") from error


async def _serve(server: uvicorn.Server, stop: Event, address: str) -> None:
    async def tick() -> None:
        while not stop.is_set():
            LIVE.progressed(f"serving {address}")
            await asyncio.sleep(TICK_S)

    ticking = asyncio.create_task(tick())
    log.info("api.serving", address=address)
    try:
        await server.serve()
    finally:
        ticking.cancel()
