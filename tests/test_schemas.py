"""The published contract: what is committed is what the code says, is valid, and breaks nobody."""

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from prm_es import messages
from prm_es.aggregates import opportunity as o
from prm_es.aggregates import partner as p
from prm_es.aggregates.base import Command, Refused
from prm_es.aggregates.catalogue import COMMANDS, EVENTS, parse_command
from prm_es.aggregates.fields import GivenContact, GivenCustomer, GivenMoney
from prm_es.errors import Unreadable
from prm_es.schemas import documents, drift, generate, read
from prm_es.schemas.compatibility import incompatibilities

COMMITTED = Path(__file__).parents[1] / "schemas"
MADE = documents()
SCHEMAS = {path: json.loads(text) for path, text in MADE.items() if path.endswith(".json")}
ASYNCAPI: dict[str, Any] = yaml.safe_load(MADE["asyncapi.yaml"])
ANY_ID = UUID("0b8f4a52-7c1d-4a55-9f0e-3d2c1b0a9f8e")


def check(schema: dict[str, Any], instance: Any) -> None:
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(instance)


# What is committed


def test_the_committed_schemas_are_what_the_code_says() -> None:
    assert drift(COMMITTED) == []


def test_nothing_breaks_those_who_build_on_the_committed_schemas() -> None:
    assert incompatibilities(read(COMMITTED), MADE) == []


def test_generating_mends_drift_and_removes_what_is_gone(tmp_path: Path) -> None:
    assert generate(tmp_path) == len(MADE)
    (tmp_path / "commands" / "prm.partner.dance.json").write_text("{}")
    (tmp_path / "result.json").write_text("{}")
    (tmp_path / "asyncapi.yaml").unlink()
    (tmp_path / "openapi.json").write_text("{}")
    assert drift(tmp_path) == [
        "asyncapi.yaml: missing",
        "commands/prm.partner.dance.json: no longer generated",
        "result.json: differs",
    ]
    generate(tmp_path)
    assert drift(tmp_path) == []
    assert (tmp_path / "openapi.json").exists()


def test_the_same_code_gives_the_same_bytes() -> None:
    assert documents() == MADE
    assert all(text.endswith("\n") and not text.endswith("\n\n") for text in MADE.values())


# What they say


@pytest.mark.parametrize("path", SCHEMAS)
def test_every_schema_is_valid_and_says_what_it_is(path: str) -> None:
    schema = SCHEMAS[path]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert schema["title"]
    assert schema["description"]
    assert not set(_keywords(schema)) & {"ge", "gt", "le", "lt", "max_digits", "decimal_places"}


