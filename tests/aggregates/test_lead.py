from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from prm_es.aggregates import lead as ld
from prm_es.aggregates import lead_messages as m
from prm_es.aggregates import opportunity as o
from prm_es.aggregates import partner as p
from prm_es.aggregates import policy
from prm_es.aggregates.base import Claim, Command, Decision, FollowUp, LiveRegistration, Refused, UndecidedMatch
from prm_es.aggregates.fields import GivenCustomer, GivenMoney, GivenTaxId, TaxId, customer_keys, domain_keys
from prm_es.messages import Actor

from .cases import (
    ACCEPT,
    ACCEPTED,
    ACME,
    ACTIVE,
    APPROVED,
    ASKED,
    BETA,
    CAPTURED,
    CM,
    CONTACTED,
    CONVERT,
    CUSTOMER,
    DEAL,
    IMPORT,
    KEY,
    LEAD,
    LEADS,
    MONEY,
    NOW,
    OFFER,
    OFFERED,
    PA,
    PARTNERS,
    REACTION,
    REGISTER,
    RIVAL,
    SENDERS,
    STRANGER,
    SUBMITTED,
    SYSTEM,
    WORKING,
    ask,
    code,
    events,
    facts,
    fields,
    only,
    told,
)

ACTIVITY = m.LogActivity(kind="meeting", summary="Showed it to the buyer")
UNTIL = NOW + timedelta(days=90)
INDIVIDUAL = GivenCustomer(name="Rita", tax_ids=(GivenTaxId(country="BR", value="529.982.247-25"),))


def answer(state: ld.Lead, command: Command, by: Actor | None = None, at: datetime = NOW, **known: Any) -> Decision:
    return ask(ld.AGGREGATE, state, command, facts(by or SENDERS.get(command.NAME, CM), LEAD, at, **known))


def numbers(**changed: Any) -> policy.Policy:
    shipped = policy.default()
    return shipped.model_copy(update={"lead": shipped.lead.model_copy(update=changed)})


def rival(until: datetime = UNTIL, lines: tuple[str, ...] = ("scales",), key: str = KEY, **changed: Any) -> Claim:
    held = Claim(key, frozenset(lines), RIVAL, RIVAL, BETA, NOW - timedelta(days=1), until)
    return replace(held, **changed)


def live(number: int, **changed: Any) -> LiveRegistration:
    one = LiveRegistration(UUID(int=number), ACME, "registered", frozenset({f"id:{number}"}), frozenset({"scales"}))
    return replace(one, **changed)


def converting(state: ld.Lead, command: Command) -> tuple[m.Converted, FollowUp]:
    decision = answer(state, command, PA)
    assert not isinstance(decision, Refused)
    converted, opening = decision
    assert isinstance(converted, m.Converted)
    assert isinstance(opening, FollowUp)
    return converted, opening


def sla_of(event: Any) -> tuple[datetime, datetime]:
    return event.sla_warn_at, event.sla_due_at


# Who is the same customer


def test_a_company_is_known_by_the_root_of_its_tax_id_and_the_vendors_own_id() -> None:
    customer = CUSTOMER.model_copy(update={"customer_id": "C-1"})
    assert customer_keys(customer, "root") == {KEY, "id:C-1"}
    assert customer_keys(customer, "establishment") == {"tax:BR:cnpj:11222333000181", "id:C-1"}
    assert domain_keys(CUSTOMER) == {"domain:lojas-sul.example"}


def test_an_individual_has_no_key_that_could_be_read() -> None:
    assert customer_keys(INDIVIDUAL, "root") == set()


# Registration


def test_a_registration_takes_its_keys_its_clock_and_its_sender() -> None:
    event: Any = only(answer(ld.Lead(), REGISTER, PA))
    assert event.customer_keys == (KEY,)
    assert (event.submitted_by, event.owner, event.partner_id) == ("ana", "ana", ACME)
    assert sla_of(event) == (datetime.fromisoformat("2026-03-11T12:00Z"), datetime.fromisoformat("2026-03-12T12:00Z"))
    assert event.held_until is None


def test_a_registration_names_every_field_that_is_missing() -> None:
    refused = answer(ld.Lead(), m.Register(partner_id=ACME), PA)
    assert fields(refused) == [
        "customer",
        "product_lines",
        "deal_type",
        "amount",
        "expected_close_on",
        "business_problem",
    ]


def test_an_import_leaves_them_out_and_the_event_names_them() -> None:
    event: Any = only(answer(ld.Lead(), m.Register(partner_id=ACME, customer=CUSTOMER, time_assumed=True), IMPORT))
    assert event.missing == (
        "product_lines",
        "deal_type",
        "amount",
        "expected_close_on",
        "business_problem",
        "came_in_at",
    )
    assert (event.submitted_by, event.owner) == ("bruno", "bruno")


