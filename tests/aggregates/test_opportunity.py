from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any

import pytest

from prm_es.aggregates import policy
from prm_es.aggregates.base import Command, Decision, Event, Facts, FollowUp, Refused
from prm_es.aggregates.fields import GivenContact, GivenMoney, Money
from prm_es.aggregates.opportunity import (
    AGGREGATE,
    AddPartner,
    AmountChanged,
    AssignOwner,
    ChangeDetails,
    ChangePartnerOfRecord,
    ChangeStage,
    CloseDateChanged,
    Comment,
    CompleteNextAction,
    CreditSplitSet,
    DetailsChanged,
    EndProtection,
    ForecastOverridden,
    GivenPriceProposed,
    GivenProduct,
    GivenShare,
    Incumbency,
    LogActivity,
    Lose,
    Lost,
    MarkStalled,
    NextActionSet,
    Opened,
    Opportunity,
    OverrideForecast,
    PartnerAdded,
    PartnerOfRecordChanged,
    PartnerRemoved,
    RemovePartner,
    Reopen,
    Reopened,
    SetCreditSplit,
    Share,
    StageChanged,
    Stalled,
    Win,
    Won,
    incumbency,
)
from prm_es.aggregates.partner import Member
from prm_es.messages import Actor, Role

from .cases import (
    ACME,
    ACTIVE,
    BETA,
    CM,
    CUSTOMER,
    DEAL,
    IMPORT,
    KEY,
    LOST,
    MONEY,
    NEXT,
    NOW,
    OPEN,
    OPENED,
    PA,
    PARTNERS,
    PROBLEM,
    SNAPSHOT,
    STRANGER,
    SYSTEM,
    TODAY,
    WON,
    after,
    ask,
    by,
    code,
    events,
    facts,
    fields,
    only,
)

NOTHING = Opportunity()
ADDED = PartnerAdded(partner_id=BETA, role="sourcing")
ENTRY: dict[str, Any] = {
    "contact": GivenContact(name="Rita"),
    "amount": MONEY,
    "expected_close_on": TODAY + timedelta(days=30),
    "business_problem": PROBLEM,
}


def given(*events: Event) -> Opportunity:
    state: Opportunity = after(AGGREGATE, OPENED, *events)
    return state


def when(state: Opportunity, command: Command, known: Facts | None = None) -> Decision:
    return ask(AGGREGATE, state, command, known or facts())


def changed(**values: Any) -> Any:
    return OPEN.model_copy(update=values)


def in_stage(stage: str) -> Opportunity:
    return replace(given(), stage=stage)


# Opening


def test_an_opened_opportunity_carries_the_snapshot_of_its_stage_and_who_opened_it() -> None:
    opened = only(when(NOTHING, OPEN, facts(PA)))
    assert isinstance(opened, Opened)
    assert (opened.stage, opened.probability, opened.category, opened.policy_version) == ("prospect", 10, "pipeline", 0)
    assert (opened.opened_by, opened.owner, opened.partner_id, opened.missing) == ("ana", "ana", ACME, ())


def test_opening_names_every_field_that_is_missing() -> None:
    decision = when(NOTHING, changed(name=None, deal_type=None, next_action=None), facts(PA))
    assert code(decision) == "command.invalid"
    assert fields(decision) == ["name", "deal_type", "next_action"]


def test_opening_for_a_partner_that_is_not_there_is_refused() -> None:
    assert code(when(NOTHING, changed(partner_id=STRANGER))) == "partner.not_found"


@pytest.mark.parametrize("status", ["invited", "applied", "approved", "suspended", "terminated"])
def test_opening_for_a_partner_that_is_not_active_is_refused_but_not_to_an_import(status: str) -> None:
    partners = {ACME: replace(ACTIVE, status=status)}
    assert code(when(NOTHING, OPEN, facts(partners=partners))) == "partner.not_active"
    assert code(when(NOTHING, OPEN, facts(IMPORT, partners=partners))) == "accepted"


def test_opening_in_a_later_stage_needs_the_fields_of_every_stage_before_it() -> None:
    decision = when(NOTHING, changed(stage="business_validation", **ENTRY))
    assert code(decision) == "opportunity.entry_fields_missing"
    assert fields(decision) == ["products", "price_proposed"]


def test_an_expected_close_in_the_past_is_refused_and_today_is_not_past() -> None:
    assert fields(when(NOTHING, changed(expected_close_on=TODAY - timedelta(days=1)))) == ["expected_close_on"]
    assert code(when(NOTHING, changed(expected_close_on=TODAY))) == "accepted"


