"""Which lists change, told as it happens: one look at the checkpoints a moment serves every client of this process.

The id of each message says how far the client is, in itself: whoever comes back with it is told at once what changed
since, whichever process answers.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import orjson
from starlette.concurrency import run_in_threadpool

from prm_es.api.freshness import Freshness, Model
from prm_es.api.lists import LISTS
from prm_es.errors import Unavailable

PAUSE_S: Final = 0.1
BEAT_S: Final = 15.0
Marks = Mapping[str, str]


class Hub:
    """Looks while somebody listens, and wakes all of them when something has changed."""

    def __init__(self, freshness: Freshness) -> None:
        self._freshness = freshness
        self._changed = asyncio.Condition()
        self._models: Mapping[str, Model] = {}
        self._listeners = 0
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None

    async def changes(self, since: Marks | None) -> AsyncIterator[Mapping[str, Model] | None]:
        """Give all models first, or those that have changed since, then those that change; None is a sign of life."""
        seen = since
        self._listeners += 1
        try:
            self._begin()
            while True:
                now = await self._next(seen)
                if not now:
                    yield None
                    continue
                changed = {name: one for name, one in now.items() if seen is None or seen.get(name) != one.mark}
                yield changed or None
                seen = marks(now)
        finally:
            self._listeners -= 1
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

    def _begin(self) -> None:
        if self._task is None:
            self._models, self._error = {}, None
            self._task = asyncio.create_task(self._look())

    async def _next(self, seen: Marks | None) -> Mapping[str, Model]:
        """Wait until there is something new, or for a beat; raises Unavailable once the database is away."""
        async with self._changed:
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._changed.wait_for(lambda: self._error or (self._models and marks(self._models) != seen))
            except TimeoutError:
                pass
            if self._error is not None:
                raise Unavailable("the database is away") from self._error
            return self._models

    async def _look(self) -> None:
        try:
            while True:
                models = await run_in_threadpool(self._freshness.models)
                if models is not self._models and marks(models) != marks(self._models):
                    await self._tell(models, None)
                await asyncio.sleep(PAUSE_S)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # told to all who listen, who come again
            self._task = None
            await self._tell({}, error)

    async def _tell(self, models: Mapping[str, Model], error: BaseException | None) -> None:
        async with self._changed:
            self._models, self._error = models, error
            self._changed.notify_all()


def marks(models: Mapping[str, Model]) -> Marks:
    """Give what each model's rows are recognised by."""
    return {name: one.mark for name, one in models.items()}


def id_of(known: Marks) -> str:
    """Write marks as the id of a message."""
    return base64.urlsafe_b64encode(orjson.dumps(known, option=orjson.OPT_SORT_KEYS)).decode().rstrip("=")


def marks_of(text: str | None) -> Marks | None:
    """Read the id of a message; None for whatever is none."""
    if not text:
        return None
    try:
        known = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        return None
    return known if isinstance(known, dict) else None


def told(changed: Mapping[str, Model]) -> dict[str, Any]:
    """Say which lists have changed, and up to which position each is complete."""
    return {
        "lists": sorted(one.name for one in LISTS.values() if one.model in changed),
        "as_of": {one.name: changed[one.model].position for one in LISTS.values() if one.model in changed},
    }
