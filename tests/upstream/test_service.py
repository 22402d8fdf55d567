"""What senders make, through the real command handler: an import twice, and a part of the made-up channel."""

import threading
from collections.abc import Iterator, Sequence
from datetime import date
from uuid import UUID

import psycopg
import pytest

from prm_es.consumers.commands import work
from prm_es.messages import Envelope
from prm_es.settings import Settings
from prm_es.upstream.demo import scenario
from prm_es.upstream.sending import send, send_one

from .folding import Fold
from .test_mapping import planned


@pytest.fixture(scope="module")
def handled(migrated: Settings) -> Iterator[Settings]:
    stop = threading.Event()
    handler = threading.Thread(target=work, args=(migrated, stop))
    handler.start()
    yield migrated
    stop.set()
    handler.join()


def events(settings: Settings) -> int:
    with psycopg.connect(settings.dsn("owner")) as connection:
        row = connection.execute("SELECT last_position FROM commits ORDER BY number DESC LIMIT 1").fetchone()
    assert row is not None
    return int(row[0])


def test_an_import_sent_twice_changes_nothing(handled: Settings) -> None:
    commands = planned().commands
    first = send(handled, commands, wait=True, timeout=60)
    assert (first.accepted, first.refusals) == (8, [])
    written = send_one(handled, commands[0], timeout=30)
    position = events(handled)
    again = send(handled, planned().commands, wait=True, timeout=60)
    assert (again.accepted, again.refusals) == (8, [])
    assert send_one(handled, commands[0], timeout=30) == written
    assert events(handled) == position > 0


def whole_stories(commands: Sequence[Envelope], share: int) -> list[Envelope]:
    """Give the partners and one of so many stories, each with all that its commands wait for or are waited for by."""
    subjects = {command.id: command.subject for command in commands}
    heads: dict[UUID, UUID] = {}

    def head(one: UUID) -> UUID:
        while (above := heads.get(one, one)) != one:
            one = above
        return one

    partners = {command.subject for command in commands if command.type.startswith("prm.partner.")}
    for command in commands:
        cause = subjects.get(command.causation_id or "", command.subject)
        if not {cause, command.subject} & partners:
            first, last = sorted((head(cause), head(command.subject)))
            heads[last] = first
    return [one for one in commands if one.subject in partners or head(one.subject).int % share == 0]


def test_the_service_decides_the_made_up_channel_as_the_fold_does(handled: Settings) -> None:
    commands = whole_stories(scenario(7, date(2026, 6, 30)), 12)
    assert 2000 < len(commands) < 8000
    fold = Fold().take(commands)
    report = send(handled, commands, wait=True, timeout=60)
    assert report.accepted == fold.accepted
    assert {refusal["command"]["id"] for refusal in report.refusals} == {sent.id for sent, _ in fold.refused}