def _keywords(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (key for key in node if key != "properties")
        yield from (key for part in node.values() for key in _keywords(part))
    if isinstance(node, list):
        yield from (key for part in node for key in _keywords(part))


def test_every_message_has_a_schema_with_an_id_of_its_own() -> None:
    assert {path for path in SCHEMAS if path.startswith("commands/")} == {f"commands/{wire}.json" for wire in COMMANDS}
    assert {path for path in SCHEMAS if path.startswith("events/")} == {f"events/{wire}.json" for wire in EVENTS}
    assert len({schema["$id"] for schema in SCHEMAS.values()}) == len(SCHEMAS)


def test_sealed_fields_of_events_are_tokens_and_nothing_else() -> None:
    schema = SCHEMAS["events/prm.opportunity.commented.v1.json"]
    token = "~1.6a1f0c1e93a44a0e8a550d7c5b1f2e3d.AAAAAAAAAAAA"
    check(schema, {"text": token})
    with pytest.raises(ValidationError):
        check(schema, {"text": "Good news"})
    contact = SCHEMAS["events/prm.opportunity.opened.v1.json"]["$defs"]["Contact"]["properties"]
    assert all("token" in contact[name]["description"] for name in ("name", "email", "phone"))
    assert "description" not in contact["title"]


def test_the_table_names_every_command() -> None:
    assert all(f"| [`{wire}`](commands/{wire}.json) | " in MADE["commands.md"] for wire in COMMANDS)


# Envelopes


SENT = messages.Envelope(
    source="crm",
    id="c-1",
    type="prm.opportunity.comment",
    subject=ANY_ID,
    actor=messages.Actor("ana", messages.Role.INTEGRATION, on_behalf_of="bruno"),
    data=b'{"text":"Good news"}',
    correlation_id="k",
    causation_id="m",
    expected_version=3,
)


def headers_schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = ASYNCAPI["components"]["schemas"][name]
    Draft202012Validator.check_schema(schema)
    return {**schema, "additionalProperties": False}


def texts(headers: messages.Headers) -> dict[str, str]:
    return {name: raw.decode() for name, raw in headers}


def test_a_command_fits_in_both_modes() -> None:
    _key, headers, _value = messages.binary_command(SENT)
    check(headers_schema("command-headers"), texts(headers))
    check({**SCHEMAS["command.json"], "additionalProperties": False}, messages.structured_command(SENT))
    with pytest.raises(ValidationError):
        check(SCHEMAS["command.json"], {**messages.structured_command(SENT), "actorrole": "king"})


@pytest.mark.parametrize("leave_out", ["specversion", "id", "source", "type", "subject", "actor", "actorrole"])
def test_what_the_schema_requires_the_door_requires(leave_out: str) -> None:
    whole = messages.structured_command(SENT)
    sent = {name: value for name, value in whole.items() if name != leave_out}
    with pytest.raises(ValidationError):
        check(SCHEMAS["command.json"], sent)
    with pytest.raises(Unreadable):
        messages.read_command([], json.dumps(sent).encode())
    assert messages.read_command([], json.dumps(whole).encode()) == SENT


def test_an_event_has_the_headers_that_the_publisher_writes() -> None:
    state = messages.stored_state(
        datetime(2026, 3, 10, tzinfo=UTC),
        datetime(2026, 3, 11, tzinfo=UTC),
        SENT,
        b"{}",
    )
    meta, _data = messages.split_state(state)
    chain = {"sequence": "9", "previous": "0", "aggregateversion": "2", "storeid": str(ANY_ID)}
    headers = messages.event_headers(f"{ANY_ID}/2", "prm.opportunity.commented.v1", ANY_ID, meta, chain)
    check(headers_schema("event-headers"), texts(headers))


@pytest.mark.parametrize("outcome", ["accepted", "refused"])
def test_a_result_has_the_headers_that_the_handler_writes(outcome: str) -> None:
    check(headers_schema("result-headers"), texts(messages.result_headers(outcome, SENT)))


# AsyncAPI


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (part for key, part in node.items() if key == "$ref")
        yield from (reference for part in node.values() for reference in _references(part))
    if isinstance(node, list):
        yield from (reference for part in node for reference in _references(part))


def _resolved(reference: str) -> Any:
    if reference.startswith("./"):
        return SCHEMAS[reference.removeprefix("./")]
    node: Any = ASYNCAPI
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_every_reference_of_the_asyncapi_document_resolves() -> None:
    references = set(_references(ASYNCAPI))
    assert references
    assert all(_resolved(reference) for reference in references)


def test_the_asyncapi_document_has_every_message_on_its_topic() -> None:
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    channels = {channel["address"]: set(channel["messages"]) for channel in ASYNCAPI["channels"].values()}
    for wire in COMMANDS:
        assert wire in channels[f"prm.commands.{wire.split('.')[1]}"]
    published = {wire for wire in EVENTS if not wire.startswith(("prm.policy.", "prm.person."))}
    assert {wire for topic, held in channels.items() if topic.startswith("prm.events.") for wire in held} == published
    used = {operation["channel"]["$ref"].rpartition("/")[2] for operation in ASYNCAPI["operations"].values()}
    assert used == set(ASYNCAPI["channels"])


# What is accepted fits

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=60).filter(
    lambda text: text.strip() == text
)
days = st.dates(date(2000, 1, 1), date(2100, 1, 1))
money = st.builds(
    GivenMoney,
    amount=st.decimals(0, 10**12, places=2, allow_nan=False, allow_infinity=False),
    currency=st.sampled_from(["BRL", "USD", "EUR"]),
)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


