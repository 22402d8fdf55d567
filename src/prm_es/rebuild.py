"""Making a read model anew from the log: beside the live one, caught up, then swapped in one short transaction.

Readers see the old rows until the swap and then the new ones. A rebuild that is killed leaves a generation marked
"building", which the next one removes.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg2
import psycopg2.errors
import structlog
from psycopg2 import sql

from prm_es.errors import AlreadyRunning, SchemaMismatch, Unavailable
from prm_es.projections.base import PERSONAL, ReadModel
from prm_es.projections.ordered import EVERYTHING, OrderedModel, OrderedProjector
from prm_es.projections.registry import READ_MODELS
from prm_es.projections.rows import Copier
from prm_es.projections.runner import COLUMNS, Projector, discarded, event_of, fold_stream, park, schema_of, streams
from prm_es.settings import PARTITIONS, Settings
from prm_es.store.locks import Lock, keys
from prm_es.store.vault import TOKEN_PATTERN

log = structlog.get_logger()

Progress = Callable[[int, int], None]  # events done, events in all
SWAP_LOCK_MS: Final = 50
SWAP_TRIES: Final = 400
CLOSE_ENOUGH: Final = 1000  # events that the last catching up may hold workers for


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that does not follow from the log: its key, and the columns that differ, as they stand and as they follow.

    A side is None where it has no such row. Personal values are never shown.
    """

    table: str
    key: Mapping[str, object]
    stands: Mapping[str, object] | None
    follows: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did, or what a comparison found.

    By table, `differs` counts the rows that only one side has, `rows` their keys: a row that stands on both sides but
    otherwise counts two and one. `shown` are the first of the keys; without any asked for, `rows` is not counted.
    """

    generation: int
    events: int
    seconds: float
    differs: Mapping[str, int]
    rows: Mapping[str, int] = field(default_factory=dict)
    shown: Sequence[Difference] = ()


def install(settings: Settings) -> list[str]:
    """Make the tables and views of read models that have none yet; gives their names."""
    made = []
    with _owner(settings) as connection:
        for model in READ_MODELS.values():
            with connection, connection.cursor() as cursor:
                if _live(cursor, settings, model) is None:
                    _create(cursor, settings, model, 1, "live")
                    _point_views(cursor, settings, model, 1)
                    made.append(model.name)
    return made


def older(settings: Settings) -> list[ReadModel]:
    """Give the read models whose live rows are of an older version than this program's.

    Raises SchemaMismatch if those of one are of a newer version: this program is the older one.
    """
    live = _versions(settings)
    for name, model in READ_MODELS.items():
        if live.get(name, model.version) > model.version:
            raise SchemaMismatch(
                f"read model {name} has version {live[name]}, this older program makes {model.version}: run the version"
                " that made it, or restore a backup from before"
            )
    return [model for name, model in READ_MODELS.items() if live.get(name, model.version) < model.version]


def missing(settings: Settings) -> list[ReadModel]:
    """Give the read models that have no tables yet."""
    live = _versions(settings)
    return [model for name, model in READ_MODELS.items() if name not in live]


def bookkept(settings: Settings) -> bool:
    """Tell whether the bookkeeping of the read models is there at all."""
    connection = psycopg2.connect(settings.admin_dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{settings.projections_schema}.generations",))
            return cursor.fetchone() == (True,)
    finally:
        connection.close()


def _versions(settings: Settings) -> dict[str, int]:
    with _owner(settings) as connection, connection, connection.cursor() as cursor:
        query = sql.SQL("SELECT name, version FROM {}.generations WHERE status = 'live'")
        cursor.execute(query.format(sql.Identifier(settings.projections_schema)))
        return dict(cursor.fetchall())


def ahead(settings: Settings) -> list[ReadModel]:
    """Give the read models whose rows contain more than the log: the store was restored without them."""
    with _owner(settings) as connection, connection, connection.cursor() as cursor:
        query = sql.SQL(
            "SELECT name, max(position) FROM {0}.checkpoints JOIN {0}.generations USING (name, generation)"
            " WHERE status = 'live' GROUP BY name"
        )
        cursor.execute(query.format(sql.Identifier(settings.projections_schema)))
        reached, head = dict(cursor.fetchall()), _head(cursor)
    return [model for name, model in READ_MODELS.items() if reached.get(name, 0) > head]


def rebuild(
    settings: Settings,
    model: ReadModel,
    progress: Progress = lambda _done, _total: None,
    *,
    upto: int | None = None,
) -> Rebuilt:
    """Build the read model anew and swap it in; raises AlreadyRunning while another rebuild runs.

    An ordered one up to a position at the most, if one is given: from there on its worker asks again.
    """
    started = time.monotonic()
    with _owner(settings) as connection, _exclusive(connection, settings):
        generation = _fresh_generation(connection, settings, model)
        events, reached = _fill(connection, settings, model, generation, progress, upto)
        _swap(connection, settings, model, generation, reached, upto)
        log.info("rebuild.swapped", model=model.name, generation=generation, events=events)
        return Rebuilt(generation, events, time.monotonic() - started, {})


def compare(
    settings: Settings, model: ReadModel, progress: Progress = lambda _done, _total: None, *, limit: int = 0
) -> Rebuilt:
    """Build the read model anew beside the live one, count the rows that differ at the same position, drop it again.

    At most `limit` of them are shown. Workers wait for the length of the comparison, readers do not.
    """
    started = time.monotonic()
    with _owner(settings) as connection, _exclusive(connection, settings):
        generation = _fresh_generation(connection, settings, model)
        try:
            events, reached = _fill(connection, settings, model, generation, progress)
            with connection, connection.cursor() as cursor:
                live = _hold_workers(cursor, settings, model)
                _finish(cursor, settings, model, generation, reached)
                _finish(cursor, settings, model, live, _lowest(cursor, settings, model, live))
                differs = _differences(cursor, settings, model, live, generation)
                rows, shown = _named(cursor, settings, model, (live, generation), differs, limit)
        finally:
            _drop(connection, settings, model, generation)
        return Rebuilt(generation, events, time.monotonic() - started, differs, rows, shown)


def ask_again(settings: Settings) -> None:
    """Let the ordered read models ask again for what followed from the log's last day; their rows are made anew.

    What was asked may have been answered after the backup only that a store was restored from, and lost with that.
    """
    with _owner(settings) as connection, connection, connection.cursor() as cursor:
        cursor.execute(_A_DAY_AGO)
        ((position,),) = cursor.fetchall()
    for model in READ_MODELS.values():
        if isinstance(model, OrderedModel):
            rebuild(settings, model, upto=position)


_A_DAY_AGO: Final = (
    "SELECT max(last_position) FROM commits WHERE number = 0"
    " OR recorded_at < (SELECT max(recorded_at) FROM commits) - interval '1 day'"
)


@contextmanager
def _owner(settings: Settings) -> Iterator[Any]:
    connection = psycopg2.connect(settings.dsn("owner"))
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _exclusive(connection: Any, settings: Settings) -> Iterator[None]:  # noqa: ANN401
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", keys(settings.prefix, Lock.REBUILD))
        if not cursor.fetchone()[0]:
            raise AlreadyRunning("another rebuild runs")
    try:
        yield
    finally:
        if not connection.closed:  # its server process may outlive a closed connection for a moment, lock and all
            connection.rollback()
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", keys(settings.prefix, Lock.REBUILD))


def _live(cursor: Any, settings: Settings, model: ReadModel) -> int | None:  # noqa: ANN401
    query = sql.SQL("SELECT generation FROM {}.generations WHERE name = %s AND status = 'live'")
    cursor.execute(query.format(sql.Identifier(settings.projections_schema)), (model.name,))
    row = cursor.fetchone()
    return row[0] if row else None


def _fresh_generation(connection: Any, settings: Settings, model: ReadModel) -> int:  # noqa: ANN401
    bookkeeping = sql.Identifier(settings.projections_schema)
    with connection, connection.cursor() as cursor:
        query = sql.SQL("SELECT generation FROM {}.generations WHERE name = %s AND status <> 'live'")
        cursor.execute(query.format(bookkeeping), (model.name,))
        left_over = [row[0] for row in cursor]
    for generation in left_over:
        _drop(connection, settings, model, generation)
    with connection, connection.cursor() as cursor:
        query = sql.SQL("SELECT coalesce(max(generation), 0) + 1 FROM {}.generations WHERE name = %s")
        cursor.execute(query.format(bookkeeping), (model.name,))
        generation = int(cursor.fetchone()[0])
        _create(cursor, settings, model, generation, "building")
    return generation


def _create(cursor: Any, settings: Settings, model: ReadModel, generation: int, status: str) -> None:  # noqa: ANN401
    schema = sql.Identifier(schema_of(settings, model.name, generation))
    roles = {role: sql.Identifier(settings.db_role(role)) for role in ("projector", "reader", "auditor", "portal")}
    bookkeeping = sql.Identifier(settings.projections_schema)
    cursor.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
    cursor.execute(sql.SQL(model.table_sql).format(**_names(settings, schema)))
    for statement in _PERSONAL_AND_GRANTS:
        cursor.execute(sql.SQL(statement).format(model=schema, personal=sql.Identifier(PERSONAL), **roles))
    _hold_partners_to_their_rows(cursor, model, schema, roles)
    cursor.execute(
        sql.SQL("INSERT INTO {}.generations (name, generation, version, status) VALUES (%s, %s, %s, %s)").format(
            bookkeeping
        ),
        (model.name, generation, model.version, status),
    )
    cursor.execute(
        sql.SQL(
            "INSERT INTO {}.checkpoints (name, generation, topic, partition, position)"
            " SELECT %s, %s, topic, partition, 0 FROM unnest(%s) topic, generate_series(0, %s) partition"
        ).format(bookkeeping),
        (model.name, generation, *_places(settings, model)),
    )


def _names(settings: Settings, schema: sql.Identifier) -> dict[str, sql.Composable]:
    """Give what the SQL of a read model leaves open."""
    return {
        "model": schema,
        "tz": sql.Literal(settings.report_tz),
        "token": sql.Literal(TOKEN_PATTERN),
        "seen": _SEEN,
        "vendor": _VENDOR,
    }


def _hold_partners_to_their_rows(
    cursor: Any,  # noqa: ANN401
    model: ReadModel,
    schema: sql.Identifier,
    roles: Mapping[str, sql.Identifier],
) -> None:
    """Let everybody see every row but partners' people, and these the rows that the read model says, if it is for them.

    Nothing is granted by default: of a table that says nothing and names no partner, they see no row.
    """
    for table, condition in model.seen.items():
        names = {"table": sql.SQL("{}.{}").format(schema, sql.Identifier(table)), **roles}
        for statement in _ROWS_OF_EVERYBODY:
            cursor.execute(sql.SQL(statement).format(**names))
        if model.for_partners:
            own = sql.SQL(condition).format(model=schema, seen=_SEEN)
            for statement in _ROWS_OF_PARTNERS:
                cursor.execute(sql.SQL(statement).format(own=own, **names))
    if model.for_partners:
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, roles["portal"]))


# The organisations for which a partner's people act, as the API names them in each transaction. None: no row is seen.
_SETTING: Final = "nullif(current_setting('prm.orgs', true), '')::uuid[]"
_SEEN: Final = sql.SQL(f"(SELECT {_SETTING})::uuid[]")
_VENDOR: Final = sql.SQL(f"(SELECT coalesce(cardinality({_SETTING}), 0) = 0)")
_ROWS_OF_EVERYBODY: Final = (
    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY everybody ON {table} TO {projector}, {reader}, {auditor} USING (true) WITH CHECK (true)",
)
_ROWS_OF_PARTNERS: Final = (
    "CREATE POLICY own ON {table} FOR SELECT TO {portal} USING ({own})",
    "GRANT SELECT ON {table} TO {portal}",
)


def _places(settings: Settings, model: ReadModel) -> tuple[list[str], int]:
    """Give the topics and the highest partition that have a checkpoint each; an ordered model has one for the log."""
    if isinstance(model, OrderedModel):
        return [EVERYTHING], 0
    return [settings.event_topic(name) for name in model.aggregates], PARTITIONS - 1


_PERSONAL_AND_GRANTS: Final = (
    """CREATE TABLE {model}.{personal} (
        key_id uuid NOT NULL,
        aggregate_id uuid NOT NULL,
        field text NOT NULL,
        value text NOT NULL,
        PRIMARY KEY (aggregate_id, field)
    )""",
    "CREATE INDEX ON {model}.{personal} (key_id)",
    "GRANT USAGE ON SCHEMA {model} TO {projector}, {reader}, {auditor}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {model} TO {projector}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA {model} TO {reader}, {auditor}",
)


def _fill(
    connection: Any,  # noqa: ANN401
    settings: Settings,
    model: ReadModel,
    generation: int,
    progress: Progress,
    upto: int | None = None,
) -> tuple[int, int]:
    """Fold the log as it stands, aggregate by aggregate, and COPY the rows; then catch up until close to its end.

    An ordered model is folded in order, up to where the live one is: what it asks for from there on, its worker sends.
    Gives the number of events folded and the position reached.
    """
    if isinstance(model, OrderedModel):
        return _fill_in_order(connection, settings, model, generation, progress, upto)
    with connection, connection.cursor() as cursor:
        head = _head(cursor)
        done = _copy_all(connection, cursor, settings, model, generation, head, progress)
        move = sql.SQL("UPDATE {}.checkpoints SET position = %s WHERE name = %s AND generation = %s")
        cursor.execute(move.format(sql.Identifier(settings.projections_schema)), (head, model.name, generation))
        for table in model.keys:
            schema = schema_of(settings, model.name, generation)
            cursor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, table)))
    return done, _catch_up(settings, model, generation, head)


def _fill_in_order(
    connection: Any,  # noqa: ANN401
    settings: Settings,
    model: OrderedModel,
    generation: int,
    progress: Progress,
    upto: int | None,
) -> tuple[int, int]:
    with connection, connection.cursor() as cursor:
        live = _live(cursor, settings, model)
        head = _lowest(cursor, settings, model, live) if live is not None else 0
        head = head if upto is None else min(head, upto)
    projector = OrderedProjector(settings, model, generation=generation)
    try:
        done = 0
        while (step := projector.advance(upto=head)).events:
            done += step.events
            progress(step.position, head)
        return done, step.position
    finally:
        projector.close()


def _copy_all(
    connection: Any,  # noqa: ANN401
    cursor: Any,  # noqa: ANN401
    settings: Settings,
    model: ReadModel,
    generation: int,
    head: int,
    progress: Progress,
) -> int:
    copier = Copier(cursor, model, schema_of(settings, model.name, generation))
    wanted = [f"prm.{name}.%" for name in model.aggregates]
    done, skipped = 0, discarded(cursor, model)
    cursor.execute("SELECT count(*) FROM events WHERE notification_id <= %s AND topic LIKE ANY(%s)", (head, wanted))
    ((total,),) = cursor.fetchall()
    with connection.cursor(name="rebuild") as log_cursor:
        log_cursor.itersize = 5000
        log_cursor.execute(
            f"{COLUMNS} WHERE notification_id <= %s AND topic LIKE ANY(%s) ORDER BY originator_id, originator_version",
            (head, wanted),
        )
        for subject, stream in streams(map(event_of, log_cursor)):
            rows, refused = fold_stream(model, model.empty(), [one for one in stream if one.position not in skipped])
            copier.add(subject, rows)
            park(cursor, settings, model, generation, refused)
            done += len(stream)
            progress(done, total)
    copier.flush()
    return done


def _head(cursor: Any) -> int:  # noqa: ANN401
    cursor.execute("SELECT last_position FROM commits ORDER BY number DESC LIMIT 1")
    return int(cursor.fetchone()[0])


def _catch_up(settings: Settings, model: ReadModel, generation: int, after: int) -> int:
    projector = Projector(settings, model, generation)
    try:
        while (reached := projector.catch_up(after)) - after > CLOSE_ENOUGH:
            after = reached
        return reached
    finally:
        projector.close()


def _finish(cursor: Any, settings: Settings, model: ReadModel, generation: int, after: int) -> None:  # noqa: ANN401
    """Catch up to the end of the log, or to where a live ordered model is, inside this transaction, workers held."""
    if isinstance(model, OrderedModel):
        _finish_in_order(cursor, settings, model, generation)
        return
    projector = Projector(settings, model, generation)
    try:
        while (reached := projector.catch_up_in(cursor, after)) > after:
            after = reached
    finally:
        projector.close()


def _finish_in_order(cursor: Any, settings: Settings, model: OrderedModel, generation: int) -> None:  # noqa: ANN401
    live = _live(cursor, settings, model)
    if live is None or live == generation:
        return
    upto = _lowest(cursor, settings, model, live)
    projector = OrderedProjector(settings, model, generation=generation)
    try:
        while projector.advance_in(cursor, upto=upto).events:
            pass
    finally:
        projector.close()


def _lowest(cursor: Any, settings: Settings, model: ReadModel, generation: int) -> int:  # noqa: ANN401
    query = sql.SQL("SELECT min(position) FROM {}.checkpoints WHERE name = %s AND generation = %s")
    cursor.execute(query.format(sql.Identifier(settings.projections_schema)), (model.name, generation))
    return int(cursor.fetchone()[0])


def _hold_workers(cursor: Any, settings: Settings, model: ReadModel) -> int:  # noqa: ANN401
    """Hold the live generation's row, which every worker reads FOR SHARE in each batch; gives the generation."""
    query = sql.SQL("SELECT generation FROM {}.generations WHERE name = %s AND status = 'live' FOR UPDATE")
    cursor.execute(query.format(sql.Identifier(settings.projections_schema)), (model.name,))
    return int(cursor.fetchone()[0])


