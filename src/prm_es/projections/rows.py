"""Rows of read models in and out of PostgreSQL, through psycopg2."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from io import StringIO
from itertools import groupby
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg2.extras
from psycopg2 import sql

from prm_es.projections.base import PERSONAL, ReadModel, Row, Rows, Sums, Table
from prm_es.store.vault import TOKEN, all_key_ids, open_text

psycopg2.extras.register_uuid()  # type: ignore[no-untyped-call]


@lru_cache(maxsize=1 << 16)  # a batch names the same aggregates again and again
def _uuid(text: str) -> UUID:
    return UUID(text)


def _read_uuid(text: Any, _cursor: object) -> UUID | None:  # noqa: ANN401 - as psycopg2's stubs have it
    return _uuid(text) if text else None


_UUID: Final = psycopg2.extensions.new_type((2950,), "UUID", _read_uuid)  # the type's number in pg_type
psycopg2.extensions.register_type(_UUID)
psycopg2.extensions.register_type(psycopg2.extensions.new_array_type((2951,), "UUID[]", _UUID))

Changes = Mapping[UUID, tuple[Rows, Rows]]  # an aggregate's rows before and after
_PAGE: Final = 1000


def load(
    cursor: Any,  # noqa: ANN401
    model: ReadModel,
    schema: str,
    ids: Collection[UUID],
    only: Sequence[Table] | None = None,
) -> dict[UUID, Rows]:
    """Give the rows of these aggregates, in these tables only if some are named; those without any are empty."""
    if not ids:
        return {}
    own = [table for table in (model.tables if only is None else only) if not table.derived]
    wanted = array(one.hex for one in ids)
    empty = model.empty()
    found: dict[UUID, dict[str, tuple[Row, ...]]] = {one: {**empty} for one in ids}
    for table in own:
        query = sql.SQL("SELECT {} FROM {} WHERE {} = ANY(%s::uuid[])").format(
            _names(table.columns), sql.Identifier(schema, table.name), sql.Identifier(table.key[0])
        )
        if len(table.key) > 1:  # else it is one row an aggregate
            query += sql.SQL(" ORDER BY {}").format(_names(table.key))
        cursor.execute(query, (wanted,))
        of = itemgetter(table.columns.index(table.key[0]))
        for one, values in groupby(cursor, of):
            found[one][table.name] = tuple(map(table.row_of, values))
    return dict(found)


def array(values: Iterable[object]) -> str:
    """Write numbers or ids as an array, once, as text: adapting each of them is what costs."""
    return f"{{{','.join(['NULL' if one is None else str(one) for one in values])}}}"


def save(cursor: Any, model: ReadModel, schema: str, changes: Changes) -> None:  # noqa: ANN401
    """Write what differs between before and after, in order of key, and the personal values that go with it."""
    for table in model.tables:
        written, gone = (_difference_derived if table.derived else _difference)(table, changes)
        if gone:
            _delete(cursor, table, schema, gone)
        if written:
            (_insert if table.derived else _upsert)(cursor, table, schema, written)
    _save_personal(cursor, schema, list(_sealed_changes(model, changes)))
    for sums in model.sums:  # last, and all at once: others that count the same wait for no more than the end of this
        _count(cursor, model, sums, schema, list(_changed_facts(sums, changes)))


def _changed_facts(sums: Sums, changes: Changes) -> Iterator[Mapping[str, object]]:
    for before, after in changes.values():
        if any(before[name] != after[name] for name in sums.of):
            old, new = sums.facts(before), sums.facts(after)
            yield from ({**fact, "sign": -1} for fact in old if fact not in new)
            yield from ({**fact, "sign": 1} for fact in new if fact not in old)


def _count(cursor: Any, model: ReadModel, sums: Sums, schema: str, facts: Sequence[Mapping[str, object]]) -> None:  # noqa: ANN401
    if not facts:
        return
    statement = sql.SQL(model.counting_sql(sums)).format(model=sql.Identifier(schema))
    cursor.execute(statement, (orjson.dumps(facts, default=_json_text).decode(),))
    _delete(cursor, sums, schema, [key for *key, nothing in cursor if nothing])


def _difference(table: Table, changes: Changes) -> tuple[list[Row], list[tuple[Any, ...]]]:
    written: list[Row] = []
    gone: list[tuple[Any, ...]] = []
    for before, after in changes.values():
        old, new = before[table.name], after[table.name]
        if not old:
            written += new
        elif old != new:
            known = {table.key_of(row): row for row in old}
            fresh = {table.key_of(row): row for row in new}
            written += [row for key, row in fresh.items() if known.get(key) != row]
            gone += [key for key in known if key not in fresh]
    return sorted(written, key=table.key_of), sorted(gone)


def _difference_derived(table: Table, changes: Changes) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    written: set[tuple[Any, ...]] = set()
    gone: set[tuple[Any, ...]] = set()
    for before, after in changes.values():
        if before is after or (table.derives_same and table.derives_same(before, after)):
            continue
        old, new = set(table.values_of(before)), set(table.values_of(after))
        written |= new - old
        gone |= old - new
    return sorted(written), sorted(gone)


def _insert(cursor: Any, table: Table, schema: str, rows: Sequence[tuple[Any, ...]]) -> None:  # noqa: ANN401
    """Insert rows that follow from what was not there before: looking for each first costs half as much again."""
    arrays = sql.SQL(", ").join(sql.SQL("%s::{}[]").format(sql.SQL(one)) for one in table.types)
    statement = sql.SQL("INSERT INTO {} ({}) SELECT * FROM unnest({})").format(
        sql.Identifier(schema, table.name), _names(table.columns), arrays
    )
    for start in range(0, len(rows), _PAGE):
        columns = zip(*rows[start : start + _PAGE], strict=True)
        cursor.execute(statement, [array(values) for values in columns])


def _upsert(cursor: Any, table: Table, schema: str, rows: Sequence[Row]) -> None:  # noqa: ANN401
    others = [name for name in table.columns if name not in table.key]
    assignments = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others)
    known = sql.SQL("UPDATE SET {}").format(assignments) if others else sql.SQL("NOTHING")
    into = sql.Identifier(schema, table.name)
    statement = sql.SQL(
        "INSERT INTO {0} ({1}) SELECT {1} FROM json_populate_recordset(NULL::{0}, %s) ON CONFLICT ({2}) DO {3}"
    ).format(into, _names(table.columns), _names(table.key), known)
    for start in range(0, len(rows), _PAGE):
        cursor.execute(statement, (orjson.dumps(rows[start : start + _PAGE], default=_json_text).decode(),))


def _json_text(value: object) -> str:
    """Write what JSON has no form for as PostgreSQL reads it."""
    return value.isoformat() if isinstance(value, datetime | date) else _copy_text(value)


def _delete(cursor: Any, table: Table | Sums, schema: str, keys: Sequence[Sequence[Any]]) -> None:  # noqa: ANN401
    same = sql.SQL(" AND ").join(sql.SQL("t.{0} = gone.{0}").format(sql.Identifier(name)) for name in table.key)
    statement = sql.SQL("DELETE FROM {0} t USING json_populate_recordset(NULL::{0}, %s) gone WHERE {1}").format(
        sql.Identifier(schema, table.name), same
    )
    for start in range(0, len(keys), _PAGE):
        page = [dict(zip(table.key, key, strict=True)) for key in keys[start : start + _PAGE]]
        cursor.execute(statement, (orjson.dumps(page, default=_json_text).decode(),))


# Personal values

Personal = tuple[UUID, str, str | None]  # aggregate, field, token or plain text


def _sealed_changes(model: ReadModel, changes: Changes) -> Iterator[Personal]:
    """Give each sealed field whose token changed; a sealed column's table has one row an aggregate."""
    for table in model.tables:
        for name in table.sealed:
            for aggregate_id, (before, after) in changes.items():
                old, new = (_content(rows[table.name], name) for rows in (before, after))
                if old != new and any(content and TOKEN.fullmatch(content) for content in (old, new)):
                    yield aggregate_id, name, new