def test_a_customer_that_a_rival_holds_is_recorded_with_the_date_and_nothing_else() -> None:
    event: Any = only(answer(ld.Lead(), REGISTER, PA, claims=[rival()]))
    assert event.held_until == UNTIL
    assert str(BETA) not in event.model_dump_json()
    assert str(RIVAL) not in event.model_dump_json()


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("partner.not_found", {}, {"partners": {}}),
    ("partner.not_active", {}, {"partners": {ACME: replace(ACTIVE, status="suspended")}}),
    ("partner.not_authorised", {"product_lines": ("scales", "robots")}, {}),
    ("partner.not_authorised", {}, {"partners": {ACME: replace(ACTIVE, authorisations={"scales": date(2026, 3, 9)})}}),
    (
        "lead.outside_territory",
        {},
        {
            "policy": numbers(check_territories=True),
            "partners": {ACME: replace(ACTIVE, territories=("PT", "ES-CT"))},
        },
    ),
    ("lead.cap_reached", {}, {"live_registrations": [live(number) for number in range(100, 125)]}),
    ("lead.below_minimum", {}, {"policy": numbers(minimum_amounts={"BRL": Decimal("1000.01")})}),
    ("lead.duplicate_registration", {}, {"live_registrations": [live(100, customer_keys=frozenset({KEY}))]}),
    ("command.invalid", {"expected_close_on": date(2026, 3, 9)}, {}),
    ("command.invalid", {"time_assumed": True}, {}),
]


@pytest.mark.parametrize(("why", "given", "known"), REFUSED)
def test_a_registration_is_refused(why: str, given: dict[str, Any], known: dict[str, Any]) -> None:
    assert code(answer(ld.Lead(), REGISTER.model_copy(update=given), PA, **known)) == why


@pytest.mark.parametrize(
    "known",
    [
        {"partners": {ACME: replace(ACTIVE, authorisations={"scales": date(2026, 3, 10)})}},
        {"partners": {ACME: replace(ACTIVE, authorisations={})}, "policy": numbers(require_authorisation=False)},
        {"policy": numbers(check_territories=True), "partners": {ACME: replace(ACTIVE, territories=("br-RS",))}},
        {"policy": numbers(check_territories=True)},
        {"live_registrations": [live(number) for number in range(100, 124)]},
        {"live_registrations": [live(number, origin="captured") for number in range(100, 130)]},
        {"live_registrations": [live(number, partner_id=BETA) for number in range(100, 130)]},
        {"policy": numbers(minimum_amounts={"BRL": Decimal(1000), "USD": Decimal(10**9)})},
        {"live_registrations": [live(100, customer_keys=frozenset({KEY}), product_lines=frozenset({"shelves"}))]},
        {"live_registrations": [live(100, customer_keys=frozenset({KEY}), partner_id=BETA)]},
    ],
)
def test_a_registration_within_the_limits_is_accepted(known: dict[str, Any]) -> None:
    assert code(answer(ld.Lead(), REGISTER, PA, **known)) == "accepted"


def test_the_cap_grows_with_the_tier_and_the_partners_own_number_stands_above_both() -> None:
    rules = numbers(tier_factors={"gold": Decimal("1.5")}).lead
    assert ld.registration_cap(ACTIVE, rules) == 25
    assert ld.registration_cap(replace(ACTIVE, tier="gold"), rules) == 37
    own = replace(ACTIVE, tier="gold", capacity=p.Capacity(live_registrations=3))
    assert ld.registration_cap(own, rules) == 3


def test_limits_are_not_asked_of_an_import() -> None:
    for _why, given, known in REFUSED[1:8]:
        assert code(answer(ld.Lead(), REGISTER.model_copy(update=given), IMPORT, **known)) == "accepted"


def test_the_duplicate_names_the_earlier_lead() -> None:
    refused = answer(ld.Lead(), REGISTER, PA, live_registrations=[live(100, customer_keys=frozenset({KEY}))])
    assert isinstance(refused, Refused)
    assert str(UUID(int=100)) in refused.sentence


# Screening and matches


def test_a_screening_of_what_has_changed_since_is_stale() -> None:
    asked = told(ASKED, m.Resubmit(external_id="R-1"))
    assert code(answer(asked, m.Screen(version=2))) == "lead.screen_stale"
    assert code(answer(asked, m.Approve())) == "lead.not_screened"
    again = told(asked, m.Screen(version=asked.version))
    assert code(answer(again, m.Approve())) == "accepted"


def test_a_screening_of_a_version_that_is_not_there_yet_is_wrong() -> None:
    assert fields(answer(SUBMITTED, m.Screen(version=9))) == ["version"]


def test_a_screening_ends_nothing_whose_time_is_over_for_the_import_goes_on() -> None:
    late = UNTIL + timedelta(days=400)
    fresh = replace(LEADS["approved"], screened_version=0)
    assert fresh.protected_until == UNTIL
    (event,) = events(answer(fresh, m.Screen(version=fresh.version), SYSTEM, at=late))
    assert isinstance(event, m.Screened)


