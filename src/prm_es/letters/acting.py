"""Retrying and discarding dead letters, each recorded with who does it and why.

A record goes to its topic-partition again, with a header that no other record has: it is decided like any other, once,
and its digest finds what became of it. The note is written first; a letter that was not answered stays open. One whose
id was answered since, for another record, is not sent.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from time import monotonic, sleep
from typing import Any, Final, Self
from uuid import uuid4

import psycopg
from kafka import KafkaProducer
from kafka.errors import MessageSizeTooLargeError
from psycopg import sql

from prm_es.dispatch import Record, digest_of
from prm_es.errors import Poison, Usage
from prm_es.letters.listing import OPEN, SELECT, PlaceKey, Row, asking, event_of, found, name_of, place_of, places
from prm_es.letters.showing import SEALED, last_result, opened_record
from prm_es.messages import Envelope, read_command
from prm_es.projections import parked
from prm_es.projections.parked import Action, Note
from prm_es.projections.registry import named
from prm_es.settings import PARTITIONS, Settings
from prm_es.store.locks import Lock, keys

CHUNK: Final = 200
MAX_NOTE: Final = 1_000
RETRY_HEADER: Final = "prm_retry"
_POLL_S: Final = 0.1
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a letter; `well` tells whether that is what was wanted."""

    letter: str
    sentence: str
    well: bool


