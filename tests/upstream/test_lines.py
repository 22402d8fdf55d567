"""Commands as lines of text: what is sent, and what is reported with its line."""

import io
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from prm_es.errors import Usage
from prm_es.messages import Actor, Envelope, Role, read_command
from prm_es.upstream.lines import MAX_BYTES, outgoing, read_lines, read_path

GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "crm",
    "type": "prm.opportunity.comment",
    "subject": str(UUID(int=1)),
    "actor": "a",
    "actorrole": "channel_manager",
    "data": {"text": "x"},
}


def line(**changes: object) -> bytes:
    return orjson.dumps({name: value for name, value in {**GOOD, **changes}.items() if value is not None}) + b"\n"


def reasons(*lines: bytes, check: bool = True) -> list[str]:
    with pytest.raises(Usage) as raised:
        read_lines(io.BytesIO(b"".join(lines)), "f.jsonl", check=check)
    return str(raised.value).splitlines()


def test_a_line_becomes_a_record_in_binary_mode_that_reads_as_the_same_command() -> None:
    (record,) = read_lines(io.BytesIO(b"\n" + line() + b"  \n"), "f")
    assert (record.aggregate, record.subject, record.name) == ("opportunity", str(UUID(int=1)), ("crm", "1"))
    assert read_command(record.headers, record.value) == record.envelope
    assert record.shown["data"] == {"text": "x"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{\n", "the value is not JSON"),
        (b"[]\n", "the value is not a JSON object"),
        (b"\xff\n", "the value is not JSON"),
        (line(id=None), "id is missing"),
        (line(subject="x"), "subject must be a UUID, the aggregate's id"),
        (line(type="prm.opportunity.nope"), "there is no command of this type"),
        (line(type="prm.nope.open"), "prm.nope.open: a type is prm.<aggregate>.<command>"),
        (line(actorrole="king"), "actorrole must be one of"),
        (line(id="2", data={"text": "x" * MAX_BYTES}), f"longer than {MAX_BYTES} bytes"),
        (line(id="0", data={"text": "other"}), "the id stands on line 1 already, with another content"),
    ],
)
def test_a_bad_line_is_reported_before_anything_is_sent(bad: bytes, reason: str) -> None:
    (found,) = reasons(line(id="0"), bad, line(id="3"))
    assert found.startswith(f"f.jsonl:2: {reason}")


def test_all_bad_lines_are_reported_but_not_without_end() -> None:
    assert len(reasons(*[b"{\n"] * 50)) == 50
    assert reasons(*[b"{\n"] * 60)[-1] == "and 10 more"


def test_the_same_command_twice_is_no_mistake() -> None:
    assert len(read_lines(io.BytesIO(line() + line()), "f")) == 2


def test_without_check_a_line_goes_as_it_stands_if_its_topic_can_be_told() -> None:
    bad = line(actorrole="king", type="prm.opportunity.nope")
    (record,) = read_lines(io.BytesIO(bad), "f", check=False)
    assert record.value == bad.strip()
    assert record.headers == (("content-type", b"application/cloudevents+json"),)
    assert (record.aggregate, record.name, record.envelope) == ("opportunity", ("crm", "1"), None)
    assert record.shown == {"line": bad.strip().decode()}
    assert reasons(b"{\n", line(type="x"), check=False) == [
        f"f.jsonl:{number}: no aggregate can be told from the type, so there is no topic to send this to"
        for number in (1, 2)
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="No such file or directory"):
        read_path(tmp_path / "nope", check=True)


def test_a_command_for_no_aggregate_has_no_record() -> None:
    sent = Envelope("s", "1", "prm.policy.load", UUID(int=1), Actor("a", Role.SYSTEM), b"{}")
    with pytest.raises(Usage, match=r"prm\.policy\.load"):
        outgoing(sent)