def test_a_product_line_that_the_policy_does_not_know_is_refused() -> None:
    known = facts(policy=policy.default().model_copy(update={"product_lines": ("scales",)}))
    assert fields(when(NOTHING, changed(products=(GivenProduct(line="tills"),)), known)) == ["products"]
    assert code(when(NOTHING, changed(products=(GivenProduct(line="scales"),)), known)) == "accepted"


def test_a_parent_opens_for_its_child_and_a_stranger_does_not() -> None:
    partners = {ACME: replace(ACTIVE, parent=BETA), BETA: ACTIVE}
    assert code(when(NOTHING, OPEN, facts(by(Role.PARTNER_ADMIN, str(BETA)), partners=partners))) == "accepted"
    assert code(when(NOTHING, OPEN, facts(by(Role.PARTNER_ADMIN, str(BETA))))) == "actor.forbidden"


def test_a_partner_side_actor_must_be_an_active_user_where_the_policy_says_so() -> None:
    strict = policy.default().model_copy(update={"require_registered_users": True})
    users = {"ana": Member("partner_admin", "inactive"), "bia": Member("partner_rep", "active")}
    partners = {ACME: replace(ACTIVE, users=users)}
    known = facts(PA, policy=strict, partners=partners)
    assert code(when(NOTHING, OPEN, known)) == "actor.unknown_user"
    known = facts(by(Role.PARTNER_REP, name="bia"), policy=strict, partners=partners)
    assert code(when(NOTHING, OPEN, known)) == "accepted"


# Imports


def test_an_import_leaves_out_what_others_must_give_and_the_event_names_it() -> None:
    bare = changed(name=None, customer=None, deal_type=None, next_action=None, stage="technical_validation")
    opened = only(when(NOTHING, bare, facts(replace(IMPORT, on_behalf_of=None))))
    assert isinstance(opened, Opened)
    assert opened.stage == "technical_validation"
    assert opened.missing == (
        "name", "customer", "deal_type", "next_action", "contact", "amount", "expected_close_on", "business_problem",
        "products", "owner",
    )  # fmt: skip


def test_an_import_opens_what_was_won_as_opened_and_won() -> None:
    decision = when(
        NOTHING,
        changed(stage="won", amount=MONEY, closed_on=date(2025, 5, 1), order_reference="PO-9"),
        facts(IMPORT),
    )
    assert not isinstance(decision, Refused)
    opened, won = decision
    assert isinstance(opened, Opened)
    assert isinstance(won, Won)
    assert (opened.opened_by, won.amount, won.missing) == ("bruno", MONEY.stored(), ())
    assert after(AGGREGATE, *events(decision)).status == "won"


def test_an_import_opens_what_was_lost_and_says_that_the_reason_is_missing() -> None:
    decision = when(NOTHING, changed(stage="lost"), facts(IMPORT))
    assert not isinstance(decision, Refused)
    assert isinstance(decision[1], Lost)
    assert decision[1].missing == ("reason",)


def test_only_an_import_opens_what_is_closed() -> None:
    assert fields(when(NOTHING, changed(stage="won"))) == ["stage"]
    assert fields(when(NOTHING, changed(closed_on=TODAY))) == ["closed_on"]


def test_an_import_changes_the_stage_without_entry_fields() -> None:
    event = only(when(given(), ChangeStage(stage="qualified"), facts(IMPORT)))
    assert isinstance(event, StageChanged)
    assert event.missing == ("next_action", "contact", "amount", "expected_close_on", "business_problem")


# Stages


def test_a_step_forward_needs_a_next_action_first() -> None:
    assert fields(when(given(), ChangeStage(stage="qualified"))) == ["next_action"]


def test_skipping_stages_needs_the_fields_of_all_that_are_skipped() -> None:
    decision = when(given(), ChangeStage(stage="committed", next_action=NEXT))
    assert code(decision) == "opportunity.entry_fields_missing"
    assert fields(decision) == [
        "contact", "amount", "expected_close_on", "business_problem", "products", "price_proposed",
        "contract_in_progress",
    ]  # fmt: skip


def test_with_all_entry_fields_the_stage_changes_and_takes_its_snapshot() -> None:
    details = when(
        given(),
        ChangeDetails(
            **ENTRY,
            products=(GivenProduct(line="scales", quantity=Decimal(3)),),
            price_proposed=GivenPriceProposed(amount=MONEY),
            contract_in_progress="C-7",
        ),
    )
    assert not isinstance(details, Refused)
    event = only(when(given(*events(details)), ChangeStage(stage="committed", next_action=NEXT)))
    assert isinstance(event, StageChanged)
    assert (event.previous, event.probability, event.category, event.backwards) == ("prospect", 90, "commit", False)


