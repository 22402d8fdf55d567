"""The forms of the pages fit the commands that they send."""

import types
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from prm_es.aggregates import catalogue
from prm_es.aggregates.permissions import ROLES, may
from prm_es.api.pages.acting import CODE_LISTS, WORD_KINDS
from prm_es.api.pages.actions import ACTIONS, Action, Field, data_of, offered, plain_number
from prm_es.api.pages.words import CODES
from prm_es.messages import Role

ROW = {"status": "submitted", "protected_until": None, "opened": False}


def _model(kind: Any) -> type[BaseModel] | None:
    if get_origin(kind) in (Union, types.UnionType):
        return next((found for one in get_args(kind) if (found := _model(one))), None)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


@pytest.mark.parametrize("action", ACTIONS, ids=lambda one: one.command)
def test_every_field_of_a_form_is_one_of_its_command(action: Action) -> None:
    command: type[BaseModel] = catalogue.COMMANDS[catalogue.PREFIX + action.command]
    for field in action.fields:
        model: type[BaseModel] | None = command
        for part in field.name.split("."):
            assert model is not None, field.name
            assert part in model.model_fields, field.name
            model = _model(model.model_fields[part].annotation)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda one: one.command)
def test_what_a_command_cannot_do_without_is_asked_for(action: Action) -> None:
    command = catalogue.COMMANDS[catalogue.PREFIX + action.command]
    needed = {name for name, field in command.model_fields.items() if field.is_required()}
    given = {field.name for field in action.fields if field.required}
    assert needed <= {name.partition(".")[0] for name in given}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda one: one.command)
def test_choices_have_words(action: Action) -> None:
    for field in action.fields:
        if field.kind in ("code", "codes"):
            assert set(CODE_LISTS[field.of]) <= set(CODES[WORD_KINDS[field.of]]), field.name


@pytest.mark.parametrize("action", [one for one in ACTIONS if one.states], ids=lambda one: one.command)
def test_a_command_is_offered_in_states_that_take_it(action: Action) -> None:
    table = catalogue.AGGREGATES[action.aggregate].table
    command = catalogue.COMMANDS[catalogue.PREFIX + action.command]
    assert set(action.states) <= set(table[command])


def test_nobody_is_offered_what_the_role_may_not_send() -> None:
    for role in Role:
        assert all(may(role, one.command) for one in offered(role, "lead", ROW))
    assert offered(Role.AUDITOR, "lead", ROW) == []


def test_a_channel_manager_first_sees_the_decision() -> None:
    assert [one.command for one in offered(Role.CHANNEL_MANAGER, "lead", ROW)][:2] == ["lead.approve", "lead.reject"]


def test_a_partner_sees_no_action_on_a_protection_that_is_gone() -> None:
    converted = {**ROW, "status": "converted"}
    assert "lead.request_extension" not in [one.command for one in offered(Role.PARTNER_REP, "lead", converted)]
    protected = {**converted, "protected_until": "2027-01-01"}
    assert "lead.request_extension" in [one.command for one in offered(Role.PARTNER_REP, "lead", protected)]


def test_every_command_that_the_pages_send_is_one_of_people() -> None:
    assert all(ROLES[one.command] - {Role.SYSTEM, Role.INTEGRATION} for one in ACTIONS)


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("1.234,56", "1234.56"),
        ("1,234.56", "1234.56"),
        ("1.234", "1234"),
        ("1,234", "1234"),
        ("1.234.567", "1234567"),
        ("12,5", "12.5"),
        ("12.50", "12.50"),
        (" 1 234,5 ", "1234.5"),
        ("abc", "abc"),
        ("", ""),
    ],
)
def test_numbers_are_read_as_either_language_writes_them(typed: str, number: str) -> None:
    assert plain_number(typed) == number


def test_a_form_becomes_data_without_what_was_left_empty() -> None:
    fields = [
        Field("name", ""),
        Field("next_action.text", ""),
        Field("next_action.due_on", "", "day"),
        Field("amount", "", "money"),
        Field("products", "", "product"),
        Field("fields", "", "codes"),
        Field("score", "", "number"),
    ]
    typed = {
        "name": [" "],
        "next_action.text": ["Call"],
        "next_action.due_on": ["2027-01-02"],
        "amount.amount": ["1.000,50"],
        "amount.currency": ["BRL"],
        "products.0.line": ["scales"],
        "products.0.quantity": ["2"],
        "fields": ["customer", "amount"],
        "score": ["70"],
    }
    assert data_of(fields, typed) == {
        "next_action": {"text": "Call", "due_on": "2027-01-02"},
        "amount": {"amount": "1000.50", "currency": "BRL"},
        "products": [{"line": "scales", "quantity": "2"}],
        "fields": ["customer", "amount"],
        "score": 70,
    }
