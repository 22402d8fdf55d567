"""Every cell of the two tables: state by command, and role by command."""

from typing import Any

import pytest

from prm_es.aggregates import lead, opportunity, partner
from prm_es.aggregates.base import NONE, Aggregate, Command
from prm_es.aggregates.catalogue import AGGREGATES, COMMANDS, EVENTS, wire_type
from prm_es.aggregates.permissions import ROLES, may
from prm_es.messages import PARTNER_ROLES, Role

from .cases import (
    ACME,
    DEAL,
    DEAL_COMMANDS,
    DEALS,
    LEAD,
    LEAD_COMMANDS,
    LEADS,
    PARTNER_COMMANDS,
    PARTNER_STATES,
    STRANGER,
    ask,
    by,
    code,
    facts,
)

STATE_CELLS = [
    *((opportunity.AGGREGATE, state, command) for state in DEALS.values() for command in DEAL_COMMANDS),
    *((partner.AGGREGATE, state, command) for state in PARTNER_STATES.values() for command in PARTNER_COMMANDS),
    *((lead.AGGREGATE, state, command) for state in LEADS.values() for command in LEAD_COMMANDS),
]
COMMAND_CELLS = [
    *((opportunity.AGGREGATE, DEALS, command) for command in DEAL_COMMANDS),
    *((partner.AGGREGATE, PARTNER_STATES, command) for command in PARTNER_COMMANDS),
    *((lead.AGGREGATE, LEADS, command) for command in LEAD_COMMANDS),
]
SUBJECTS = {"opportunity": DEAL, "partner": ACME, "lead": LEAD}
# What a rule may say in a state where the command is possible.
RULES = {
    "partner.user_unknown",
    "lead.no_recent_activity",  # extend
    "lead.partner_declined_before",
    "lead.not_assigned",  # transfer of what nobody has
}


def cell(part: Any) -> str:
    return str(getattr(part, "NAME", None) or getattr(part, "status", None) or getattr(part, "name", "cases"))


def role_for(command: Command) -> Role:
    order = (Role.CHANNEL_MANAGER, Role.VENDOR_ADMIN, Role.INTEGRATION, Role.SYSTEM)
    return next(role for role in order if may(role, command.NAME))


def concerned(aggregate: Aggregate, states: Any, command: Command) -> Any:
    """Give a state in which the command is possible and, of a lead, a partner has it."""
    possible = aggregate.table[type(command)]
    held = [states[status] for status in possible if getattr(states[status], "partner_id", None)]
    return held[0] if held and aggregate is lead.AGGREGATE else states[possible[0]]


@pytest.mark.parametrize(("aggregate", "state", "command"), STATE_CELLS, ids=cell)
def test_a_command_is_possible_in_the_states_of_the_table_and_refused_in_all_others(
    aggregate: Aggregate, state: Any, command: Command
) -> None:
    allowed = aggregate.table[type(command)]
    answer = code(ask(aggregate, state, command, facts(by(role_for(command)), SUBJECTS[aggregate.name])))
    other_origin = isinstance(state, lead.Lead) and lead.ORIGINS.get(type(command), state.origin) != state.origin
    if state.status in allowed and not other_origin:
        assert answer == "accepted" or answer in RULES
    elif state.status == NONE:
        assert answer == "aggregate.not_found"
    elif set(allowed) == {NONE}:
        assert answer == "aggregate.already_exists"
    else:
        assert answer == "state.not_allowed"


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("aggregate", "states", "command"), COMMAND_CELLS, ids=cell)
def test_a_role_may_send_the_commands_of_the_table_and_no_others(
    aggregate: Aggregate, states: Any, command: Command, role: Role
) -> None:
    state = concerned(aggregate, states, command)
    answer = code(ask(aggregate, state, command, facts(by(role), SUBJECTS[aggregate.name])))
    assert (answer == "actor.forbidden") == (not may(role, command.NAME))


@pytest.mark.parametrize("role", sorted(PARTNER_ROLES))
@pytest.mark.parametrize(("aggregate", "states", "command"), COMMAND_CELLS, ids=cell)
def test_a_partner_role_acts_for_its_own_organisation_only(
    aggregate: Aggregate, states: Any, command: Command, role: Role
) -> None:
    state = concerned(aggregate, states, command)
    stranger = facts(by(role, str(STRANGER)), SUBJECTS[aggregate.name])
    assert code(ask(aggregate, state, command, stranger)) == "actor.forbidden"


def test_every_command_has_an_example_a_table_row_and_roles() -> None:
    examples = {type(command) for command in (*DEAL_COMMANDS, *PARTNER_COMMANDS, *LEAD_COMMANDS)}
    assert examples == set(COMMANDS.values())
    assert {command.NAME for command in examples} == set(ROLES)


def test_every_state_of_the_lead_is_walked() -> None:
    assert {status for statuses in lead.TABLE.values() for status in statuses} | set(lead.FINAL) == {
        state.status for state in LEADS.values()
    }
    assert all(state.status == name.partition(",")[0] for name, state in LEADS.items())


def test_what_only_the_system_may_send_nobody_else_may() -> None:
    own = {name for name, roles in ROLES.items() if roles == {Role.SYSTEM}}
    deadlines = {"lapse", "warn_sla", "breach_sla", "remind_protection", "expire", "expire_offer", "remind_contact"}
    assert own == {
        *(f"lead.{name}" for name in deadlines),
        "lead.screen",
        "lead.end_protection",
        "opportunity.mark_stalled",
    }


def test_names_are_unique_and_belong_to_their_aggregate() -> None:
    for name, aggregate in AGGREGATES.items():
        assert all(command.NAME.startswith(f"{name}.") for command in aggregate.table)
        assert all(event.TYPE.startswith(f"{name}.") and event.TYPE.endswith(".v1") for event in aggregate.events)
    assert len(COMMANDS) == sum(len(aggregate.table) for aggregate in AGGREGATES.values())
    own = {wire for wire in EVENTS if wire.startswith(("prm.policy.", "prm.person."))}  # streams that take no commands
    assert len(EVENTS) == sum(len(aggregate.events) for aggregate in AGGREGATES.values()) + len(own)
    assert own == {"prm.policy.loaded.v1", "prm.person.forgotten.v1"}
    assert all(wire_type(event) == wire for wire, event in EVENTS.items())


def test_vendor_admin_may_what_a_channel_manager_may_and_readers_send_nothing() -> None:
    for name in ROLES:
        assert may(Role.VENDOR_ADMIN, name) or not may(Role.CHANNEL_MANAGER, name)
        assert not may(Role.AUDITOR, name)
        assert not may(Role.FINANCE, name)
