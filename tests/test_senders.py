"""The page for senders names every code that a sender can meet, and its examples are true."""

import re
from pathlib import Path
from uuid import UUID

import pytest

from prm_es.dispatch import MAX_DATA
from prm_es.messages import MAX_TEXT, NAMESPACE, Role, aggregate_id, read_command
from prm_es.schemas import envelopes

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "senders.md").read_text(encoding="utf-8")
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))

REFUSALS = set(re.findall(r"\bRefused\(\s*\"([a-z_.]+)\"", SOURCE))
DEAD_LETTERS = set(re.findall(r"\b(?:Unreadable|UnknownType)\(\s*\"([a-z_.]+)\"", SOURCE))
DEAD_LETTERS |= {f"message.{name}" for name in envelopes.COMMAND} | {"command.failed"}
FIELDS = set(re.findall(r"\bPydanticCustomError\(\s*\"([a-z_]+)\"", SOURCE))
FIELDS |= set(re.findall(r"\binvalid\(\s*[a-z_\"]+,\s*\"([a-z_]+)\"", SOURCE))
FIELDS |= set(re.findall(r"\bFieldError\(\s*[a-z_\"]+,\s*\"([a-z_]+)\"", SOURCE))


def test_the_codes_are_found() -> None:
    assert {"command.invalid", "opportunity.credit_split_sum", "command.id_reused"} <= REFUSALS
    assert {"message.not_json", "command.unknown_type"} <= DEAD_LETTERS
    assert {"missing", "time_in_future", "currency_unknown", "taken"} <= FIELDS


@pytest.mark.parametrize("code", sorted(REFUSALS | DEAD_LETTERS | FIELDS))
def test_the_page_names_the_code(code: str) -> None:
    assert f"`{code}`" in PAGE


@pytest.mark.parametrize("code", sorted(set(re.findall(r"^\| `((?!prm\.)[a-z]+\.[a-z_]+)` \|", PAGE, re.MULTILINE))))
def test_the_page_names_no_code_that_nothing_gives(code: str) -> None:
    assert code in REFUSALS | DEAD_LETTERS


def test_the_page_names_every_attribute_and_role_and_the_limits() -> None:
    assert all(f"`{name}`" in PAGE for name in (*envelopes.COMMAND, *Role))
    assert str(NAMESPACE) in PAGE
    assert f"{MAX_DATA:,} bytes" in PAGE
    assert f"{MAX_TEXT} characters" in PAGE


def test_the_id_of_the_page_is_the_one_that_its_rule_gives() -> None:
    assert f"{aggregate_id('opportunity', 'crm', '1C1I7A6R')}\n" in PAGE
    python = PAGE.partition("```python\n")[2].partition("```")[0]
    said: list[UUID] = []
    exec(python.replace("print(", "said.append("), {"said": said})
    assert said == [aggregate_id("opportunity", "crm", "1C1I7A6R")]


def test_both_modes_of_the_page_are_the_same_command() -> None:
    binary = PAGE.partition("### Binary mode")[2].partition("```\n")[2].partition("```")[0]
    head, _, value = binary.partition("\n\n")
    headers = [line.split(": ", 1) for line in head.splitlines()[1:]]
    structured = PAGE.partition("### Structured mode")[2].partition("```\n")[2].partition("```")[0]
    one = read_command([(name, text.encode()) for name, text in headers], value.strip().encode())
    two = read_command([], structured.partition("\n\n")[2].encode())
    assert (one.id, one.source, one.type, one.subject, one.actor) == (
        two.id,
        two.source,
        two.type,
        two.subject,
        two.actor,
    )