def test_the_same_screening_again_changes_nothing() -> None:
    assert answer(SUBMITTED, m.Screen(version=1)) == ()


PROBABLE = UndecidedMatch(LEAD, RIVAL, "probable", RIVAL)


@pytest.mark.parametrize(
    ("match", "why"),
    [
        (PROBABLE, "lead.in_conflict"),
        (replace(PROBABLE, lead_id=RIVAL, other_lead_id=LEAD), "lead.in_conflict"),  # found by the other's screening
        (replace(PROBABLE, earlier_lead_id=LEAD), "accepted"),  # the later one is blocked
        (replace(PROBABLE, strength="hard"), "accepted"),  # whoever is approved first takes the claim
        (replace(PROBABLE, lead_id=STRANGER, other_lead_id=BETA), "accepted"),
    ],
)
def test_an_undecided_probable_match_blocks_the_later_lead(match: UndecidedMatch, why: str) -> None:
    assert code(answer(SUBMITTED, m.Approve(), matches=[match])) == why


def test_matches_are_undecided_until_resolved_and_again_when_the_customer_changes() -> None:
    found = m.Screen(version=2, matches=(m.GivenMatch(lead_id=RIVAL, strength="probable"),))
    state = told(SUBMITTED, found)
    assert ld.undecided_matches(LEAD, state) == {PROBABLE}
    state = told(state, m.ResolveMatch(other_lead=RIVAL, outcome="not_a_conflict"))
    assert ld.undecided_matches(LEAD, state) == frozenset()
    state = told(state, m.RequestInformation(note="?"), m.Resubmit(external_id="R-1"))
    assert ld.undecided_matches(LEAD, state) == frozenset()
    state = told(state, m.RequestInformation(note="?"), m.Resubmit(product_lines=("shelves",)))
    assert ld.undecided_matches(LEAD, state) == {PROBABLE}
    assert ld.undecided_matches(LEAD, told(state, m.Withdraw())) == frozenset()


def test_a_split_shares_a_claim_group_and_both_may_hold() -> None:
    group = UUID(int=77)
    split = m.ResolveMatch(other_lead=RIVAL, outcome="split", claim_group=group, share=Decimal("60.00"))
    state = told(SUBMITTED, split)
    assert code(answer(state, m.Approve(), claims=[rival(claim_group=group)])) == "accepted"
    assert code(answer(state, m.Approve(), claims=[rival()])) == "lead.already_protected"
    assert {claim.claim_group for claim in ld.claims_held(LEAD, told(state, m.Approve()))} == {group}
    assert answer(state, split) == ()


def test_a_group_that_leaves_another_behind_is_refused_while_protected() -> None:
    split = m.ResolveMatch(other_lead=STRANGER, outcome="split", claim_group=UUID(int=77))
    assert code(answer(APPROVED, split, claims=[rival()])) == "lead.already_protected"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"other_lead": LEAD, "outcome": "award"}, "other_lead"),
        ({"other_lead": RIVAL, "outcome": "split"}, "claim_group"),
        ({"other_lead": RIVAL, "outcome": "award", "claim_group": RIVAL}, "claim_group"),
        ({"other_lead": RIVAL, "outcome": "award", "share": Decimal(50)}, "share"),
    ],
)
def test_a_resolution_that_makes_no_sense_is_refused(given: dict[str, Any], field: str) -> None:
    assert fields(answer(SUBMITTED, m.ResolveMatch(**given))) == [field]


# Review


def test_approval_protects_every_key_for_the_policys_time() -> None:
    event: Any = only(answer(SUBMITTED, m.Approve()))
    assert (event.protected_from, event.protected_until, event.policy_version) == (NOW, UNTIL, 0)
    assert [(UNTIL - at).days for at in event.remind_at] == [30, 14, 7, 1]
    held = Claim(KEY, frozenset({"scales"}), LEAD, LEAD, ACME, NOW, UNTIL)
    assert ld.claims_held(LEAD, APPROVED) == {held}
    assert ld.claims_held(LEAD, SUBMITTED) == frozenset()


def test_a_tier_may_be_protected_longer() -> None:
    rules = numbers(tier_protection={"gold": timedelta(days=120)})
    gold = {ACME: replace(ACTIVE, tier="gold")}
    event: Any = only(answer(SUBMITTED, m.Approve(), policy=rules, partners=gold))
    assert event.protected_until == NOW + timedelta(days=120)


def test_without_screening_nothing_is_approved_but_an_import_of_the_past() -> None:
    fresh = told(ld.Lead(), REGISTER)
    assert code(answer(fresh, m.Approve())) == "lead.not_screened"
    event: Any = only(answer(fresh, m.Approve(), IMPORT, matches=[PROBABLE]))
    assert event.missing == ("screening",)