def _swap(
    connection: Any,  # noqa: ANN401
    settings: Settings,
    model: ReadModel,
    generation: int,
    reached: int,
    upto: int | None = None,
) -> None:
    """Point the views at the new rows. A swap waits 50 ms for slow readers, then lets others pass and tries again."""
    for _attempt in range(SWAP_TRIES):
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", (f"{SWAP_LOCK_MS}ms",))
                old = _hold_workers(cursor, settings, model)
                if upto is None or not isinstance(model, OrderedModel):
                    _finish(cursor, settings, model, generation, reached)
                _point_views(cursor, settings, model, generation)
                query = sql.SQL("UPDATE {}.generations SET status = %s WHERE name = %s AND generation = %s").format(
                    sql.Identifier(settings.projections_schema)
                )
                cursor.execute(query, ("old", model.name, old))
                cursor.execute(query, ("live", model.name, generation))
        except psycopg2.errors.LockNotAvailable:
            time.sleep(SWAP_LOCK_MS / 1000)
            continue
        _drop(connection, settings, model, old)
        return
    raise Unavailable("readers held the views for too long: the old rows stay live, run the rebuild again")


def _point_views(cursor: Any, settings: Settings, model: ReadModel, generation: int) -> None:  # noqa: ANN401
    read = sql.Identifier(settings.read_schema)
    for view in model.views:
        cursor.execute(sql.SQL("DROP VIEW IF EXISTS {}.{}").format(read, sql.Identifier(view)))
    schema = sql.Identifier(schema_of(settings, model.name, generation))
    if model.views:
        cursor.execute(sql.SQL(model.view_sql).format(read=read, **_names(settings, schema)))
    readers = ("reader", "projector", "auditor", *(("portal",) if model.for_partners else ()))
    roles = [sql.Identifier(settings.db_role(role)) for role in readers]
    for view in model.views:
        grant = sql.SQL("GRANT SELECT ON {}.{} TO {}")
        cursor.execute(grant.format(read, sql.Identifier(view), sql.SQL(", ").join(roles)))


