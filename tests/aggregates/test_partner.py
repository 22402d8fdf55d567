from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from prm_es.aggregates import policy
from prm_es.aggregates.base import Command, Decision, Event, Facts
from prm_es.aggregates.fields import GivenContact, GivenTaxId
from prm_es.aggregates.partner import (
    AGGREGATE,
    Activate,
    Activated,
    AgreementSigned,
    ApplicationSubmitted,
    Apply,
    AuthorisationGranted,
    ChangeTier,
    ChangeUserRole,
    CompleteTask,
    DeactivateUser,
    GivenAgreement,
    GivenUser,
    GoalSet,
    GoalWithdrawn,
    GrantAuthorisation,
    Import,
    Imported,
    Invite,
    Invited,
    InviteUser,
    Member,
    OnboardingStarted,
    OnboardingTaskCompleted,
    Partner,
    ProfileUpdated,
    PutOnNotice,
    Rejected,
    RevokeAuthorisation,
    SetCapacity,
    SetGoal,
    SetTerritories,
    SignAgreement,
    Terminated,
    TierChanged,
    UpdateProfile,
    UserDeactivated,
    UserInvited,
    WithdrawGoal,
    needs,
    tax_keys_held,
)
from prm_es.messages import Role

from .cases import (
    ACME,
    ACTIVE,
    APPLY,
    BETA,
    CM,
    GOAL,
    IMPORT,
    IMPORTED,
    NOW,
    PA,
    PARTNER_STATES,
    SIGNED,
    STRANGER,
    TODAY,
    after,
    ask,
    by,
    code,
    facts,
    fields,
    only,
)

CNPJ = GivenTaxId(country="BR", value="12.ABC.345/01DE-35")
CPF = GivenTaxId(country="BR", value="390.533.447-05")
KEY = "BR:cnpj:12ABC34501DE35"


def given(*events: Event) -> Partner:
    state: Partner = after(AGGREGATE, IMPORTED, *events)
    return state


def when(state: Partner, command: Command, known: Facts | None = None) -> Decision:
    return ask(AGGREGATE, state, command, known or facts(subject=ACME))


def knowing(**known: Any) -> Facts:
    actor = known.pop("actor", CM)
    return facts(actor, ACME, **known)


# Coming in


def test_an_application_submits_the_profile() -> None:
    event = only(when(Partner(), APPLY.model_copy(update={"tax_ids": (CNPJ,)}), knowing(actor=PA, partners={})))
    assert isinstance(event, ApplicationSubmitted)
    assert (event.legal_name, event.tax_keys, event.missing) == ("Acme", (KEY,), ())


def test_an_application_names_every_field_that_is_missing_but_an_import_leaves_them_out() -> None:
    assert fields(when(Partner(), Apply())) == ["legal_name", "country", "types"]
    event = only(when(Partner(), Apply(legal_name="Acme"), knowing(actor=IMPORT)))
    assert isinstance(event, ApplicationSubmitted)
    assert event.missing == ("country", "types")


def test_an_invited_partner_applies_with_what_the_invitation_left_open() -> None:
    state = after(AGGREGATE, Invited(legal_name="Acme", country="BR", channel_manager="carla"))
    event = only(when(state, Apply(types=("isv",)), knowing(actor=PA)))
    applied = AGGREGATE.evolve(state, event)
    assert (applied.status, applied.legal_name, applied.country, applied.types) == ("applied", "Acme", "BR", ("isv",))
    assert applied.channel_manager == "carla"


def test_a_rejected_partner_applies_again_only_after_the_policys_time() -> None:
    state = replace(given(Rejected(reason="token", rejected_at=NOW)), status="rejected")
    assert code(when(state, APPLY, knowing(at=NOW + timedelta(days=89)))) == "partner.reapply_too_early"
    assert code(when(state, APPLY, knowing(at=NOW + timedelta(days=90)))) == "accepted"