@pytest.mark.parametrize(
    ("claim", "free"),
    [
        (rival(), False),
        (rival(lines=()), False),  # a claim without a line is for all
        (rival(lines=("shelves",)), True),
        (rival(key="id:other"), True),
        (rival(valid_from=UNTIL, until=UNTIL + timedelta(days=1)), True),  # begins when this one would end
        (rival(valid_from=UNTIL - timedelta(days=1), until=UNTIL + timedelta(days=1)), False),
        (rival(until=NOW), True),
        (rival(claim_group=LEAD), True),
    ],
)
def test_a_customer_that_another_holds_is_refused_with_the_date_to_everybody(claim: Claim, free: bool) -> None:
    for by in (CM, IMPORT):
        refused = answer(SUBMITTED, m.Approve(), by, claims=[claim])
        assert code(refused) == ("accepted" if free else "lead.already_protected")
        if isinstance(refused, Refused):
            assert refused.sentence.startswith("already protected until 2026-")
            assert not any(str(one) in refused.sentence for one in (BETA, RIVAL))


def test_the_order_of_what_speaks_against_an_approval() -> None:
    fresh = replace(told(ld.Lead(), REGISTER), deal_type="renewal")
    known: dict[str, Any] = {
        "matches": [PROBABLE],
        "claims": [rival()],
        "partners": {**PARTNERS, ACME: replace(ACTIVE, status="suspended")},
        "incumbents": {(KEY, "scales"): BETA},
    }
    assert code(answer(fresh, m.Approve(), **known)) == "lead.not_screened"
    state = told(fresh, m.Screen(version=1))
    for name, why in (
        ("matches", "lead.in_conflict"),
        ("claims", "lead.already_protected"),
        ("partners", "partner.not_active"),
        ("incumbents", "lead.incumbent_renewal"),
    ):
        assert code(answer(state, m.Approve(), **known)) == why
        del known[name]
    assert code(answer(state, m.Approve(), **known)) == "accepted"


RENEWAL = replace(SUBMITTED, deal_type="renewal")
GONE = replace(ACTIVE, status="terminated")


@pytest.mark.parametrize(
    ("state", "known", "why"),
    [
        (RENEWAL, {"incumbents": {(KEY, "scales"): BETA}}, "lead.incumbent_renewal"),
        (RENEWAL, {"incumbents": {(KEY, ""): BETA}}, "lead.incumbent_renewal"),
        (RENEWAL, {"incumbents": {(KEY, "scales"): ACME}}, "accepted"),
        (RENEWAL, {"incumbents": {(KEY, "shelves"): BETA}}, "accepted"),
        (RENEWAL, {"incumbents": {("id:other", "scales"): BETA}}, "accepted"),
        (SUBMITTED, {"incumbents": {(KEY, "scales"): BETA}}, "accepted"),
        (RENEWAL, {"incumbents": {(KEY, "scales"): BETA}, "policy": numbers(incumbents_renew=False)}, "accepted"),
        (
            RENEWAL,
            {"incumbents": {(KEY, "scales"): BETA}, "partners": {ACME: ACTIVE, BETA: GONE}},
            "accepted",
        ),
    ],
)  # fmt: skip
def test_a_renewal_is_for_the_incumbent(state: ld.Lead, known: dict[str, Any], why: str) -> None:
    assert code(answer(state, m.Approve(), **known)) == why


def test_the_channel_manager_may_override_the_incumbent_with_a_reason() -> None:
    override = m.Approve(override_reason="The customer's own written choice")
    event: Any = only(answer(RENEWAL, override, incumbents={(KEY, "scales"): BETA}))
    assert event.override_reason


REACTIONS = [
    (SUBMITTED, m.Approve()),
    (SUBMITTED, m.Reject(reason="other")),
    (APPROVED, m.Revert(reason="Decided otherwise")),
    (APPROVED, m.Revoke(reason="The partner was terminated")),
    (SUBMITTED, m.ResolveMatch(other_lead=RIVAL, outcome="award")),
    (OFFERED, m.Recall(reason="The partner was terminated")),
]


@pytest.mark.parametrize(("state", "command"), REACTIONS)
def test_the_system_decides_only_as_a_reaction(state: ld.Lead, command: Any) -> None:
    named = command.model_copy(update={"deciding_event": "partner/7"})
    assert fields(answer(state, command, SYSTEM)) == ["deciding_event", "onbehalfof"]
    assert fields(answer(state, named, SYSTEM)) == ["onbehalfof"]
    assert fields(answer(state, command, REACTION)) == ["deciding_event"]
    event: Any = only(answer(state, named, REACTION))
    assert event.deciding_event == "partner/7"


def test_the_clock_stands_still_while_the_partner_is_asked() -> None:
    asked = told(SUBMITTED, m.RequestInformation(note="?"), at=NOW + timedelta(hours=3))  # 15 of 18 working hours left
    assert asked.sla_due_at is None
    back = told(asked, m.Resubmit(external_id="R-1"), at=datetime.fromisoformat("2026-03-16T09:00Z"))
    assert (back.sla_warn_at, back.sla_due_at) == (
        datetime.fromisoformat("2026-03-16T15:00Z"),
        datetime.fromisoformat("2026-03-17T15:00Z"),
    )


