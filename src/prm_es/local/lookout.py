"""The supervisor's lookout: which server does not answer, and since when; and what each worker says of itself."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any, Final

from prm_es import presence
from prm_es.local.folder import Away, ChildRecord, StackRecord
from prm_es.settings import Settings

WELL_S: Final = 5.0  # between two looks while all is well
AWAY_S: Final = 1.0
HEALTH_S: Final = 2.0

Changed = Callable[[Mapping[str, Away]], None]


class Lookout:
    """Asks the servers again and again in a thread of its own, and tells `changed` which are away when that changes."""

    def __init__(self, settings: Settings, changed: Changed) -> None:
        self._settings, self._changed = settings, changed
        self._stop = Event()
        self._thread = Thread(target=self._look, name="lookout", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more, and tell nothing more."""
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        known: dict[str, Away] = {}
        while not self._stop.wait(AWAY_S if known else WELL_S):
            asked = datetime.now(UTC)
            found = presence.away(self._settings)
            if found.keys() != known.keys() and not self._stop.is_set():
                known = {name: known.get(name) or Away(since=asked, reason=reason) for name, reason in found.items()}
                self._changed(known)


def healths(record: StackRecord) -> dict[str, dict[str, Any] | None]:
    """Ask each worker that runs for its /health; None of one that does not answer."""
    watched = {name: child for name, child in record.children.items() if _can_answer(child)}
    with ThreadPoolExecutor(max(1, len(watched))) as pool:
        return dict(zip(watched, pool.map(_health, watched.values()), strict=True))


def _can_answer(child: ChildRecord) -> bool:
    return bool(child.watch and child.process and child.process.find())


def _health(child: ChildRecord) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"{child.watch}/health", timeout=HEALTH_S) as answer:  # noqa: S310 - written by us
            told: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as stuck:
        told = json.load(stuck)
    except (OSError, ValueError):
        return None
    return told