@pytest.mark.parametrize(
    ("state", "command"),
    [
        (Partner(), Invite(legal_name="Acme", tax_ids=(CNPJ,))),
        (Partner(), APPLY.model_copy(update={"tax_ids": (CNPJ,)})),
        (PARTNER_STATES["active"], UpdateProfile(tax_ids=(CNPJ,))),
    ],
    ids=lambda part: getattr(part, "NAME", ""),
)
def test_a_tax_id_belongs_to_one_partner(state: Partner, command: Command) -> None:
    assert code(when(state, command, knowing(tax_owners={KEY: BETA}))) == "partner.duplicate"
    assert code(when(state, command, knowing(tax_owners={KEY: ACME}))) == "accepted"
    assert code(when(state, command)) == "accepted"


def test_a_refused_duplicate_does_not_tell_whose_the_tax_id_is() -> None:
    refused = when(
        Partner(),
        Import(legal_name="A", status="active", tax_ids=(CNPJ,)),
        knowing(actor=IMPORT, tax_owners={KEY: BETA}),
    )
    assert code(refused) == "partner.duplicate"
    assert str(BETA) not in str(refused)
    assert CNPJ.value not in str(refused)


def test_the_tax_id_of_an_individual_is_no_plain_key() -> None:
    command = APPLY.model_copy(update={"tax_ids": (CNPJ, CPF)})
    event = only(when(Partner(), command))
    assert isinstance(event, ApplicationSubmitted)
    assert event.tax_keys == (KEY,)
    assert needs(Partner(), command).tax_keys == {KEY}


def test_an_individuals_tax_id_can_be_cleared_and_is_not_kept_in_the_state() -> None:
    state = given(only(when(given(), UpdateProfile(tax_ids=(CPF,)))))
    assert CPF.value not in str(state)
    event = only(when(state, UpdateProfile(tax_ids=())))
    assert AGGREGATE.evolve(state, event).tax_ids == ()


def test_a_terminated_partner_frees_its_tax_ids() -> None:
    state = given(ProfileUpdated(tax_ids=(CNPJ.stored(),), tax_keys=(KEY,), changed=("tax_ids",)))
    assert tax_keys_held(state) == {KEY}
    assert tax_keys_held(AGGREGATE.evolve(state, Terminated(reason="token"))) == frozenset()
    assert tax_keys_held(Partner()) == frozenset()


def test_a_parent_is_another_partner_that_is_there_and_not_a_child() -> None:
    assert fields(when(given(), UpdateProfile(parent=ACME))) == ["parent"]
    assert fields(when(given(), UpdateProfile(parent=STRANGER))) == ["parent"]
    circle = knowing(partners={BETA: replace(ACTIVE, parent=ACME)})
    assert fields(when(given(), UpdateProfile(parent=BETA), circle)) == ["parent"]
    assert code(when(given(), UpdateProfile(parent=BETA))) == "accepted"


def test_an_import_may_come_before_that_of_its_parent() -> None:
    command = Import(legal_name="Acme", status="active", parent=STRANGER)
    assert code(when(Partner(), command, knowing(actor=IMPORT))) == "accepted"


def test_an_import_gives_any_status_and_says_what_is_missing() -> None:
    users = (GivenUser(user_id="ana", role="partner_admin", name="Ana"),)
    event = only(when(Partner(), Import(legal_name="Acme", status="suspended", users=users), knowing(actor=IMPORT)))
    assert isinstance(event, Imported)
    assert event.missing == ("country", "types", "agreement")
    state = after(AGGREGATE, event)
    assert (state.status, state.users) == ("suspended", {"ana": Member("partner_admin", "active")})


def test_an_import_of_one_user_twice_is_refused() -> None:
    users = (GivenUser(user_id="ana", role="partner_admin"), GivenUser(user_id="ana", role="partner_rep"))
    command = Import(legal_name="Acme", status="active", users=users)
    assert fields(when(Partner(), command, knowing(actor=IMPORT))) == ["users"]


# On the way to active


def test_nobody_is_active_without_a_valid_agreement() -> None:
    approved = replace(given(), status="approved")
    assert code(when(approved, Activate())) == "partner.agreement_missing"
    assert only(when(AGGREGATE.evolve(approved, SIGNED), Activate())) == Activated()
    ended = AgreementSigned(reference="A", signed_on=TODAY, valid_to=TODAY - timedelta(days=1))
    assert code(when(AGGREGATE.evolve(approved, ended), Activate())) == "partner.agreement_missing"
    assert only(when(approved, Activate(), knowing(actor=IMPORT))) == Activated(missing=("agreement",))