def test_what_was_warned_of_before_the_question_is_not_again() -> None:
    assert SUBMITTED.sla_warn_at
    late = told(SUBMITTED, m.WarnSla(due=SUBMITTED.sla_warn_at), at=SUBMITTED.sla_warn_at)
    back = told(late, m.RequestInformation(note="?"), m.Resubmit(external_id="R-1"), at=SUBMITTED.sla_warn_at)
    assert back.sla_warn_at is None
    assert back.sla_due_at == SUBMITTED.sla_due_at


@pytest.mark.parametrize(
    ("days", "given", "keeps"),
    [
        (5, {"external_id": "R-1"}, True),
        (6, {"external_id": "R-1"}, False),
        (1, {"customer": CUSTOMER.model_copy(update={"phone": "+55 51 99999-0000"})}, True),
        (1, {"customer": CUSTOMER.model_copy(update={"customer_id": "C-1"})}, False),
        (1, {"customer": CUSTOMER.model_copy(update={"domains": ("lojas.example",)})}, False),
        (1, {"customer": INDIVIDUAL}, False),
    ],
)  # fmt: skip
def test_an_answer_keeps_the_place_if_it_comes_soon_and_is_about_the_same_customer(
    days: int, given: dict[str, Any], keeps: bool
) -> None:
    at = NOW + timedelta(days=days)
    event: Any = only(answer(ASKED, m.Resubmit(**given), PA, at))
    assert event.keeps_place is keeps
    state = ld.evolve(ASKED, event)
    assert state.place_version == (1 if keeps else state.version)
    assert state.identity_version == state.version


def test_an_answer_may_not_clear_what_is_needed_nor_become_a_duplicate() -> None:
    assert fields(answer(ASKED, m.Resubmit(customer=None, product_lines=()), PA)) == ["customer", "product_lines"]
    other = [live(100, customer_keys=frozenset({KEY}), product_lines=frozenset({"shelves"}))]
    more = m.Resubmit(product_lines=("scales", "shelves"))
    assert code(answer(ASKED, more, PA, live_registrations=other)) == "lead.duplicate_registration"
    assert code(answer(ASKED, m.Resubmit(product_lines=("robots",)), PA)) == "partner.not_authorised"


def test_reverting_releases_the_claim_and_asks_for_cap_and_duplicates() -> None:
    revert = m.Revert(reason="The wrong one")
    state = told(APPROVED, revert)
    assert state.status == "in_review"
    assert not ld.claims_held(LEAD, state)
    assert code(answer(state, m.Approve())) == "lead.not_screened"
    full = [live(number) for number in range(100, 125)]
    assert code(answer(LEADS["rejected"], revert, live_registrations=full)) == "lead.cap_reached"
    same = [live(100, customer_keys=frozenset({KEY}))]
    assert code(answer(LEADS["rejected"], revert, live_registrations=same)) == "lead.duplicate_registration"


# Protection


def test_a_protection_is_extended_once_and_only_where_something_happens() -> None:
    extend = m.Extend(evidence="The tender was put off")
    at = NOW + timedelta(days=80)
    assert code(answer(APPROVED, extend, at=at)) == "lead.no_recent_activity"
    old = told(APPROVED, ACTIVITY.model_copy(update={"happened_on": date(2026, 4, 1)}), at=at)
    assert code(answer(old, extend, at=at)) == "lead.no_recent_activity"
    event: Any = only(answer(told(APPROVED, ACTIVITY, at=at), extend, at=at))
    assert (event.previous_until, event.protected_until) == (UNTIL, UNTIL + timedelta(days=30))
    extended = told(told(APPROVED, ACTIVITY, at=at), extend, at=at)
    assert code(answer(extended, extend, at=at)) == "lead.extension_limit"
    assert code(answer(extended, m.RequestExtension(evidence="Again"), at=at)) == "lead.extension_limit"


def test_an_activity_on_its_opportunity_counts_too() -> None:
    converted, at = LEADS["converted"], NOW + timedelta(days=80)
    deal = ld.opportunity_of(LEAD)
    assert ld.AGGREGATE.needs(converted, m.Extend()).opportunities == {deal}
    busy = {deal: o.Opportunity(status="open", moved_at=at - timedelta(days=2))}
    assert code(answer(converted, m.Extend(), at=at, opportunities=busy)) == "accepted"


def test_an_extension_does_not_reach_into_another_protection() -> None:
    state = told(APPROVED, ACTIVITY)
    later = rival(valid_from=UNTIL + timedelta(days=3), until=UNTIL + timedelta(days=93))
    assert code(answer(state, m.Extend(), claims=[later])) == "lead.already_protected"