def _content(rows: Sequence[Row], name: str) -> str | None:
    return getattr(rows[0], name) if rows else None


def _save_personal(cursor: Any, schema: str, changed: Sequence[Personal]) -> None:  # noqa: ANN401
    if not changed:
        return
    table = sql.Identifier(schema, PERSONAL)
    delete = sql.SQL("DELETE FROM {} WHERE (aggregate_id, field) IN (VALUES %s)").format(table)
    gone = sorted((aggregate_id, name) for aggregate_id, name, _content in changed)
    psycopg2.extras.execute_values(cursor, delete.as_string(cursor), gone, page_size=_PAGE)
    values = personal_values(cursor, changed)
    if values:
        insert = sql.SQL("INSERT INTO {} (key_id, aggregate_id, field, value) VALUES %s").format(table)
        psycopg2.extras.execute_values(cursor, insert.as_string(cursor), values, page_size=_PAGE)


def personal_values(cursor: Any, sealed: Iterable[Personal]) -> list[tuple[UUID, UUID, str, str]]:  # noqa: ANN401
    """Decrypt what still can be; holds the keys' rows FOR SHARE until the transaction ends, against forgetting."""
    tokens = [(aggregate_id, name, token) for aggregate_id, name, token in sealed if token and TOKEN.fullmatch(token)]
    wanted = all_key_ids(token for _aggregate_id, _name, token in tokens)
    if not wanted:
        return []
    cursor.execute("SELECT key_id, key FROM keys WHERE key_id = ANY(%s) ORDER BY key_id FOR SHARE", (list(wanted),))
    keys = {key_id: bytes(key) for key_id, key in cursor}
    values = []
    for aggregate_id, name, token in tokens:
        (key_id,) = all_key_ids((token,))
        clear = open_text(token, keys)
        if clear is not None:
            values.append((key_id, aggregate_id, name, clear))
    return sorted(values, key=lambda value: (value[1], value[2]))