def act(
    settings: Settings,
    letters: Sequence[str],
    action: Action,
    note: Note,
    timeout: float,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Iterator[Done]:
    """Retry or discard letters by their ids; waits up to `timeout` seconds for what a worker must answer.

    Raises Usage for an id that names none, KafkaError and errors of psycopg when a server is away: what was recorded by
    then and not answered stays open.
    """
    ids = list(dict.fromkeys(letters))
    events = [event for one in ids if (event := event_of(one)) is not None]
    with asking(settings) as connection:
        rows = [found(connection, one) for one in ids if event_of(one) is None]
    done = 0
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        yield from _discard(settings, chunk, note) if action == "discard" else _retry(settings, chunk, note, timeout)
        done += len(chunk)
        on_progress(done, len(ids))
    for model, position in events:
        yield _act_on_event(settings, model, position, action, note, timeout)
        done += 1
        on_progress(done, len(ids))


def noted(actor: str, reason: str) -> Note:
    """Make a note of who does something and why; raises Usage if either says nothing."""
    for flag, text in (("--as", actor), ("--reason", reason)):
        if not text.strip() or len(text) > MAX_NOTE or "\x00" in text:
            raise Usage(f"{flag} must say something, in at most {MAX_NOTE} characters")
    return Note(actor.strip(), reason.strip())


# Records


@dataclass(frozen=True, slots=True)
class _Retry:
    letter: str
    place: PlaceKey
    record: Record
    sent: Envelope | None

    @classmethod
    def of(cls, row: Row, record: Record) -> Self:
        headers = [(name, raw) for name, raw in record.headers if raw is not None and name != RETRY_HEADER]
        marked = replace(record, headers=[*headers, (RETRY_HEADER, uuid4().hex.encode())])
        try:
            sent = read_command(headers, record.value)
        except Poison:
            sent = None
        return cls(name_of(row), place_of(row), marked, sent)

    @property
    def key(self) -> bytes:
        return str(self.sent.subject).encode() if self.sent else b""


def _discard(settings: Settings, rows: Sequence[Row], note: Note) -> Iterator[Done]:
    with _writing(settings) as connection:
        still, closed = _still_open(connection, rows)
        values = [("discard", note.actor, note.reason, *place_of(row), None, None, None) for row in still]
        connection.cursor().executemany(_ACTION, values)
    yield from closed
    yield from (Done(name_of(row), "discarded", well=True) for row in still)


def _retry(settings: Settings, rows: Sequence[Row], note: Note, timeout: float) -> Iterator[Done]:
    with _writing(settings) as connection:
        still, closed = _still_open(connection, rows)
        retries, lost = _readied(connection, settings, still)
        values = [
            ("retry", note.actor, note.reason, *one.place, digest_of(one.record), *_named(one)) for one in retries
        ]
        connection.cursor().executemany(_ACTION, values)
    yield from (*closed, *lost)
    unsent = _send(settings, retries)
    yield from unsent
    yield from _answers(settings, [one for one in retries if one.letter not in {it.letter for it in unsent}], timeout)


_ACTION: Final = (
    "INSERT INTO dead_letter_actions"
    " (action, actor, reason, topic, partition, record_offset, digest, sent_digest, source, id)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)


def _named(one: _Retry) -> tuple[str | None, str | None]:
    return (one.sent.source, one.sent.id) if one.sent else (None, None)


def _writing(settings: Settings) -> psycopg.Connection[Any]:
    """Give a transaction of the writer in which nobody else does anything about dead letters."""
    connection = psycopg.connect(settings.dsn("writer"), row_factory=psycopg.rows.dict_row)
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", keys(settings.prefix, Lock.LETTERS))
    return connection


def _still_open(connection: psycopg.Connection[Any], rows: Sequence[Row]) -> tuple[list[Row], list[Done]]:
    now = _by_place(connection, f"{SELECT} JOIN {places('s')}", map(place_of, rows))
    still = [now[place_of(row)] for row in rows if now[place_of(row)]["state"] in OPEN]
    closed = [row for row in now.values() if row["state"] not in OPEN]
    return still, [Done(name_of(row), f"is closed: {row['state']}", well=False) for row in closed]


def _by_place(connection: psycopg.Connection[Any], query: str, wanted: Iterable[PlaceKey]) -> dict[PlaceKey, Row]:
    columns = [list(column) for column in zip(*wanted, strict=True)] or [[], [], [], []]
    return {place_of(row): row for row in connection.execute(query.encode(), columns)}


def _readied(
    connection: psycopg.Connection[Any], settings: Settings, rows: Sequence[Row]
) -> tuple[list[_Retry], list[Done]]:
    """Give what can be sent again, and why the others cannot."""
    sealed = _by_place(connection, f"{SEALED} JOIN {places('d')}", map(place_of, rows))
    retries, lost = [], []
    for row in rows:
        record = opened_record(sealed[place_of(row)])
        if row["topic"] not in settings.command_topics or row["partition"] >= PARTITIONS:
            lost.append(Done(name_of(row), f"{row['topic']} takes no commands here: it can be discarded", well=False))
        elif record is None:
            lost.append(Done(name_of(row), "its key is gone, and its bytes with it: it can be discarded", well=False))
        else:
            retries.append(_Retry.of(row, record))
    answered = _answered(connection, retries)
    said = "its id was answered since, and that stands: it can be discarded"
    lost += [Done(one.letter, said, well=False) for one in retries if _named(one) in answered]
    return [one for one in retries if _named(one) not in answered], lost


def _answered(connection: psycopg.Connection[Any], retries: Sequence[_Retry]) -> set[tuple[str, str]]:
    """Give the ids that have an outcome: what is sent under one again changes nothing."""
    sent = [one.sent for one in retries if one.sent]
    query = (
        "SELECT source, id FROM commands JOIN unnest(%s::text[], %s::text[]) AS asked (source, id) USING (source, id)"
    )
    found = connection.execute(query, ([one.source for one in sent], [one.id for one in sent]))
    return {(row["source"], row["id"]) for row in found}


def _send(settings: Settings, retries: Sequence[_Retry]) -> list[Done]:
    """Put them on their topic-partitions and give those that are too large for them; raises KafkaError."""
    if not retries:
        return []
    unsent, futures = [], []
    with closing(KafkaProducer(**settings.kafka_client, linger_ms=0, delivery_timeout_ms=30_000)) as producer:
        for one in retries:
            record = one.record
            try:
                futures.append(
                    (one, producer.send(record.topic, record.value, one.key, list(record.headers), record.partition))
                )
            except MessageSizeTooLargeError:
                unsent.append(_too_large(one))
        producer.flush()
        for one, future in futures:
            try:
                future.get(timeout=0)
            except MessageSizeTooLargeError:
                unsent.append(_too_large(one))
    return unsent


def _too_large(one: _Retry) -> Done:
    return Done(one.letter, "is too large to be sent again: it can be discarded", well=False)


def _answers(settings: Settings, retries: Sequence[_Retry], timeout: float) -> Iterator[Done]:
    """Wait until all are answered, and say how."""
    waiting = {one.place: one for one in retries}
    until = monotonic() + timeout
    while waiting:
        with asking(settings) as connection:
            now = _by_place(connection, f"{SELECT} JOIN {places('s')}", waiting)
            for place, row in now.items():
                if row["state"] not in OPEN:
                    sentence, well = last_result(connection, place)
                    yield Done(waiting.pop(place).letter, f"sent again: {sentence}", well=well)
        if waiting and monotonic() > until:
            late = f"sent again, not answered within {timeout:g} s: is a handler running?"
            yield from (Done(one.letter, late, well=False) for one in waiting.values())
            return
        if waiting:
            sleep(_POLL_S)


# Events


def _act_on_event(settings: Settings, model: str, position: int, action: Action, note: Note, timeout: float) -> Done:
    letter = f"{model}/{position}"
    done = parked.act(settings, named(model), position, action, note)
    if done.folded is None or done.waiting is None:
        return _left_to_its_worker(settings, model, position, action, timeout)
    folded = f"{done.folded} event{'s' * (done.folded != 1)} folded"
    wait = f"{done.waiting} wait{'s' * (done.waiting == 1)} behind one that cannot be" if done.waiting else ""
    sentence = ", ".join(filter(None, ("discarded" if action == "discard" else "", folded, wait)))
    return Done(letter, sentence, well=not done.waiting)


def _left_to_its_worker(settings: Settings, model: str, position: int, action: Action, timeout: float) -> Done:
    """Wait until the worker of an ordered read model has taken the event, passed it by, or parked it again."""
    letter, until = f"{model}/{position}", monotonic() + timeout
    said = "discarded, " if action == "discard" else ""
    query = sql.SQL(
        "SELECT c.position >= %s AS past, EXISTS (SELECT FROM {0}.dead_letters d WHERE d.name = g.name"
        " AND d.generation = g.generation AND d.position = %s) AS parked FROM {0}.generations g"
        " JOIN {0}.checkpoints c USING (name, generation) WHERE g.name = %s AND g.status = 'live'"
    ).format(sql.Identifier(settings.projections_schema))
    while True:
        with asking(settings) as connection:
            row: Mapping[str, Any] = connection.execute(query, (position, position, model)).fetchone() or {}
        if row.get("past"):
            return Done(letter, f"{said}its worker went on", well=True)
        if row.get("parked"):
            return Done(letter, "its worker still cannot take it", well=False)
        if monotonic() > until:
            return Done(letter, f"{said}its worker has not come to it within {timeout:g} s: does it run?", well=False)
        sleep(_POLL_S)