def _drop(connection: Any, settings: Settings, model: ReadModel, generation: int) -> None:  # noqa: ANN401
    """Drop a generation's tables; waits for readers that still look at them."""
    with connection, connection.cursor() as cursor:
        schema = sql.Identifier(schema_of(settings, model.name, generation))
        cursor.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))
        query = sql.SQL("DELETE FROM {}.generations WHERE name = %s AND generation = %s")
        cursor.execute(query.format(sql.Identifier(settings.projections_schema)), (model.name, generation))


def _differences(cursor: Any, settings: Settings, model: ReadModel, live: int, fresh: int) -> dict[str, int]:  # noqa: ANN401
    """Count the rows that only one side has, by table."""
    found = {}
    for name in model.keys:
        left, right = (sql.Identifier(schema_of(settings, model.name, one), name) for one in (live, fresh))
        query = sql.SQL(
            "SELECT count(*) FROM ((TABLE {left} EXCEPT ALL TABLE {right})"
            " UNION ALL (TABLE {right} EXCEPT ALL TABLE {left})) AS different"
        )
        cursor.execute(query.format(left=left, right=right))
        found[name] = int(cursor.fetchone()[0])
    return found


def _named(
    cursor: Any,  # noqa: ANN401
    settings: Settings,
    model: ReadModel,
    generations: tuple[int, int],
    differs: Mapping[str, int],
    limit: int,
) -> tuple[dict[str, int], list[Difference]]:
    """Count the keys whose rows differ, by table, and give the first of them in order."""
    hidden = {table.name: frozenset(table.sealed) for table in model.tables} | {PERSONAL: frozenset({"value"})}
    keys_of = model.keys
    own = {table.name: frozenset(table.columns) for table in model.tables}  # what is generated of them says no more
    counts = dict.fromkeys(differs, 0)
    shown: list[Difference] = []
    for name in (table for table, rows in differs.items() if rows and limit):
        stand, follow = (sql.Identifier(schema_of(settings, model.name, one), name) for one in generations)
        key = sql.SQL(", ").join(map(sql.Identifier, keys_of[name]))
        query = sql.SQL(
            "SELECT count(*) OVER (), to_jsonb(s)::text, to_jsonb(f)::text FROM {stand} s FULL JOIN {follow} f"
            " USING ({key}) WHERE s IS DISTINCT FROM f ORDER BY {key} LIMIT %s"
        )
        cursor.execute(query.format(stand=stand, follow=follow, key=key), (limit,))
        for count, *sides in cursor:
            counts[name] = int(count)
            one, other = (_columns(side, own.get(name)) for side in sides)
            there: Mapping[str, object] = one or other or {}
            named = {column: there[column] for column in keys_of[name]}
            shown.append(Difference(name, named, *told(one, other, hidden[name])))
    return counts, shown[:limit]


Side = Mapping[str, object] | None


def _columns(side: str | None, own: frozenset[str] | None) -> Side:
    read = json.loads(side, parse_float=str) if side else None
    return read and {name: value for name, value in read.items() if own is None or name in own}


def told(stands: Side, follows: Side, hidden: frozenset[str] = frozenset()) -> tuple[Side, Side]:
    """Give of two sides the columns that differ, without the values of those that may hold personal ones."""
    if stands is None or follows is None:
        return _covered(stands, hidden), _covered(follows, hidden)
    differ = [name for name, value in stands.items() if value != follows[name]]
    one, other = ({name: side[name] for name in differ} for side in (stands, follows))
    return _covered(one, hidden), _covered(other, hidden)


def _covered(side: Side, hidden: frozenset[str]) -> Side:
    return None if side is None else {name: "(not shown)" if name in hidden else it for name, it in side.items()}