# Bulk


class Copier:
    """Collects whole aggregates and writes them by COPY into empty tables; memory is bounded by `limit` rows."""

    def __init__(self, cursor: Any, model: ReadModel, schema: str, limit: int = 20_000) -> None:  # noqa: ANN401
        self._cursor, self._model, self._schema, self._limit = cursor, model, schema, limit
        self._buffers = {table.name: StringIO() for table in model.tables}
        self._sealed: list[Personal] = []
        self._facts: list[tuple[Sums, list[Mapping[str, object]]]] = [(sums, []) for sums in model.sums]
        self._held = 0

    def add(self, aggregate_id: UUID, rows: Rows) -> None:
        """Take one aggregate's rows."""
        empty = self._model.empty()
        for table in self._model.tables:
            for values in table.values_of(rows):
                self._buffers[table.name].write("\t".join(map(_copy_text, values)) + "\n")
                self._held += 1
        self._sealed += _sealed_changes(self._model, {aggregate_id: (empty, rows)})
        for sums, facts in self._facts:
            facts.extend(_changed_facts(sums, {aggregate_id: (empty, rows)}))
        if self._held >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        for table in self._model.tables:
            buffer = self._buffers[table.name]
            self._copy(table.name, table.columns, buffer)
            self._buffers[table.name] = StringIO()
        buffer = StringIO()
        for value in personal_values(self._cursor, self._sealed):
            buffer.write("\t".join(map(_copy_text, value)) + "\n")
        self._copy(PERSONAL, ("key_id", "aggregate_id", "field", "value"), buffer)
        for sums, facts in self._facts:
            _count(self._cursor, self._model, sums, self._schema, facts)
            facts.clear()
        self._sealed, self._held = [], 0

    def _copy(self, table: str, columns: Sequence[str], buffer: StringIO) -> None:
        if not buffer.tell():
            return
        buffer.seek(0)
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(self._schema, table), _names(columns))
        self._cursor.copy_expert(statement.as_string(self._cursor), buffer)


_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_QUOTES: Final = str.maketrans({"\\": "\\\\", '"': '\\"'})


def _copy_text(value: object) -> str:
    """Write a value in COPY's text format (postgresql.org/docs/18/sql-copy.html)."""
    match value:
        case None:
            return "\\N"
        case bool():
            return "t" if value else "f"
        case str():
            return value.translate(_ESCAPES)
        case list():
            return ("{" + ",".join(f'"{str(one).translate(_QUOTES)}"' for one in value) + "}").translate(_ESCAPES)
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"
        case _:
            return str(value)


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