def test_tasks_of_the_onboarding_are_completed_once() -> None:
    state = replace(given(OnboardingStarted(tasks=("training",))), status="onboarding")
    assert fields(when(state, CompleteTask(task="trainning"))) == ["task"]
    done = only(when(state, CompleteTask(task="training"), knowing(actor=PA)))
    assert isinstance(done, OnboardingTaskCompleted)
    assert when(AGGREGATE.evolve(state, done), CompleteTask(task="training")) == ()


def test_an_agreement_is_not_signed_tomorrow_and_does_not_end_before_it_begins() -> None:
    day = timedelta(days=1)
    assert fields(when(given(), SignAgreement(reference="A", signed_on=TODAY + day))) == ["signed_on"]
    assert fields(when(given(), SignAgreement(reference="A", signed_on=TODAY, valid_to=TODAY - day))) == ["valid_to"]


# Profile and terms


def test_an_update_carries_what_changed_only() -> None:
    event = only(when(given(), UpdateProfile(legal_name="Acme", trade_name="Acme Sul"), knowing(actor=PA)))
    assert event == ProfileUpdated(trade_name="Acme Sul", changed=("trade_name",))


def test_null_clears_a_field_but_never_the_legal_name() -> None:
    state = given(ProfileUpdated(trade_name="Sul", changed=("trade_name",)))
    event = only(when(state, UpdateProfile(trade_name=None)))
    assert AGGREGATE.evolve(state, event).trade_name is None
    assert fields(when(state, UpdateProfile.model_validate({"legal_name": None}))) == ["legal_name"]


def test_sealed_values_given_again_count_as_changed() -> None:
    event = only(when(given(), UpdateProfile(contact=GivenContact(name="Rita"))))
    assert isinstance(event, ProfileUpdated)
    assert event.changed == ("contact",)


@pytest.mark.parametrize(
    "command",
    [
        UpdateProfile(trade_name="Sul"),
        SetTerritories(territories=("BR-RS", "BR-SC")),
        SetCapacity(open_leads=3),
        ChangeTier(tier="gold", reason="Review"),
        GrantAuthorisation(product_line="scales", valid_to=TODAY),
        SignAgreement(reference="A", signed_on=TODAY),
        PutOnNotice(reason="No sales"),
        SetGoal(goal_id=GOAL, metric="won_count", period="2026", target=Decimal(3)),
    ],
    ids=lambda command: command.NAME,
)
def test_the_same_change_twice_is_no_second_event(command: Command) -> None:
    first = only(when(given(), command))
    assert when(given(first), command) == ()


def test_a_change_of_tier_names_the_one_before() -> None:
    event = only(when(given(TierChanged(tier="silver", reason="token")), ChangeTier(tier="gold", reason="Review")))
    assert isinstance(event, TierChanged)
    assert event.previous == "silver"


def test_authorisations_are_for_product_lines_of_the_policy() -> None:
    known = knowing(policy=policy.default().model_copy(update={"product_lines": ("scales",)}))
    assert fields(when(given(), GrantAuthorisation(product_line="tills"), known)) == ["product_line"]
    state = given(AuthorisationGranted(product_line="scales"))
    assert state.authorisations == {"scales": None}
    revoked = only(when(state, RevokeAuthorisation(product_line="scales")))
    assert AGGREGATE.evolve(state, revoked).authorisations == {}


# Goals


def goal(period: str, number: int = 9, **values: Any) -> SetGoal:
    content = {
        "goal_id": f"00000000-0000-0000-0000-{number:012}",
        "metric": "won_count",
        "target": "3",
        "period": period,
    }
    return SetGoal.model_validate({**content, **values})


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ("2026", "2026-Q3", True),
        ("2026-Q1", "2026-03", True),
        ("2026-03", "2026", True),
        ("2026-Q1", "2026-04", False),
        ("2026-12", "2027-01", False),
        ("2026-Q4", "2027", False),
        ("2026-05", "2026-05", True),
    ],
)
def test_goals_of_one_metric_do_not_overlap(first: str, second: str, overlap: bool) -> None:
    state = given(only(when(given(), goal(first, 1))))
    expected = "partner.goal_overlaps" if overlap else "accepted"
    assert code(when(state, goal(second, 2))) == expected
    assert code(when(state, goal(second, 2, metric="activities"))) == "accepted"
    assert code(when(state, goal(second, 2, product_line="scales"))) == "accepted"


