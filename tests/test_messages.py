"""Reading what others wrote: every CloudEvent in either mode, and nothing but Unreadable for everything else."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_es.aggregates import catalogue
from prm_es.dispatch import canonical_content
from prm_es.errors import Poison, Unreadable
from prm_es.messages import (
    Actor,
    Envelope,
    Role,
    aggregate_id,
    binary_command,
    envelope,
    event_headers,
    read_command,
    read_event,
    recorded,
    result_headers,
    split_state,
    stored_state,
    structured_command,
)
from tests.support import STRUCTURED

SUBJECT = UUID("0b9f2c1e-6a50-5d0e-8f4e-0d6a3f9f7b11")
AT = datetime(2026, 3, 10, 12, 30, 15, 123456, tzinfo=UTC)
SENT = Envelope(
    source="crm",
    id="1",
    type="prm.partner.suspend",
    subject=SUBJECT,
    actor=Actor("carla", Role.CHANNEL_MANAGER, on_behalf_of="dora"),
    data=b'{"reason":"unpaid"}',
    time=AT,
    correlation_id="c-1",
    causation_id="p-1",
    expected_version=3,
)
ATTRIBUTES: dict[str, Any] = {
    name: value for name, value in structured_command(SENT).items() if name not in ("data", "datacontenttype")
}


def structured(**changes: Any) -> Envelope:
    """Read the command in structured mode with some attributes changed; None leaves one out."""
    content = {**ATTRIBUTES, "data": {"reason": "unpaid"}, **changes}
    value = json.dumps({name: given for name, given in content.items() if given is not None})
    return read_command(STRUCTURED, value.encode())


def binary(**changes: Any) -> Envelope:
    """Read the command in binary mode with some attributes changed; None leaves one out."""
    attributes = {**ATTRIBUTES, **changes}
    headers = [(f"ce_{name}", str(given).encode()) for name, given in attributes.items() if given is not None]
    return read_command([*headers, ("content-type", b"application/json")], SENT.data)


def test_both_content_modes_are_read_to_the_same_envelope() -> None:
    assert structured() == binary() == SENT


def test_a_value_without_any_header_is_read_as_structured() -> None:
    assert read_command((), json.dumps({**ATTRIBUTES, "data": {"reason": "unpaid"}}).encode()) == SENT


@pytest.mark.parametrize(
    "content_type", ["Application/CloudEvents+JSON", "application/cloudevents+json; charset=utf-8"]
)
def test_the_content_type_of_structured_mode_is_recognised_however_it_is_written(content_type: str) -> None:
    value = json.dumps({**ATTRIBUTES, "data": {"reason": "unpaid"}}).encode()
    assert read_command((("Content-Type", content_type.encode()),), value) == SENT


def test_names_of_headers_may_be_written_in_capitals() -> None:
    _key, headers, value = binary_command(SENT)
    assert read_command([(name.upper(), text) for name, text in headers], value) == SENT


def test_a_time_is_read_in_utc_whatever_its_offset() -> None:
    assert structured(time="2026-03-10T09:30:15.123456-03:00") == SENT
    assert structured(time="2026-03-10T12:30:15.123456Z") == SENT


def test_unknown_extension_attributes_are_ignored() -> None:
    assert structured(traceparent="00-1", partitionkey="x") == binary(traceparent="00-1") == SENT


def test_what_may_be_left_out_may_be_left_out() -> None:
    optional = ("time", "onbehalfof", "correlationid", "causationid", "expectedversion", "actororg")
    actor = replace(SENT.actor, on_behalf_of=None)
    bare = replace(SENT, time=None, correlation_id=None, causation_id=None, expected_version=None, actor=actor)
    assert structured(**dict.fromkeys(optional)) == binary(**dict.fromkeys(optional)) == bare


def test_structured_data_may_be_left_out_and_is_then_an_empty_object() -> None:
    assert read_command(STRUCTURED, json.dumps(ATTRIBUTES).encode()).data == b"{}"


MALFORMED = [
    *((name, None) for name in ("source", "id", "type", "subject", "actor", "actorrole")),
    *((name, "   ") for name in ("source", "id", "type", "actor", "actororg", "onbehalfof", "correlationid")),
    *((name, "x" * 256) for name in ("source", "id", "type", "actor", "actororg", "causationid", "time")),
    *((name, "a\x00b") for name in ("source", "id", "type", "subject", "actor", "correlationid")),
    ("specversion", "0.3"),
    ("subject", "not-a-uuid"),
    ("subject", str(SUBJECT).upper()),
    ("subject", SUBJECT.hex),
    ("subject", f"{{{SUBJECT}}}"),
    ("actorrole", "king"),
    ("time", "yesterday"),
    ("time", "2026-03-10T12:00:00"),
    ("time", "0001-01-01T00:00:00+14:00"),
    ("time", "9999-12-31T23:59:59-14:00"),
    ("expectedversion", "-1"),
    ("expectedversion", "1.5"),
    ("expectedversion", "1e3"),
    ("expectedversion", "٣"),
    ("expectedversion", "9" * 10),
]


@pytest.mark.parametrize(("name", "value"), MALFORMED)
@pytest.mark.parametrize("read", [structured, binary])
def test_a_malformed_attribute_is_named_by_the_code(read: Any, name: str, value: str | None) -> None:
    with pytest.raises(Unreadable) as refused:
        read(**{name: value})
    assert refused.value.code == f"message.{name}"
    assert refused.value.sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", 7),
        ("source", ["crm"]),
        ("type", {"a": 1}),
        ("actor", True),
        ("subject", 1),
        ("expectedversion", True),
        ("expectedversion", 1.0),
        ("expectedversion", -1),
        ("expectedversion", 10**9),
        ("expectedversion", 10**40),
        ("expectedversion", [1]),
    ],
)
def test_a_structured_attribute_of_another_json_type_is_named_by_the_code(name: str, value: object) -> None:
    with pytest.raises(Unreadable) as refused:
        structured(**{name: value})
    assert refused.value.code == f"message.{name}"


BINARY = (("ce_specversion", b"1.0"), ("content-type", b"application/json"))
DEEP = 600  # deeper than JSON can be written again, less deep than it can be read


@pytest.mark.parametrize(
    ("code", "headers", "value"),
    [
        ("message.empty", STRUCTURED, None),
        ("message.empty", BINARY, None),
        ("message.not_json", STRUCTURED, b""),
        ("message.not_json", STRUCTURED, b"\xff\xfe"),
        ("message.not_json", STRUCTURED, b'{"id": NaN}'),
        ("message.not_json", STRUCTURED, b'{"id": 1e999}'),
        ("message.not_json", STRUCTURED, b'{"id": "\\ud800"}'),
        ("message.not_json", STRUCTURED, b"[" * 5000 + b"]" * 5000),
        ("message.not_object", STRUCTURED, b"[]"),
        ("message.not_object", STRUCTURED, b"null"),
        ("message.data_base64", STRUCTURED, b'{"specversion": "1.0", "data_base64": "e30="}'),
        ("message.not_cloudevent", (("content-type", b"text/plain"),), b"{}"),
        ("message.not_cloudevent", (("content-type", b"\xff"),), b"{}"),
        ("message.not_utf8", (*BINARY, ("ce_id", b"\xff")), b"{}"),
        ("message.specversion", (("ce_specversion", b""),), b"{}"),
        ("message.specversion", STRUCTURED, b"{}"),
    ],
)
def test_what_is_no_cloudevent_gives_its_own_code(
    code: str, headers: tuple[tuple[str, bytes]], value: bytes | None
) -> None:
    with pytest.raises(Unreadable) as refused:
        read_command(headers, value)
    assert refused.value.code == code


@pytest.mark.parametrize("depth", [254, 255, DEEP, 1020])
def test_json_too_deep_to_be_written_again_is_unreadable(depth: int) -> None:
    data = b'{"reason":' + b"[" * depth + b"]" * depth + b"}"
    value = json.dumps(ATTRIBUTES)[:-1].encode() + b',"data":' + data + b"}"
    with pytest.raises(Unreadable) as refused:
        canonical_content(read_command(STRUCTURED, value))
    assert refused.value.code == "message.too_deep"
    with pytest.raises(Unreadable) as refused:
        canonical_content(replace(SENT, data=data))
    assert refused.value.code == "message.too_deep"


NAMES = st.sampled_from(["content-type", *(f"ce_{name}" for name in ATTRIBUTES), "ce_", "CE_ID", "x", "\udcff"])
UTF8 = st.text().map(lambda text: text.encode("utf-8", "replace"))
HEADERS = st.lists(st.tuples(NAMES, st.one_of(st.none(), st.binary(max_size=30), UTF8)), max_size=12)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=10,
)


@given(
    HEADERS,
    st.one_of(st.none(), st.binary(), JSON.map(lambda value: json.dumps(value).encode())),
)
def test_arbitrary_bytes_are_read_or_unreadable(headers: Any, value: bytes | None) -> None:
    with suppress(Poison):
        sent = read_command(headers, value)
        canonical_content(sent)
        catalogue.parse_command(sent.type, sent.data)


@given(st.dictionaries(st.sampled_from([*ATTRIBUTES, "data", "other"]), st.one_of(JSON, st.just("1"))))
def test_a_structured_event_with_arbitrary_attributes_is_read_or_unreadable(changes: dict[str, Any]) -> None:
    with suppress(Unreadable):
        read_command(STRUCTURED, json.dumps({**ATTRIBUTES, **changes}).encode())


TEXTS = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=255)
    .filter(str.strip)
)  # fmt: skip
ACTORS = st.builds(
    Actor, TEXTS, st.sampled_from(Role), st.one_of(st.just("vendor"), TEXTS), st.one_of(st.none(), TEXTS)
)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
SENDABLE = st.builds(
    Envelope,
    source=TEXTS,
    id=TEXTS,
    type=TEXTS,
    subject=st.uuids(),
    actor=ACTORS,
    data=st.just(b'{"reason":"\xc3\xa9"}'),
    time=st.one_of(st.none(), TIMES),
    correlation_id=st.one_of(st.none(), TEXTS),
    causation_id=st.one_of(st.none(), TEXTS),
    expected_version=st.one_of(st.none(), st.integers(0, 10**9 - 1)),
)


@given(SENDABLE)
def test_a_command_is_read_as_it_was_written_in_both_modes(sent: Envelope) -> None:
    key, headers, value = binary_command(sent)
    assert key.decode() == str(sent.subject)
    assert read_command(headers, value) == sent
    assert read_command(STRUCTURED, json.dumps(structured_command(sent)).encode()) == sent


@given(SENDABLE, TIMES, TIMES, st.sampled_from(['{"a":{",\\"data\\":":1}}', '{"text":",\\"data\\":{}"}', "{}"]))
def test_a_stored_event_is_split_where_its_data_begins(
    cause: Envelope, at: datetime, recorded_at: datetime, data: str
) -> None:
    tricky = replace(cause, id=',"data":', actor=replace(cause.actor, id=f'x,"data":"{{}}\\{cause.actor.id}'[:255]))
    state = stored_state(at, recorded_at, tricky, data.encode())
    assert json.loads(state)["data"] == json.loads(data)
    meta, kept = split_state(state)
    assert kept == data.encode()
    assert meta["actor"] == tricky.actor.id
    event = recorded(5, tricky.subject, 2, "prm.partner.suspended.v1", state)
    assert (event.actor, event.command_source, event.command_id) == (tricky.actor, tricky.source, tricky.id)
    assert (event.at, event.recorded_at, event.correlation_id) == (at, recorded_at, tricky.correlation_id)
    assert event.aggregate == "partner"


def test_an_event_is_read_from_its_record_as_it_was_published() -> None:
    state = stored_state(AT, AT, SENT, b'{"reason":"~1"}')
    meta, data = split_state(state)
    chain = {"sequence": "9", "previous": "4", "aggregateversion": "2", "storeid": "s"}
    headers = event_headers("e", "prm.partner.suspended.v1", SUBJECT, meta, chain)
    published = read_event(headers, data)
    assert published.event == recorded(9, SUBJECT, 2, "prm.partner.suspended.v1", state)
    assert (published.store_id, published.previous) == ("s", 4)


def test_a_result_names_the_command_that_it_answers() -> None:
    headers = dict(result_headers("accepted", SENT))
    assert headers["ce_type"] == b"prm.command.accepted"
    assert (headers["ce_commandsource"], headers["ce_causationid"]) == (b"crm", b"1")
    assert headers["ce_correlationid"] == b"c-1"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"time": None}, True),
        ({"correlation_id": "other"}, True),
        ({"causation_id": None}, True),
        ({"data": b' { "reason" : "unpaid" } '}, True),
        ({"data": b'{"reason":"\\u0075npaid"}'}, True),
        ({"actor": replace(SENT.actor, on_behalf_of=None)}, True),
        ({"data": b'{"reason":"paid"}'}, False),
        ({"type": "prm.partner.terminate"}, False),
        ({"subject": UUID(int=1)}, False),
        ({"actor": replace(SENT.actor, id="dora")}, False),
        ({"actor": replace(SENT.actor, role=Role.VENDOR_ADMIN)}, False),
        ({"actor": replace(SENT.actor, org="other")}, False),
        ({"expected_version": 4}, False),
    ],
)
def test_what_makes_a_command_the_same_command(change: dict[str, Any], same: bool) -> None:
    assert (canonical_content(replace(SENT, **change)) == canonical_content(SENT)) is same


def test_the_order_of_keys_does_not_make_another_command() -> None:
    one, other = (
        replace(SENT, data=data) for data in (b'{"a":{"x":1,"y":2},"b":[1,2]}', b'{"b":[1,2],"a":{"y":2,"x":1}}')
    )
    swapped = replace(SENT, data=b'{"a":{"x":1,"y":2},"b":[2,1]}')
    assert canonical_content(one) == canonical_content(other) != canonical_content(swapped)


def test_an_aggregate_id_follows_from_three_texts_for_ever() -> None:
    assert str(aggregate_id("opportunity", "crm", "1C1I7A6R")) == "0bf48224-cf70-59a6-890c-fac725909922"
    assert aggregate_id("partner", "crm", "1") != aggregate_id("opportunity", "crm", "1")


def test_envelope_refuses_a_missing_subject_before_it_looks_at_the_actor() -> None:
    with pytest.raises(Unreadable, match="subject is missing"):
        envelope({"specversion": "1.0", "source": "s", "id": "i", "type": "t"}, b"{}")