@pytest.mark.parametrize("command", [m.Extend(), m.RequestExtension(evidence="The tender was put off")])
def test_a_converted_lead_without_protection_has_nothing_to_extend(command: Command) -> None:
    bare = told(LEADS["converted"], m.Revoke(reason="The customer asked for it"))
    assert (bare.status, bare.protected) == ("converted", False)
    assert code(answer(bare, command)) == "lead.not_protected"
    assert answer(bare, m.Revoke(reason="Again")) == ()


def test_a_captured_lead_asks_for_no_extension() -> None:
    refused = answer(LEADS["converted, captured"], m.RequestExtension(evidence="The tender was put off"), PA)
    assert isinstance(refused, Refused)
    assert (refused.code, "captured" in refused.sentence) == ("state.not_allowed", True)


@pytest.mark.parametrize(
    ("name", "revoked", "expired"),
    [
        ("approved", "revoked", "expired"),
        ("converted", "converted", "converted"),
        ("accepted", "qualified", "qualified"),
        ("working", "qualified", "qualified"),
        ("converted, captured", "converted", "converted"),
    ],
)
def test_where_a_lead_goes_without_its_protection(name: str, revoked: str, expired: str) -> None:
    state = LEADS[name]
    assert state.protected_until
    after = told(state, m.Revoke(reason="The customer asked for it"))
    assert (after.status, after.protected) == (revoked, False)
    late = told(state, m.Expire(due=state.protected_until), at=state.protected_until + timedelta(days=3))
    assert (late.status, late.protected) == (expired, False)
    assert (late.partner_id is None) == (expired == "qualified")


def test_fewer_product_lines_free_the_rest_and_a_new_customer_must_be_free() -> None:
    both = told(SUBMITTED, m.RequestInformation(note="?"), m.Resubmit(product_lines=("scales", "shelves")))
    approved = told(both, m.Screen(version=both.version), m.Approve())
    less = told(approved, m.Correct(product_lines=("scales",), reason="No shelves"))
    assert {claim.product_lines for claim in ld.claims_held(LEAD, less)} == {frozenset({"scales"})}
    assert less.identity_version == less.version
    other = m.Correct(customer=GivenCustomer(name="Lojas Norte", customer_id="C-9"), reason="The wrong one")
    held = rival(key="id:C-9")
    assert code(answer(approved, other, claims=[held])) == "lead.already_protected"
    assert {claim.customer_key for claim in ld.claims_held(LEAD, told(approved, other))} == {"id:C-9"}


def test_a_correction_that_changes_nothing_says_nothing() -> None:
    assert answer(APPROVED, m.Correct(deal_type="new", reason="Sure")) == ()


def test_a_transfer_moves_the_claim_and_asks_what_a_registration_asks() -> None:
    transfer = m.Transfer(partner_id=BETA, reason="The customer asked for it")
    state = told(APPROVED, transfer)
    assert {(claim.partner_id, claim.until) for claim in ld.claims_held(LEAD, state)} == {(BETA, UNTIL)}
    assert state.owner is None
    for known in (
        {"partners": {ACME: ACTIVE}},
        {"partners": {ACME: ACTIVE, BETA: replace(ACTIVE, status="suspended")}},
        {"partners": {ACME: ACTIVE, BETA: replace(ACTIVE, authorisations={})}},
        {"live_registrations": [live(number, partner_id=BETA) for number in range(100, 125)]},
        {"live_registrations": [live(100, partner_id=BETA, customer_keys=frozenset({KEY}))]},
    ):
        assert isinstance(answer(APPROVED, transfer, **known), Refused)


@pytest.mark.parametrize(
    ("given", "ends"),
    [
        ({}, True),
        ({"partners": (BETA,)}, False),  # somebody else's opportunity named this lead
        ({"opportunity_id": DEAL}, False),  # the lead has its own
    ],
)
def test_the_end_of_its_opportunity_ends_the_protection_of_the_lead(given: dict[str, Any], ends: bool) -> None:
    command = o.EndProtection(
        **{"outcome": "lost", "opportunity_id": ld.opportunity_of(LEAD), "partners": (ACME,), **given}
    )
    decision = answer(LEADS["converted"], command, SYSTEM)
    assert len(events(decision)) == ends
    assert told(LEADS["converted"], command).protected is not ends


# Conversion


def test_converting_opens_the_opportunity_with_what_the_lead_knows() -> None:
    converted, opening = converting(APPROVED, CONVERT)
    assert converted.opportunity_id == opening.subject == ld.opportunity_of(LEAD)
    known = facts(PA, opening.subject)
    opened: Any = only(o.decide(o.Opportunity(), opening.command, known))
    assert (opened.name, opened.lead_id, opened.partner_id, opened.owner) == ("Stock counts", LEAD, ACME, "ana")
    assert opened.customer == CUSTOMER.stored()
    assert (opened.amount, opened.customer_keys) == (MONEY.stored(), (KEY,))
    assert [product.line for product in opened.products] == ["scales"]


