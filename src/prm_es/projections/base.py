"""What a read model is: a name, a version, tables, and a pure fold from an aggregate's events to its rows.

Every table is an *own* table: its key begins with the aggregate id and its rows follow from that aggregate's events
alone; or it holds exact sums over such rows, to which differences are added in any order. Rows hold no wall time, no
surrogate ids, no floats; what depends on today or on another aggregate is computed in the views. So the same log gives
the same rows, whatever the order between aggregates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
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
class Sums:
    """A table of sums over the rows of many aggregates, for what is too slow to add up at each question.

    `facts` gives what an aggregate's rows in the tables `of` count for, no two facts of it alike. What comes and goes
    among them is counted by the statement in the read model's file of this name, which has {model} open: it takes the
    facts as a JSON array, each with a `sign`, and gives the keys that it touched, each with whether nothing is left
    there. `seen` says which sums partners' people see: those of their own organisations, if nothing is said.
    """

    name: str
    key: tuple[str, ...]
    of: tuple[str, ...]
    facts: Callable[[Rows], Sequence[Mapping[str, object]]]
    seen: str = OWN


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
    sums: Sequence[Sums] = ()

    @property
    def keys(self) -> dict[str, tuple[str, ...]]:
        """The key of each table, by name."""
        tables, sums = ({one.name: one.key for one in these} for these in (self.tables, self.sums))
        return tables | sums | {PERSONAL: ("aggregate_id", "field")}

    @property
    def seen(self) -> dict[str, str]:
        """The condition under which a partner's people see a row of each table, by name."""
        tables = {table.name: table.seen_by_partners for table in self.tables}
        return tables | {one.name: one.seen for one in self.sums} | {PERSONAL: self.personal_seen}

    @property
    def table_sql(self) -> str:
        """DDL of the tables, with the same names open as for the views but {read}; shared ones first."""
        return "\n".join(_text(f"{one}.tables.sql") for one in (*self.shared_sql, self.name))

    @property
    def view_sql(self) -> str:
        """DDL and comments of the views, with {model}, {read}, {tz}, {token}, {seen} and {vendor} open.

        `vendor` tells whether one of the vendor's people asks, who may know how a partner stands among others.
        """
        return _text(f"{self.name}.views.sql")

    def counting_sql(self, sums: Sums) -> str:
        """Give the statement that counts facts, with {model} and the facts open."""
        return _text(f"{self.name}.{sums.name}.sql")

    def empty(self) -> Rows:
        """Give the rows of an aggregate without events."""
        return {table.name: () for table in self.tables if not table.derived}


@cache
def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