def test_products_without_quantities_do_not_open_technical_validation() -> None:
    state = replace(in_stage("qualified"), products=(GivenProduct(line="scales").stored(),))
    assert fields(when(state, ChangeStage(stage="technical_validation", next_action=NEXT))) == ["products"]


def test_going_back_needs_a_reason_and_no_fields() -> None:
    assert fields(when(in_stage("committed"), ChangeStage(stage="qualified"))) == ["reason"]
    event = only(when(in_stage("committed"), ChangeStage(stage="qualified", reason="Budget is open again")))
    assert isinstance(event, StageChanged)
    assert event.backwards


def test_the_stage_that_it_has_is_no_change() -> None:
    assert when(given(), ChangeStage(stage="prospect")) == ()


def test_a_seller_changes_what_it_owns_or_opened_only() -> None:
    change = ChangeDetails(name="New name")
    assert code(when(given(), change, facts(by(Role.SELLER, name="ana")))) == "accepted"
    assert code(when(given(), change, facts(by(Role.SELLER, name="otto")))) == "actor.forbidden"
    assert code(when(given(), Comment(text="Well done"), facts(by(Role.SELLER, name="otto")))) == "accepted"


# Details


def test_a_change_gives_one_event_for_each_kind() -> None:
    close = TODAY + timedelta(days=9)
    assert when(given(), ChangeDetails(name="Shops", amount=MONEY, expected_close_on=close)) == (
        DetailsChanged(name="Shops", changed=("name",)),
        AmountChanged(amount=MONEY.stored(), previous=None),
        CloseDateChanged(expected_close_on=close, previous=None),
    )


def test_details_that_are_as_they_were_give_no_event() -> None:
    state = given(AmountChanged(amount=Money(amount=Decimal(1000), currency="BRL")))
    assert when(state, ChangeDetails(name="Stock", amount=MONEY)) == ()
    assert when(state, ChangeDetails()) == ()


def test_null_clears_a_field_unless_the_stage_needs_it() -> None:
    state = replace(
        in_stage("qualified"), contact=True, business_problem=True, expected_close_on=TODAY, external_id="X"
    )
    state = replace(state, amount=MONEY.stored())
    assert only(when(state, ChangeDetails(external_id=None))) == DetailsChanged(changed=("external_id",))
    assert fields(when(state, ChangeDetails(amount=None, contact=None))) == ["contact", "amount"]


@pytest.mark.parametrize("name", ["name", "customer", "deal_type"])
def test_what_every_opportunity_has_cannot_be_cleared(name: str) -> None:
    assert fields(when(given(), ChangeDetails.model_validate({name: None}))) == [name]


def test_a_next_action_is_completed_once() -> None:
    state = given(NextActionSet(text="token", due_on=TODAY))
    done = only(when(state, CompleteNextAction()))
    assert when(AGGREGATE.evolve(state, done), CompleteNextAction()) == ()


def test_an_override_of_the_forecast_keeps_both_values_and_can_be_lifted() -> None:
    event = only(when(given(), OverrideForecast(category="commit", reason="Signed letter of intent")))
    assert isinstance(event, ForecastOverridden)
    assert (event.category, event.stage_category) == ("commit", "pipeline")
    state = given(event)
    assert (state.category, state.override) == ("pipeline", "commit")
    assert only(when(state, OverrideForecast(category=None, reason="Letter withdrawn"))).TYPE == event.TYPE


def test_internal_notes_are_for_the_vendor() -> None:
    assert fields(when(given(), Comment(text="x", visibility="internal"), facts(PA))) == ["visibility"]
    activity = LogActivity(kind="call", summary="x", visibility="internal")
    assert fields(when(given(), activity, facts(PA))) == ["visibility"]
    assert code(when(given(), Comment(text="x", visibility="internal"))) == "accepted"


def test_an_activity_has_happened() -> None:
    later = LogActivity(kind="visit", summary="x", happened_on=TODAY + timedelta(days=1))
    assert fields(when(given(), later)) == ["happened_on"]


def test_any_attached_partner_may_talk_but_only_the_one_of_record_may_change() -> None:
    beta = facts(by(Role.PARTNER_REP, str(BETA)))
    assert code(when(given(ADDED), Comment(text="We can install it"), beta)) == "accepted"
    assert code(when(given(ADDED), ChangeDetails(name="Ours"), beta)) == "actor.forbidden"
    assert code(when(given(), Comment(text="Who is this?"), beta)) == "actor.forbidden"