def test_what_is_sealed_goes_over_as_it_is() -> None:
    token = "~1.6a1f0c1e93a44a0e8a550d7c5b1f2e3d." + "A" * 400
    individual = TaxId(country="BR", value=token, kind="cpf")
    customer = CUSTOMER.stored().model_copy(update={"name": token, "tax_ids": (individual,)})
    state = replace(APPROVED, customer=customer, business_problem=token)
    _converted, opening = converting(state, CONVERT)
    opened: Any = only(o.decide(o.Opportunity(), opening.command, facts(PA, opening.subject)))
    assert (opened.customer.name, opened.customer.tax_ids[0].value, opened.business_problem) == (token,) * 3


def test_the_opportunitys_reason_refuses_the_conversion() -> None:
    _converted, opening = converting(APPROVED, m.Convert())
    assert fields(o.decide(o.Opportunity(), opening.command, facts(PA, opening.subject))) == ["name", "next_action"]


def test_an_import_names_an_opportunity_that_is_there_already() -> None:
    there = m.Convert(opportunity_id=DEAL)
    event: Any = only(answer(APPROVED, there, IMPORT))
    assert event.opportunity_id == DEAL
    assert fields(answer(APPROVED, there)) == ["opportunity_id"]


# Handing out


OFFER_REFUSED: list[tuple[str, ld.Lead, dict[str, Any]]] = [
    ("partner.not_found", CAPTURED, {"partners": {}}),
    ("partner.not_active", CAPTURED, {"partners": {ACME: replace(ACTIVE, status="suspended")}}),
    ("partner.not_authorised", CAPTURED, {"partners": {ACME: replace(ACTIVE, authorisations={})}}),
    ("lead.partner_declined_before", told(OFFERED, m.Decline(reason="no_capacity")), {}),
    (
        "lead.partner_at_capacity",
        CAPTURED,
        {
            "partners": {ACME: replace(ACTIVE, capacity=p.Capacity(open_leads=1))},
            "live_registrations": [live(100, origin="captured")],
        },
    ),
    ("lead.already_protected", CAPTURED, {"claims": [rival()]}),
]


@pytest.mark.parametrize(("why", "state", "known"), OFFER_REFUSED)
def test_an_offer_is_refused(why: str, state: ld.Lead, known: dict[str, Any]) -> None:
    assert code(answer(state, OFFER, **known)) == why


def test_an_offer_is_answered_in_time_or_goes_back() -> None:
    assert OFFERED.respond_by == NOW + timedelta(hours=24)
    late = NOW + timedelta(hours=25)
    assert code(answer(OFFERED, ACCEPT, PA, late)) == "state.not_allowed"
    state = told(OFFERED, m.ExpireOffer(due=OFFERED.respond_by), at=late)
    assert (state.status, state.partner_id) == ("qualified", None)
    assert fields(answer(CAPTURED, OFFER.model_copy(update={"respond_by": NOW}))) == ["respond_by"]


def test_accepting_protects_for_the_policys_time_and_starts_the_clocks() -> None:
    assert (ACCEPTED.protected_until, ACCEPTED.contact_by, ACCEPTED.recall_at) == (
        NOW + timedelta(days=30),
        NOW + timedelta(hours=72),
        NOW + timedelta(days=7),
    )
    assert code(answer(OFFERED, ACCEPT, claims=[rival()])) == "lead.already_protected"
    assert fields(answer(OFFERED, m.Accept())) == ["next_action"]
    suspended = {ACME: replace(ACTIVE, status="suspended")}
    assert code(answer(OFFERED, ACCEPT, partners=suspended)) == "partner.not_active"


def test_what_its_partner_does_moves_the_recall_and_what_the_vendor_does_not() -> None:
    at = NOW + timedelta(days=5)
    busy = ld.evolve(CONTACTED, only(answer(CONTACTED, ACTIVITY, PA, at)))
    assert busy.recall_at == at + timedelta(days=7)
    watched = ld.evolve(CONTACTED, only(answer(CONTACTED, ACTIVITY, CM, at)))
    assert watched.recall_at == CONTACTED.recall_at
    idle = m.Recall(reason="Nothing happens", due=NOW + timedelta(days=7))
    assert answer(busy, idle, SYSTEM, NOW + timedelta(days=8)) == ()
    recalled = answer(CONTACTED, idle, SYSTEM, NOW + timedelta(days=8))
    assert only(recalled) == m.Recalled(
        partner_id=ACME, previous="contacted", reason="Nothing happens", due=NOW + timedelta(days=7)
    )


def test_a_lead_that_nobody_has_is_not_transferred() -> None:
    assert code(answer(CAPTURED, m.Transfer(partner_id=BETA, reason="Why not"))) == "lead.not_assigned"


def test_the_partner_that_is_offered_a_lead_speaks_for_it_and_no_other_does() -> None:
    for state in (CAPTURED, WORKING):
        stranger = Actor("zoe", PA.role, str(BETA))
        assert code(answer(state, m.Comment(text="Ours?"), stranger)) == "actor.forbidden"
    assert code(answer(OFFERED, m.Comment(text="Who is it?"), PA)) == "accepted"
    assert code(answer(WORKING, m.Comment(text="Hush", visibility="internal"), PA)) == "command.invalid"


