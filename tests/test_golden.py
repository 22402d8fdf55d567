"""What was ever stored is still read, to the byte."""

import importlib.util
import json
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import orjson
import pytest
from jsonschema import Draft202012Validator

from prm_es.aggregates import catalogue
from prm_es.messages import Role, recorded, split_state
from prm_es.schemas import documents
from prm_es.store.vault import TOKEN, open_text

FOLDER = Path(__file__).parent / "golden"
GOLDEN = {path.name.removesuffix(".json"): path.read_bytes() for path in sorted(FOLDER.glob("*.json"))}
SCHEMAS = documents()

KEY_ID, KEY = UUID("6a1f0c1e-93a4-4a0e-8a55-0d7c5b1f2e3d"), bytes(range(32))
SECRET = "Contagem de estoque às segundas-feiras"
SUBJECT = UUID(int=7)
STATE = (
    b'{"time":"2026-03-10T12:00:00Z","recordedtime":"2026-03-10T12:00:01.5Z","actor":"ana","actorrole":"channel_manager",'
    b'"actororg":"vendor","commandsource":"crm","causationid":"c-1","correlationid":"say \\",\\"data\\":\\" twice",'
    b'"data":{"owner":"bia","previous":"ana"}}'
)


def test_every_event_type_has_a_golden_file_and_no_stored_type_vanished() -> None:
    assert GOLDEN.keys() == catalogue.EVENTS.keys() | catalogue.UPCASTS.keys()


def test_no_golden_file_was_removed_or_edited() -> None:
    for line in (FOLDER / "stored.sha256").read_text().splitlines():
        digest, name = line.split()
        assert (FOLDER / name).exists(), f"{name} is gone: events of this type are in stores for ever"
        assert sha256((FOLDER / name).read_bytes()).hexdigest() == digest, f"{name} was edited"


@pytest.mark.parametrize("wire", GOLDEN)
def test_a_stored_event_is_read_and_written_to_the_same_bytes(wire: str) -> None:
    event = catalogue.parse_event(wire, GOLDEN[wire])
    if wire not in catalogue.UPCASTS:
        # without the fields that came later
        assert event.model_dump_json(exclude_none=True, exclude_unset=True).encode() == GOLDEN[wire]
        assert orjson.dumps(event.model_dump(mode="json", exclude_none=True, exclude_unset=True)) == GOLDEN[wire]


@pytest.mark.parametrize("wire", GOLDEN)
def test_a_stored_event_fits_its_published_schema(wire: str) -> None:
    schema = json.loads(SCHEMAS[f"events/{wire}.json"])
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
        orjson.loads(GOLDEN[wire])
    )


def test_stored_tokens_can_still_be_opened() -> None:
    tokens = {found.group() for data in GOLDEN.values() for found in TOKEN.finditer(data.decode())}
    assert {open_text(token, {KEY_ID: KEY}) for token in tokens} == {SECRET}
    assert {open_text(token, {}) for token in tokens} == {None}


def test_a_stored_row_is_still_read_whatever_its_attributes_hold() -> None:
    event = recorded(5, SUBJECT, 2, "prm.opportunity.owner_assigned.v1", STATE)
    assert (event.actor.id, event.actor.role, event.command_id) == ("ana", Role.CHANNEL_MANAGER, "c-1")
    assert (event.at.isoformat(), event.recorded_at.microsecond) == ("2026-03-10T12:00:00+00:00", 500_000)
    assert event.data == b'{"owner":"bia","previous":"ana"}'
    assert split_state(STATE)[0]["correlationid"] == 'say ","data":" twice'


def test_the_maker_writes_what_is_missing_and_touches_nothing_that_is_there(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("golden_make", FOLDER / "make.py")
    assert spec
    assert spec.loader
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    stored = tmp_path / "prm.opportunity.won.v1.json"
    stored.write_bytes(b"{}")
    assert maker.main(tmp_path) == 1
    assert stored.read_bytes() == b"{}"
    assert {path.name.removesuffix(".json") for path in tmp_path.glob("*.json")} == catalogue.EVENTS.keys()
    listed = (tmp_path / "stored.sha256").read_text().splitlines()
    assert {line.split()[1].removesuffix(".json") for line in listed} == catalogue.EVENTS.keys()