def test_a_partner_hands_over_to_its_own_active_users() -> None:
    partners = {ACME: replace(ACTIVE, users={"bia": Member("partner_rep", "active")})}
    assert code(when(given(), AssignOwner(owner="bia"), facts(PA, partners=partners))) == "accepted"
    refused = when(given(), AssignOwner(owner="otto"), facts(PA, partners=partners))
    assert code(refused) == "opportunity.owner_outside_organisation"
    assert when(given(), AssignOwner(owner="ana")) == ()


# Partners and credit


def split(*shares: tuple[Any, str]) -> SetCreditSplit:
    given_shares = tuple(GivenShare(partner_id=partner, percent=Decimal(percent)) for partner, percent in shares)
    return SetCreditSplit(type="revenue", shares=given_shares)


def test_the_partner_of_record_is_replaced_never_removed() -> None:
    assert code(when(given(), RemovePartner(partner_id=ACME))) == "opportunity.partner_of_record"
    event = only(when(given(), ChangePartnerOfRecord(partner_id=BETA, reason="The customer asked")))
    assert isinstance(event, PartnerOfRecordChanged)
    state = given(event)
    assert (state.partner_id, set(state.partners)) == (BETA, {ACME, BETA})
    assert only(when(state, RemovePartner(partner_id=ACME))) == PartnerRemoved(partner_id=ACME)


def test_partners_that_are_not_active_are_not_attached() -> None:
    known = facts(partners={**PARTNERS, BETA: replace(ACTIVE, status="suspended")})
    assert code(when(given(), AddPartner(partner_id=BETA, role="selling"), known)) == "partner.not_active"
    assert code(when(given(), AddPartner(partner_id=STRANGER, role="selling"))) == "partner.not_found"
    assert code(when(given(), ChangePartnerOfRecord(partner_id=BETA, reason="x"), known)) == "partner.not_active"


def test_a_partner_may_hold_two_roles_and_the_same_one_again_is_no_change() -> None:
    assert when(given(ADDED), AddPartner(partner_id=BETA, role="sourcing")) == ()
    assert code(when(given(ADDED), AddPartner(partner_id=BETA, role="implementation"))) == "accepted"
    assert when(given(), RemovePartner(partner_id=BETA)) == ()


def test_credit_adds_up_to_100_exactly() -> None:
    assert code(when(given(ADDED), split((ACME, "33.33"), (BETA, "66.66")))) == "opportunity.credit_split_sum"
    event = only(when(given(ADDED), split((ACME, "33.33"), (BETA, "66.67"))))
    assert isinstance(event, CreditSplitSet)
    assert event.shares[1] == Share(partner_id=BETA, percent=Decimal("66.67"))
    assert when(given(ADDED, event), split((ACME, "33.33"), (BETA, "66.67"))) == ()


def test_credit_is_for_attached_partners_each_once() -> None:
    assert code(when(given(), split((ACME, "50"), (BETA, "50")))) == "opportunity.partner_not_attached"
    assert fields(when(given(), split((ACME, "50"), (ACME, "50")))) == ["shares"]


def test_a_partner_with_credit_is_not_removed() -> None:
    credit = CreditSplitSet(type="revenue", shares=(Share(partner_id=BETA, percent=Decimal(100)),))
    assert code(when(given(ADDED, credit), RemovePartner(partner_id=BETA))) == "opportunity.partner_has_credit"


# Closing


def test_a_win_carries_the_final_amount_the_order_and_the_day() -> None:
    assert only(when(in_stage("qualified"), Win(final_amount=MONEY, order_reference="PO-1"), facts(PA))) == Won(
        stage="won", probability=100, category="closed", policy_version=0, previous="qualified", closed_on=TODAY,
        closed_at=NOW, amount=MONEY.stored(), order_reference="PO-1",
    )  # fmt: skip


def test_a_win_without_amount_and_order_is_for_imports() -> None:
    assert fields(when(given(), Win(), facts(PA))) == ["final_amount", "order_reference"]
    event = only(when(given(), Win(), facts(IMPORT)))
    assert isinstance(event, Won)
    assert event.missing == ("final_amount", "order_reference")


def test_nothing_closes_in_the_future() -> None:
    tomorrow = TODAY + timedelta(days=1)
    win = Win(final_amount=MONEY, order_reference="PO-1", closed_on=tomorrow)
    assert fields(when(given(), win)) == ["closed_on"]
    assert fields(when(given(), Lose(reason="price", closed_on=tomorrow))) == ["closed_on"]