def test_the_owner_is_an_active_user_of_the_partner() -> None:
    staffed = {ACME: replace(ACTIVE, users={"bia": p.Member("partner_rep", "active")})}
    assert code(answer(APPROVED, m.AssignOwner(owner="zoe"), partners=staffed)) == "lead.owner_outside_organisation"
    assert code(answer(APPROVED, m.AssignOwner(owner="bia"), partners=staffed)) == "accepted"


# Deadlines

DEADLINES: list[tuple[ld.Lead, type[Any], str, type[Any]]] = [
    (SUBMITTED, m.WarnSla, "sla_warn_at", m.SlaWarned),
    (SUBMITTED, m.BreachSla, "sla_due_at", m.SlaBreached),
    (ASKED, m.Lapse, "lapse_at", m.Lapsed),
    (APPROVED, m.Expire, "protected_until", m.ProtectionExpired),
    (OFFERED, m.ExpireOffer, "respond_by", m.OfferExpired),
    (ACCEPTED, m.RemindContact, "contact_by", m.ContactOverdue),
]


@pytest.mark.parametrize(("state", "command", "name", "event"), DEADLINES)
def test_a_deadline_is_early_due_late_or_no_longer_there(state: ld.Lead, command: Any, name: str, event: Any) -> None:
    due: datetime = getattr(state, name)
    early, late = due - timedelta(microseconds=1), due + timedelta(hours=5)
    assert code(answer(state, command(due=due), SYSTEM, early)) == "deadline.early"
    assert answer(state, command(due=due - timedelta(days=1)), SYSTEM, early) == ()  # it has moved
    for at in (due, late):
        happened: Any = only(answer(state, command(due=due), SYSTEM, at))
        assert isinstance(happened, event)
        assert due in dict(happened).values()


def test_each_reminder_of_a_protection_is_sent_once() -> None:
    first, second = APPROVED.remind_at[:2]
    event: Any = only(answer(APPROVED, m.RemindProtection(due=first), SYSTEM, first))
    assert (event.days, event.protected_until) == (30, UNTIL)
    reminded = ld.evolve(APPROVED, event)
    assert answer(reminded, m.RemindProtection(due=first), SYSTEM, second) == ()
    assert code(answer(reminded, m.RemindProtection(due=second), SYSTEM, first)) == "deadline.early"


def test_what_comes_after_the_end_of_a_protection_meets_the_state_after_it() -> None:
    late = UNTIL + timedelta(seconds=1)
    assert code(answer(APPROVED, CONVERT, PA, late)) == "state.not_allowed"
    expired, commented = events(answer(LEADS["converted"], m.Comment(text="Still here"), at=late))
    assert expired == m.ProtectionExpired(status="converted", expired_at=UNTIL)
    assert isinstance(commented, m.Commented)


def test_a_policy_of_seconds_shows_everything_at_work() -> None:
    rules = numbers(protection=timedelta(seconds=3), reminders=(timedelta(seconds=1), timedelta(seconds=5)))
    event: Any = only(answer(SUBMITTED, m.Approve(), policy=rules))
    assert event.protected_until == NOW + timedelta(seconds=3)
    assert event.remind_at == (NOW + timedelta(seconds=2),)  # the other would lie in the past


# What counts against the partner


@pytest.mark.parametrize("name", LEADS)
def test_what_counts_against_the_partner(name: str) -> None:
    state = LEADS[name]
    counted = ld.live_registration(LEAD, state)
    registered = ("submitted", "in_review", "action_required", "approved")
    captured = ("offered", "accepted", "contacted", "working")
    assert (counted is not None) == (state.status in registered + captured)
    if counted is not None:
        assert (counted.origin, counted.partner_id) == (state.origin, ACME)
        assert counted.customer_keys == {KEY}


def test_a_decision_says_what_it_needs() -> None:
    register = ld.AGGREGATE.needs(ld.Lead(), REGISTER)
    assert register.partners == register.registrations_of == {ACME}
    assert register.customer_keys == {KEY, "tax:BR:cnpj:11222333000181"}
    approve = ld.AGGREGATE.needs(SUBMITTED, m.Approve())
    assert approve.customer_keys == {KEY}
    assert approve.partners == {ACME}
    assert approve.matches
    transfer = ld.AGGREGATE.needs(SUBMITTED, m.Transfer(partner_id=BETA, reason="Why not"))
    assert transfer.partners == transfer.registrations_of == {ACME, BETA}


def test_amounts_of_another_currency_have_no_minimum() -> None:
    dollars = REGISTER.model_copy(update={"amount": GivenMoney(amount=Decimal(1), currency="USD")})
    assert code(answer(ld.Lead(), dollars, PA, policy=numbers(minimum_amounts={"BRL": Decimal(10)}))) == "accepted"
