"""An import that was interrupted goes on where it was: what is answered is not sent again, its outcomes still count."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from kafka import KafkaConsumer, TopicPartition

from prm_es.consumers.commands import work
from prm_es.messages import Envelope
from prm_es.settings import PARTITIONS, Settings
from prm_es.upstream.mapping import resolve
from prm_es.upstream.sending import send
from tests.support import changed, command, partner, rows
from tests.test_cli import environment, in_process
from tests.workers import Crew, until

from .test_mapping import FILES, planned


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "exports"
    folder.mkdir()
    for name, file in resolve("crm_export").files.items():
        (folder / file.file).write_text(FILES[name], encoding="utf-8")
    return folder


@contextmanager
def handling(settings: Settings) -> Iterator[None]:
    stop = threading.Event()
    handler = threading.Thread(target=work, args=(settings, stop))
    handler.start()
    yield
    stop.set()
    handler.join()


def places(settings: Settings) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic in settings.command_topics for number in range(PARTITIONS)]


@pytest.fixture
def lying(migrated: Settings) -> Iterator[KafkaConsumer]:
    consumer = KafkaConsumer(**migrated.kafka_client, group_id=None)
    consumer.assign(places(migrated))
    for place in places(migrated):
        consumer.position(place)  # until the metadata are there
    yield consumer
    consumer.close()


def records(settings: Settings, consumer: KafkaConsumer) -> dict[str, int]:
    """Count the records of each command topic."""
    ends = consumer.end_offsets(places(settings))
    return {topic: sum(end for one, end in ends.items() if one.topic == topic) for topic in settings.command_topics}


def answered(settings: Settings) -> int:
    return len(rows(settings, "SELECT 1 FROM commands"))


def test_an_import_that_was_killed_half_way_sends_the_rest_only(
    migrated: Settings, folder: Path, tmp_path: Path, lying: KafkaConsumer
) -> None:
    arguments = ("import", "--mapping", "crm_export", str(folder))
    commands = planned().commands
    partners = [sent for sent in commands if "partner" in sent.type]
    assert 0 < len(partners) < len(commands)
    topic = migrated.command_topic("partner")
    with Crew(migrated, tmp_path) as crew:
        client = crew.start(*arguments)  # nobody handles: it waits for the partners before it sends what names them
        until(lambda: records(migrated, lying)[topic] == len(partners), "the partners are sent")
        client.kill()
    assert sum(records(migrated, lying).values()) == len(partners)
    with handling(migrated):
        until(lambda: answered(migrated) == len(partners), "what was sent is answered")
        again = in_process(environment(migrated), *arguments)
        assert again.code == 0, again.err
        assert f"{len(partners)} of {len(commands)} answered before; going on" in again.err
        assert f"{len(commands) - len(partners)} sent, {len(commands)} accepted, 0 refused" in again.err
        assert answered(migrated) == sum(records(migrated, lying).values()) == len(commands)

        whole = in_process(environment(migrated), *arguments)
        assert f"{len(commands)} of {len(commands)} answered before; nothing is left to send" in whole.err
        assert f"0 sent, {len(commands)} accepted, 0 refused" in whole.err
        assert sum(records(migrated, lying).values()) == len(commands)

        file = folder / resolve("crm_export").files["sales_teams"].file
        file.write_text(file.read_text().replace("Central", "East"), encoding="utf-8")
        other = in_process(environment(migrated), *arguments)
        assert other.code == 1
        assert "command.id_reused" in other.err
        assert f"{len(commands) - 1} of {len(commands)} answered before; going on" in other.err


def resumed(settings: Settings, *commands: Envelope) -> tuple[tuple[int, ...], list[str]]:
    report = send(settings, commands, wait=True, timeout=30, on_resume=lambda _before, _total: None)
    counts = (report.before, report.sent, report.accepted, report.refused, report.unanswered)
    return counts, [refusal["code"] for refusal in report.refusals]


def test_outcomes_from_before_are_told_as_the_first_time(migrated: Settings) -> None:
    good, bad = partner(), command("partner.invite", uuid4(), {})
    with handling(migrated):
        assert resumed(migrated, good, bad) == ((0, 2, 1, 1, 0), ["command.invalid"])
        assert resumed(migrated, good, bad) == ((2, 0, 1, 1, 0), ["command.invalid"])
        late = replace(good, correlation_id="later", data=json.dumps(json.loads(good.data), indent=2).encode())
        assert resumed(migrated, late) == ((1, 0, 1, 0, 0), [])
        other = changed(good, legal_name="Another")
        assert resumed(migrated, other, bad) == ((1, 1, 0, 2, 0), ["command.invalid", "command.id_reused"])


def test_without_a_store_to_ask_everything_is_sent_again(migrated: Settings) -> None:
    sent = partner()
    kafka_alone = migrated.model_copy(update={"postgres": ""})
    with handling(migrated):
        assert resumed(kafka_alone, sent)[0] == (0, 1, 1, 0, 0)
        assert resumed(kafka_alone, sent)[0] == (0, 1, 1, 0, 0)