contacts = st.builds(
    GivenContact,
    name=words,
    email=optional(st.sampled_from(["bia@sul.example", "x+y@a.b"])),
    phone=optional(st.sampled_from(["+55 51 99999-0000", "12345"])),
    title=optional(words),
)
customers = st.builds(GivenCustomer, name=words, country=optional(st.sampled_from(["BR", "US"])), city=optional(words))
next_actions = st.builds(o.GivenNextAction, text=words, due_on=days, owner=optional(words))
products = st.builds(
    o.GivenProduct,
    line=words,
    name=optional(words),
    quantity=optional(st.decimals("0.001", 10**9, places=3, allow_nan=False, allow_infinity=False)),
)
opens: st.SearchStrategy[Command] = st.builds(
    o.Open,
    partner_id=st.uuids(),
    name=optional(words),
    customer=optional(customers),
    contact=optional(contacts),
    products=st.lists(products, max_size=3).map(tuple),
    amount=optional(money),
    expected_close_on=optional(days),
    next_action=optional(next_actions),
    stage=st.sampled_from(["prospect", "committed", "won"]),
    deal_type=st.sampled_from([None, "new", "renewal"]),
)
splits: st.SearchStrategy[Command] = st.builds(
    o.SetCreditSplit,
    type=st.sampled_from(["sourcing", "revenue"]),
    shares=st.lists(
        st.builds(o.GivenShare, partner_id=st.uuids(), percent=st.decimals("0.01", 100, places=2, allow_nan=False)),
        min_size=1,
        max_size=4,
    ).map(tuple),
)
goals: st.SearchStrategy[Command] = st.builds(
    p.SetGoal,
    goal_id=st.uuids(),
    metric=st.sampled_from(["won_amount", "won_count"]),
    period=st.sampled_from(["2026", "2026-Q4", "2026-11"]),
    target=st.decimals("0.0001", 10**13, places=4, allow_nan=False),
    currency=st.sampled_from([None, "BRL"]),
    distribution=st.lists(st.decimals(0, 100, places=2, allow_nan=False), max_size=12).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(opens | splits | goals)
def test_what_the_door_accepts_the_schema_accepts(command: Command) -> None:
    wire = f"prm.{command.NAME}"
    text = command.model_dump_json()
    assert not isinstance(parse_command(wire, text.encode()), Refused)
    check(SCHEMAS[f"commands/{wire}.json"], json.loads(text))


@pytest.mark.parametrize(
    ("wire", "data"),
    [
        ("prm.opportunity.comment", {}),
        ("prm.opportunity.comment", {"text": ""}),
        ("prm.opportunity.comment", {"text": "a", "mood": "good"}),
        ("prm.opportunity.comment", {"text": "a", "visibility": "public"}),
        ("prm.opportunity.win", {"final_amount": {"amount": "-1", "currency": "BRL"}}),
        ("prm.opportunity.win", {"final_amount": {"amount": -1, "currency": "BRL"}}),
        ("prm.opportunity.win", {"final_amount": {"amount": "ten", "currency": "BRL"}}),
        ("prm.opportunity.win", {"final_amount": {"amount": 10, "currency": "brl"}}),
        ("prm.opportunity.win", {"closed_on": 20260310}),
        ("prm.opportunity.win", {"closed_on": "2026-13-01"}),
        ("prm.partner.set_capacity", {"open_leads": 1.5}),
        ("prm.partner.set_goal", {"goal_id": "1", "metric": "won_count", "period": "2026", "target": 1}),
        ("prm.opportunity.change_stage", {"stage": "won"}),
    ],
)
def test_what_the_schema_refuses_the_door_refuses(wire: str, data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        check(SCHEMAS[f"commands/{wire}.json"], data)
    assert isinstance(parse_command(wire, json.dumps(data).encode()), Refused)


# What breaks others, and what does not

Change = Callable[[dict[str, Any]], Any]
OPEN, OPENED = "commands/prm.opportunity.open.json", "events/prm.opportunity.opened.v1.json"
PROPERTIES = "properties"


def after(path: str, change: Change) -> list[str]:
    schema = copy.deepcopy(SCHEMAS[path])
    change(schema)
    return incompatibilities(MADE, {**MADE, path: json.dumps(schema)})


def rename(schema: dict[str, Any]) -> None:
    schema[PROPERTIES]["proprietor"] = schema[PROPERTIES].pop("owner")


def put(name: str, field: dict[str, Any]) -> Change:
    return lambda schema: schema[PROPERTIES].update({name: field})


def inside(definition: str, change: Change) -> Change:
    return lambda schema: change(schema["$defs"][definition])


def need(name: str) -> Change:
    return lambda schema: schema["required"].append(name)


def no_enum_value(schema: dict[str, Any]) -> None:
    schema[PROPERTIES]["stage"]["enum"].remove("lost")


BREAKING_COMMAND: list[tuple[Change, str]] = [
    (lambda schema: schema[PROPERTIES].pop("note"), "prm.opportunity.open: note was removed"),
    (rename, "prm.opportunity.open: owner was removed"),
    (need("name"), "prm.opportunity.open: name is required now"),
    (no_enum_value, "prm.opportunity.open: stage lost the value lost"),
    (put("owner", {"type": "string"}), "prm.opportunity.open: owner was retyped: null is no longer possible"),
    (
        put("partner_id", {"type": "integer"}),
        "prm.opportunity.open: partner_id was retyped: string is no longer possible",
    ),
    (
        put("partner_id", {"type": "string", "format": "uuid", "maxLength": 30}),
        "prm.opportunity.open: partner_id was narrowed: maxLength 30",
    ),
    (
        put(
            "competitors",
            {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 255}, "maxItems": 9},
        ),
        "prm.opportunity.open: competitors was narrowed: maxItems 9",
    ),
    (
        put("partner_id", {"type": "string", "pattern": "^A"}),
        "prm.opportunity.open: partner_id has another pattern: ^A",
    ),
    (
        inside("GivenCustomer", lambda customer: customer["required"].append("country")),
        "prm.opportunity.open: customer.country is required now",
    ),
    (
        inside("GivenTaxId", lambda tax_id: tax_id[PROPERTIES].pop("country")),
        "prm.opportunity.open: customer.tax_ids[].country was removed",
    ),
]


@pytest.mark.parametrize(("change", "line"), BREAKING_COMMAND, ids=[line for _change, line in BREAKING_COMMAND])
def test_a_change_that_breaks_senders_is_named(change: Change, line: str) -> None:
    assert line in after(OPEN, change)


BREAKING_EVENT: list[tuple[Change, str]] = [
    (lambda schema: schema[PROPERTIES].pop("note"), "prm.opportunity.opened.v1: note was removed"),
    (rename, "prm.opportunity.opened.v1: owner was removed"),
    (
        put("probability", {"type": "string"}),
        "prm.opportunity.opened.v1: probability was retyped: it may be string now",
    ),
    (
        put("owner", {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        "prm.opportunity.opened.v1: owner was retyped: it may be null now",
    ),
    (put("note", {"type": "string"}), "prm.opportunity.opened.v1: note has another pattern: None"),
    (
        lambda schema: schema["required"].remove("partner_id"),
        "prm.opportunity.opened.v1: partner_id is no longer always there",
    ),
    (
        inside("Money", lambda money: money["required"].remove("currency")),
        "prm.opportunity.opened.v1: amount.currency is no longer always there",
    ),
]


@pytest.mark.parametrize(("change", "line"), BREAKING_EVENT, ids=[line for _change, line in BREAKING_EVENT])
def test_a_change_that_breaks_readers_is_named(change: Change, line: str) -> None:
    assert line in after(OPENED, change)


@pytest.mark.parametrize("path", [OPEN, OPENED, "result.json"])
def test_a_message_that_vanished_is_named(path: str) -> None:
    left = {name: text for name, text in MADE.items() if name != path}
    assert incompatibilities(MADE, left) == [f"{path.rpartition('/')[2].removesuffix('.json')}: vanished"]


def test_a_change_of_the_result_is_named() -> None:
    def no_code(schema: dict[str, Any]) -> None:
        schema["$defs"]["refused"]["properties"].pop("code")

    assert after("result.json", no_code) == ["result: (refused).code was removed"]


HARMLESS: list[tuple[str, Change]] = [
    (OPEN, put("colour", {"type": "string"})),
    (OPEN, lambda schema: schema["required"].remove("partner_id")),
    (OPEN, lambda schema: schema[PROPERTIES]["stage"]["enum"].append("paused")),
    (OPEN, put("partner_id", {"type": ["string", "integer"]})),
    (OPEN, put("shop", {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]})),
    (OPENED, put("colour", {"type": "string"})),
    (OPENED, need("owner")),
]


@pytest.mark.parametrize(("path", "change"), HARMLESS)
def test_a_change_that_breaks_nobody_passes(path: str, change: Change) -> None:
    assert after(path, change) == []


def test_days_and_amounts_are_written_as_the_schema_says() -> None:
    won = o.Won(
        stage="won",
        probability=100,
        category="closed",
        policy_version=0,
        previous="committed",
        closed_on=date(2026, 3, 10),
        closed_at=datetime(2026, 3, 10, tzinfo=UTC) - timedelta(seconds=1),
        amount=GivenMoney(amount=Decimal("1E+3"), currency="BRL").stored(),
    )
    check(SCHEMAS["events/prm.opportunity.won.v1.json"], json.loads(won.model_dump_json(exclude_none=True)))
