"""What a read model is: a name, a version, tables, and a pure fold from an aggregate's events to its rows.

Every table is an *own* table: its key begins with the aggregate id and its rows follow from that aggregate's events
alone. Rows hold no wall time, no surrogate ids, no floats; what depends on today or on another aggregate is computed
in the views. So the same log gives the same rows, whatever the order between aggregates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.resources import files
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from prm_es.aggregates.base import Event
from prm_es.messages import Recorded

_TYPES: Final[Mapping[Any, str]] = {int: "bigint", UUID: "uuid"}
Row = Any  # a frozen dataclass whose fields are the table's columns, in order
Rows = Mapping[str, tuple[Row, ...]]  # one aggregate's rows by table, each in the order of its key
Fold = Callable[[Rows, Recorded, Event], Rows]

PERSONAL = "personal"  # the table of each read model that alone holds personal values in clear

# Which rows a partner's people see, as SQL conditions with {model} and {seen} open: the ids of the organisations for
# which they act. Whoever has no partner of its own names the row that it belongs to, which is held to the same.
OWN: Final = "partner_id = ANY ({seen})"
NONE_OF_IT: Final = "false"


@dataclass(frozen=True)
class Table:
    """A table of a read model. `sealed` columns may hold tokens; their values in clear go to the personal table.

    With `derived` its rows are not folded but follow from the aggregate's other rows, and are written without being
    read: they are there to search by. It gives them as values in the order of the columns, numbers and ids that are all
    the key. `derives_same` tells, if that is cheaper, that two states derive the same rows.

    `seen` says which rows a partner's people see: those of its own organisations where there is a column partner_id,
    none where there is not and nothing is said.
    """

    row: type
    key: tuple[str, ...]
    sealed: tuple[str, ...] = ()
    derived: Callable[[Rows], Sequence[tuple[Any, ...]]] | None = None
    derives_same: Callable[[Rows, Rows], bool] | None = None
    seen: str = ""

    @cached_property
    def name(self) -> str:
        """The table's name: the row class's, in lower case with underscores."""
        letters = (f"_{one.lower()}" if one.isupper() else one for one in self.row.__name__)
        return "".join(letters).lstrip("_")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns in order."""
        return tuple(field.name for field in fields(self.row))

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The types of a derived table's columns, as PostgreSQL names them."""
        return tuple(_TYPES[field.type] for field in fields(self.row))

    @property
    def seen_by_partners(self) -> str:
        """The condition under which a partner's people see a row."""
        return self.seen or (OWN if "partner_id" in self.columns else NONE_OF_IT)

    def key_of(self, row: Row) -> tuple[Any, ...]:
        """Give the values of a row's key."""
        return self._key_of(row)

    @cached_property
    def _key_of(self) -> Callable[[Row], tuple[Any, ...]]:
        of = attrgetter(*self.key)
        return of if len(self.key) > 1 else lambda row: (of(row),)

    def row_of(self, values: Sequence[Any]) -> Row:
        """Give the row with these values, in the order of the columns: what was written is taken as it is."""
        row: Row = object.__new__(self.row)
        row.__dict__.update(zip(self.columns, values, strict=True))
        return row

    def values(self, row: Row) -> tuple[Any, ...]:
        """Give the values of a row, in the order of the columns."""
        return tuple(getattr(row, name) for name in self.columns)

    def values_of(self, rows: Rows) -> Sequence[tuple[Any, ...]]:
        """Give the values of this table's rows among those of an aggregate."""
        return self.derived(rows) if self.derived else [self.values(row) for row in rows[self.name]]


@dataclass(frozen=True)
class ReadModel:
    """A read model; `version` rises when the same log gives other rows or other views.

    `shared_sql` names the files of tables that other read models have as well. `for_partners` tells whether a partner's
    people may read it at all, of each table what it says; `personal_seen` says it of the personal table.
    """

    name: str
    version: int
    aggregates: tuple[str, ...]
    tables: tuple[Table, ...]
    fold: Fold
    views: Sequence[str]
    shared_sql: Sequence[str] = ()
    for_partners: bool = True
    personal_seen: str = NONE_OF_IT

    @property
    def table_sql(self) -> str:
        """DDL of the tables, with {model} open; those shared with other read models first."""
        parts = (*self.shared_sql, self.name)
        return "\n".join(files(__package__).joinpath(f"{one}.tables.sql").read_text(encoding="utf-8") for one in parts)

    @property
    def view_sql(self) -> str:
        """DDL and comments of the views, with {model}, {read}, {tz}, {seen} and {vendor} open.

        `vendor` tells whether one of the vendor's people asks, who may know how a partner stands among others.
        """
        return files(__package__).joinpath(f"{self.name}.views.sql").read_text(encoding="utf-8")

    def empty(self) -> Rows:
        """Give the rows of an aggregate without events."""
        return {table.name: () for table in self.tables if not table.derived}
