"""Commands on their way from HTTP to the command topics, and their outcomes as the store has them."""

from contextlib import ExitStack
from threading import Lock
from typing import cast

import orjson
from kafka import KafkaProducer

from prm_es.dispatch import canonical_content
from prm_es.messages import Actor, Envelope
from prm_es.settings import Settings
from prm_es.store.store import Store
from prm_es.upstream.lines import outgoing
from prm_es.upstream.results import Place
from prm_es.upstream.sending import producer_of, publish

Name = tuple[str, str]  # source and id


class Door:
    """Publishes commands and looks for their outcomes in the store."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._open = ExitStack()
        self._producer: KafkaProducer | None = None
        self._store: Store | None = None

    def send(self, sent: Envelope) -> Place:
        """Publish a command and give its place, once the brokers have it; raises Unavailable."""
        (place,) = publish(self._with_producer(), self._settings, [outgoing(sent)])
        return place

    def outcome(self, sent: Envelope, place: Place) -> bytes | None:
        """Give the recorded outcome of a command that lies at a place, as it was recorded; None if there is none yet.

        The first outcome of the same id counts only if it was of the same content.
        """
        store = self._with_store()
        name = (sent.source, sent.id)
        known = store.responses({name: canonical_content(sent)})
        return known.get(name) or _at(store, name, place)

    def outcome_of(self, name: Name, who: Actor) -> bytes | None:
        """Give the recorded outcome of a command that `who` has sent, by source and id."""
        with self._with_store().reading() as connection:
            row = connection.execute(
                "SELECT response FROM commands"
                " WHERE source = %s AND id = %s AND actor = %s AND actor_role = %s AND actor_org = %s",
                (*name, who.id, who.role.value, who.org),
            ).fetchone()
        return row["response"] if row else None

    def close(self) -> None:
        """Let go of the servers."""
        self._open.close()

    def _with_producer(self) -> KafkaProducer:
        with self._lock:
            if self._producer is None:
                self._producer = self._open.enter_context(producer_of(self._settings))
            return self._producer

    def _with_store(self) -> Store:
        with self._lock:
            if self._store is None:
                self._store = self._open.enter_context(Store(self._settings, "auditor", pool_size=4))
            return self._store


def _at(store: Store, name: Name, place: Place) -> bytes | None:
    """Give what is recorded of the very record at a place: that its id was another command's, or that it is dead."""
    with store.reading() as connection:
        reused = connection.execute(
            "SELECT response FROM reused_ids"
            " WHERE source = %s AND id = %s AND topic = %s AND partition = %s AND record_offset = %s",
            (*name, *place),
        ).fetchone()
        if reused:
            return cast("bytes", reused["response"])
        dead = connection.execute(
            "SELECT code, sentence FROM dead_letters WHERE topic = %s AND partition = %s AND record_offset = %s"
            " ORDER BY recorded_at DESC LIMIT 1",
            place,
        ).fetchone()
    return _dead(dead["code"], dead["sentence"]) if dead else None


def _dead(code: str, sentence: str) -> bytes:
    return orjson.dumps({"outcome": "dead_lettered", "code": code, "message": sentence, "errors": []})