def test_a_loss_to_a_competitor_names_it() -> None:
    assert fields(when(given(), Lose(reason="competitor"))) == ["competitor"]
    event = only(when(given(), Lose(reason="competitor", competitor="Balanças SA")))
    assert isinstance(event, Lost)
    assert (event.category, event.probability, event.competitor) == ("omitted", 0, "Balanças SA")


def test_an_override_ends_when_the_opportunity_is_closed() -> None:
    assert given(ForecastOverridden(category="commit", stage_category="pipeline", reason="x"), WON).override is None


@pytest.mark.parametrize("closing", [WON, LOST])
def test_reopening_within_the_policys_time_goes_back_to_the_last_open_stage(closing: Event) -> None:
    moved = StageChanged(stage="qualified", **SNAPSHOT, previous="prospect")
    state = given(moved, closing)
    event = only(when(state, Reopen(reason="Still alive"), facts(at=NOW + timedelta(days=90))))
    assert isinstance(event, Reopened)
    assert (event.stage, event.probability, event.previous) == ("qualified", 25, state.status)
    assert AGGREGATE.evolve(state, event).status == "open"
    late = when(state, Reopen(reason="Still alive"), facts(at=NOW + timedelta(days=90, seconds=1)))
    assert code(late) == "opportunity.reopen_too_late"


def test_the_final_amount_may_be_in_another_currency() -> None:
    event = only(when(given(), Win(final_amount=GivenMoney(amount=Decimal(5), currency="JPY"), order_reference="1")))
    assert isinstance(event, Won)
    assert event.amount == Money(amount=Decimal(5), currency="JPY")


# Stalling, and what its end means for others

CALL = LogActivity(kind="call", summary="Talked about the stock")


def told(state: Opportunity, command: Command, by: Actor = CM, at: datetime = NOW) -> Decision:
    return when(state, command, facts(by, at=at))


def test_without_activity_it_stalls_when_the_last_one_said_and_the_next_clears_it() -> None:
    state = after(AGGREGATE, *events(told(NOTHING, OPEN)))
    due = NOW + timedelta(days=30)
    assert state.stalls_at == due
    assert code(told(state, MarkStalled(due=due), SYSTEM)) == "deadline.early"
    busy = reduce(AGGREGATE.evolve, events(told(state, CALL, at=NOW + timedelta(days=2))), state)
    assert told(busy, MarkStalled(due=due), SYSTEM, at=due) == ()
    assert only(told(state, MarkStalled(due=due), SYSTEM, at=due + timedelta(days=3))) == Stalled(stalled_at=due)
    stalled = AGGREGATE.evolve(state, Stalled(stalled_at=due))
    assert told(stalled, MarkStalled(due=due), SYSTEM, at=due) == ()
    late = CALL.model_copy(update={"happened_on": TODAY - timedelta(days=9)})
    assert reduce(AGGREGATE.evolve, events(told(stalled, late, at=due)), stalled).stalled
    assert not reduce(AGGREGATE.evolve, events(told(stalled, CALL, at=due)), stalled).stalled


@pytest.mark.parametrize(
    ("command", "outcome"), [(Win(final_amount=MONEY, order_reference="PO-1"), "won"), (Lose(reason="price"), "lost")]
)
def test_its_end_ends_the_protection_of_the_lead_it_came_from(command: Command, outcome: str) -> None:
    state = after(AGGREGATE, OPENED.model_copy(update={"lead_id": STRANGER}))
    (_closed, follow_up) = told(state, command)  # type: ignore[misc]
    wanted = EndProtection(outcome=outcome, opportunity_id=DEAL, partners=(ACME,))
    assert follow_up == FollowUp(STRANGER, wanted, required=False)
    only(told(after(AGGREGATE, OPENED), command))


def test_an_import_of_what_was_lost_tells_its_lead_too() -> None:
    lost = changed(stage="lost", lead_id=STRANGER, lost_reason="price")
    assert isinstance(told(NOTHING, lost, IMPORT)[2], FollowUp)  # type: ignore[index]


def test_who_won_a_customer_last_is_its_incumbent() -> None:
    opening = changed(customer=CUSTOMER, products=(GivenProduct(line="scales"),))
    state = after(AGGREGATE, *events(told(NOTHING, opening)))
    assert incumbency(state) is None
    assert incumbency(AGGREGATE.evolve(state, WON)) == Incumbency(ACME, frozenset({KEY}), frozenset({"scales"}), NOW)
    assert incumbency(AGGREGATE.evolve(state, LOST)) is None
    other = ChangeDetails(customer=CUSTOMER.model_copy(update={"customer_id": "C-1"}))
    corrected = reduce(AGGREGATE.evolve, events(told(state, other)), state)
    assert set(corrected.customer_keys) == {KEY, "id:C-1"}
