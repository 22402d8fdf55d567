"""Whole lists as files. Rows go out as they come from the database: memory stays flat, however many there are."""

import io
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, Final

from psycopg2 import sql
from starlette.concurrency import run_in_threadpool

from prm_es.api import selecting
from prm_es.api.asked import Asked
from prm_es.api.lists import List
from prm_es.api.selecting import Surroundings
from prm_es.errors import Usage

CHUNK: Final = 64 * 1024
AHEAD: Final = 8  # chunks that wait for a reader who is slower than the database
ROWS: Final = 5_000  # of a row group
PATIENCE_S: Final = 60.0  # with a reader who takes nothing
BOM: Final = b"\xef\xbb\xbf"

Reading = Callable[[], AbstractContextManager[Any]]  # gives a cursor on the views
Writer = Callable[[Any, Callable[[bytes], None]], None]  # writes what a cursor gives

# A spreadsheet would run a cell that begins so as a formula.
_NEUTRAL: Final = "CASE WHEN {0} ~ '^[=+@\\t\\r-]' THEN '''' || {0} ELSE {0} END"
_CSV: Final[Mapping[str, str]] = {
    "text": _NEUTRAL,
    "text[]": _NEUTRAL.replace("{0}", "array_to_string({0}, ', ')"),
    "jsonb": "{}::text",
    "boolean": "{}::text",
    "interval": "extract(epoch FROM {})::bigint",
    "timestamptz": 'to_char({}, \'YYYY-MM-DD"T"HH24:MI:SS"Z"\')',
}
_PARQUET: Final[Mapping[str, str]] = {"jsonb": "{}::text", "interval": "extract(epoch FROM {})::bigint"}


class _Gone(Exception):  # noqa: N818
    """Nobody reads any more."""


def csv(one: List, asked: Asked, here: Surroundings, *, bom: bool) -> Writer:
    """Give what writes a list as CSV in UTF-8: COPY, so that the server writes it and we hand it on."""
    columns = {name: _CSV.get(kind, "{}") for name, kind in one.columns.items()}
    query = selecting.every_row(one, asked, here, columns)
    copy = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, HEADER)").format(query)

    def write(cursor: Any, out: Callable[[bytes], None]) -> None:  # noqa: ANN401
        sink = _Sink(out, BOM if bom else b"")
        cursor.copy_expert(copy, sink, CHUNK)
        sink.flush()

    return write


def parquet(one: List, asked: Asked, here: Surroundings) -> Writer:
    """Give what writes a list as Parquet, a row group at a time; raises Usage where pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401, ICN001, PLC0415
    except ImportError:
        raise Usage("Parquet needs pyarrow: install prm-es[parquet]") from None
    query = selecting.every_row(
        one, asked, here, {name: _PARQUET.get(kind, "{}") for name, kind in one.columns.items()}
    )

    def write(cursor: Any, out: Callable[[bytes], None]) -> None:  # noqa: ANN401
        # Held, for psycopg2 knows nothing of the transaction that the pool began; it is closed before that ends.
        with cursor.connection.cursor(name="export", withhold=True) as rows:
            rows.itersize = ROWS
            rows.execute(query)
            _write_parquet(one, rows, out)

    return write


def _write_parquet(one: List, rows: Any, out: Callable[[bytes], None]) -> None:  # noqa: ANN401
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet as pq  # noqa: PLC0415

    kinds: Mapping[str, Any] = {
        "text": pa.string(),
        "text[]": pa.list_(pa.string()),
        "jsonb": pa.string(),
        "boolean": pa.bool_(),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "interval": pa.int64(),
        "numeric": pa.decimal128(38, 8),
        "date": pa.date32(),
        "timestamptz": pa.timestamp("us", tz="UTC"),
        "uuid": pa.string(),
    }
    schema = pa.schema([(name, kinds[kind]) for name, kind in one.columns.items()])
    texts = [kind == "uuid" for kind in one.columns.values()]
    sink = _Sink(out)
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        while batch := rows.fetchmany(ROWS):
            columns = [
                pa.array([None if cell is None else str(cell) for cell in cells] if text else cells, type=kind)
                for cells, text, kind in zip(zip(*batch, strict=True), texts, schema.types, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            sink.flush()
    sink.flush()


class _Sink(io.RawIOBase):
    """Gathers what is written into chunks and hands them on."""

    def __init__(self, out: Callable[[bytes], None], begin: bytes = b"") -> None:
        self._out, self._parts, self._size, self._told = out, [begin], len(begin), 0
        self._first = True

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._told

    def write(self, data: Any) -> int:  # noqa: ANN401
        """Take some bytes; the first go out at once, so that the reader sees that something comes."""
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        self._told += len(part)
        if self._first or self._size >= CHUNK:
            self.flush()
        return len(part)

    def flush(self) -> None:
        if self._size:
            self._out(b"".join(self._parts))
            self._parts, self._size, self._first = [], 0, False


async def streamed(reading: Reading, writer: Writer, timeout_s: float) -> AsyncIterator[bytes]:
    """Give what a writer writes, in a thread of its own, while somebody takes it.

    What goes wrong before the first byte is raised; afterwards the stream breaks off, which the reader's client sees.
    """
    chunks: Queue[bytes | BaseException | None] = Queue(AHEAD)
    gone = Event()
    thread = Thread(target=_produce, args=(reading, writer, timeout_s, chunks, gone), daemon=True, name="export")
    thread.start()
    try:
        while True:
            chunk = await run_in_threadpool(_next, chunks)
            if isinstance(chunk, BaseException):
                raise chunk
            if chunk is None:
                return
            yield chunk
    finally:
        gone.set()


def _next(chunks: "Queue[bytes | BaseException | None]") -> bytes | BaseException | None:
    return chunks.get()


def _produce(
    reading: Reading, writer: Writer, timeout_s: float, chunks: "Queue[bytes | BaseException | None]", gone: Event
) -> None:
    def put(chunk: bytes | BaseException | None) -> None:
        waited = 0.0
        while not gone.is_set() and waited < PATIENCE_S:
            try:
                chunks.put(chunk, timeout=0.5)
            except Full:
                waited += 0.5
            else:
                return
        raise _Gone

    try:
        with reading() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", (f"{timeout_s:.0f}s",))
            writer(cursor, put)
        put(None)
    except _Gone:
        _end(chunks)
    except Exception as error:  # noqa: BLE001  # raised where it is waited for
        try:
            put(error)
        except _Gone:
            _end(chunks)


def _end(chunks: "Queue[bytes | BaseException | None]") -> None:
    """Let a waiting reader go on, and drop what nobody takes."""
    for _chunk in _drained(chunks):
        pass
    chunks.put_nowait(None)


def _drained(chunks: "Queue[bytes | BaseException | None]") -> Iterator[object]:
    while True:
        try:
            yield chunks.get_nowait()
        except Empty:
            return
