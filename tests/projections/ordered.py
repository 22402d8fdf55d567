"""What the tests of ordered read models share: the three workers without their processes, and independent readings."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.rows import dict_row

from prm_es import rebuild
from prm_es.install import install
from prm_es.messages import Envelope
from prm_es.projections.due import Due
from prm_es.projections.ordered import OrderedProjector
from prm_es.projections.registry import ORDERED
from prm_es.settings import Settings
from prm_es.store.store import Store
from tests.support import Desk


@dataclass
class Service:
    """Dispatch and the ordered workers, one after the other, so that a test says when each moves."""

    settings: Settings
    desk: Desk
    projectors: dict[str, OrderedProjector]
    due: Due
    asked: list[Envelope] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)

    def settle(self, *, late_too: bool = True) -> list[dict[str, Any]]:
        """Let everything follow from the log that follows from it now; gives the answers to what was asked."""
        answers: list[dict[str, Any]] = []
        while True:
            for projector in self.projectors.values():
                while projector.advance().events:
                    pass
            self.due.send(self.asked.extend, late_too=late_too)
            if not self.asked:
                return answers
            commands, self.asked[:] = list(self.asked), []
            answers += self.desk.ask(*commands)

    def view(self, query: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Ask the views as their reader."""
        options = f"-c search_path={self.settings.read_schema} -c role={self.settings.db_role('reader')}"
        with psycopg.connect(self.settings.postgres, options=options, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def rebuilt_differs(self) -> dict[str, int]:
        """Count the rows of the ordered read models that a fresh fold of the log has otherwise."""
        return {
            f"{name}.{table}": rows
            for name, model in ORDERED.items()
            for table, rows in rebuild.compare(self.settings, model).differs.items()
            if rows
        }


@contextmanager
def service(settings: Settings) -> Iterator[Service]:
    """Give the workers on a database that is migrated."""
    install(settings)
    with ExitStack() as stack:
        store = stack.enter_context(Store(settings))
        asked: list[Envelope] = []
        projectors = {name: OrderedProjector(settings, model, asked.extend) for name, model in ORDERED.items()}
        for projector in projectors.values():
            stack.callback(projector.close)
        yield Service(
            settings, Desk(store, topic=str(uuid4())), projectors, Due(settings, projectors["deadlines"]), asked
        )