def test_a_goal_with_the_same_id_is_changed_and_a_withdrawn_one_makes_room() -> None:
    first = only(when(given(), goal("2026")))
    assert isinstance(first, GoalSet)
    assert code(when(given(first), goal("2026", target="5"))) == "accepted"
    withdrawn = only(when(given(first), WithdrawGoal(goal_id=first.goal_id)))
    assert isinstance(withdrawn, GoalWithdrawn)
    assert code(when(given(first, withdrawn), goal("2026-01", 2))) == "accepted"
    assert when(given(first, withdrawn), WithdrawGoal(goal_id=first.goal_id)) == ()


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"metric": "won_amount"}, "currency"),
        ({"currency": "BRL"}, "currency"),
        ({"target": "1.5"}, "target"),
        ({"distribution": ["50", "50"]}, "distribution"),
        ({"distribution": ["8.33"] * 12}, "distribution"),
        ({"distribution": ["8.33"] * 12, "period": "2026-Q1"}, "distribution"),
    ],
)
def test_a_goal_that_does_not_hold_together_is_refused(values: dict[str, Any], wrong: str) -> None:
    assert fields(when(given(), goal(**{"period": "2026", **values}))) == [wrong]


def test_a_year_is_spread_over_twelve_months_that_add_up_to_100() -> None:
    spread = ["8.33"] * 11 + ["8.37"]
    event = only(
        when(given(), goal("2026", metric="won_amount", currency="BRL", target="1200.50", distribution=spread))
    )
    assert isinstance(event, GoalSet)
    assert sum(event.distribution) == 100


# Users


def test_users_are_invited_once_and_again_after_leaving() -> None:
    command = InviteUser(user_id="bia", role="partner_rep", name="Bia", email="Bia@Acme.Example")
    event = only(when(given(), command, knowing(actor=PA)))
    assert isinstance(event, UserInvited)
    assert event.email == "bia@acme.example"
    state = given(event)
    assert state.has_active_user("bia")
    assert code(when(state, command)) == "partner.user_exists"
    left = AGGREGATE.evolve(state, only(when(state, DeactivateUser(user_id="bia"))))
    assert not left.has_active_user("bia")
    assert when(left, DeactivateUser(user_id="bia")) == ()
    assert code(when(left, command)) == "accepted"


def test_a_user_that_is_not_there_cannot_be_changed() -> None:
    assert code(when(given(), ChangeUserRole(user_id="x", role="partner_rep"))) == "partner.user_unknown"
    assert code(when(given(), DeactivateUser(user_id="x"))) == "partner.user_unknown"


def test_a_role_is_changed_once() -> None:
    state = given(UserInvited(user_id="bia", role="partner_rep"))
    event = only(when(state, ChangeUserRole(user_id="bia", role="partner_admin")))
    assert AGGREGATE.evolve(state, event).users["bia"] == Member("partner_admin", "active")
    assert when(state, ChangeUserRole(user_id="bia", role="partner_rep")) == ()
    assert UserDeactivated(user_id="bia").TYPE in {event.TYPE for event in AGGREGATE.events}


def test_a_parent_acts_for_its_child() -> None:
    state = replace(given(), parent=BETA)
    parent = knowing(actor=by(Role.PARTNER_ADMIN, str(BETA)))
    assert code(when(state, UpdateProfile(trade_name="Sul"), parent)) == "accepted"
    assert code(when(given(), UpdateProfile(trade_name="Sul"), parent)) == "actor.forbidden"


def test_the_agreement_of_an_import_counts() -> None:
    command = Import(legal_name="A", status="approved", agreement=GivenAgreement(reference="A", signed_on=TODAY))
    state = after(AGGREGATE, only(when(Partner(), command, knowing(actor=IMPORT))))
    assert code(when(state, Activate())) == "accepted"
