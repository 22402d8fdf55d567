"""Given and when, for the tests of the aggregates: facts, states, and a valid example of every command."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any
from uuid import UUID

from prm_es.aggregates import lead as ld
from prm_es.aggregates import lead_messages as m
from prm_es.aggregates import opportunity as o
from prm_es.aggregates import partner as p
from prm_es.aggregates import policy
from prm_es.aggregates.base import Aggregate, Command, Decision, Event, Facts, Refused, authorise
from prm_es.aggregates.fields import GivenCustomer, GivenMoney, GivenTaxId
from prm_es.messages import PARTNER_ROLES, VENDOR, Actor, Role

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
TODAY = NOW.date()
DEAL, ACME, BETA, STRANGER, GOAL, LEAD, RIVAL = (UUID(int=number) for number in range(1, 8))
PROBLEM = "Their stock counts are two weeks old when they reach head office."

ACTIVE = p.Partner(status="active", legal_name="Acme", authorisations={"scales": None, "shelves": None})
PARTNERS: Mapping[UUID, p.Partner] = {ACME: ACTIVE, BETA: replace(ACTIVE, legal_name="Beta")}


def by(role: Role, org: str | None = None, name: str = "ana") -> Actor:
    return Actor(name, role, org or (str(ACME) if role in PARTNER_ROLES else VENDOR))


CM = by(Role.CHANNEL_MANAGER)
PA = by(Role.PARTNER_ADMIN)
PR = by(Role.PARTNER_REP)
SYSTEM = Actor("prm-es", Role.SYSTEM)
REACTION = Actor("prm-es", Role.SYSTEM, on_behalf_of="carla")
IMPORT = Actor("crm", Role.INTEGRATION, on_behalf_of="bruno")


def facts(actor: Actor = CM, subject: UUID = DEAL, at: datetime = NOW, **known: Any) -> Facts:
    numbers = known.pop("policy", policy.default())
    known.setdefault("partners", PARTNERS)
    return Facts(now=at, today=at.date(), actor=actor, policy=numbers, subject=subject, **known)


def ask(aggregate: Aggregate, state: Any, command: Command, known: Facts) -> Decision:
    """Decide as dispatch does: first who may, then what follows."""
    return authorise(aggregate, state, command, known) or aggregate.decide(state, command, known)


def after(aggregate: Aggregate, *events: Event) -> Any:
    return reduce(aggregate.evolve, events, aggregate.initial)


def code(decision: Decision) -> str:
    return decision.code if isinstance(decision, Refused) else "accepted"


def fields(decision: Decision) -> list[str]:
    assert isinstance(decision, Refused)
    return [error.field for error in decision.errors]


def only(decision: Decision) -> Event:
    assert not isinstance(decision, Refused), decision
    (event,) = decision
    assert isinstance(event, Event)
    return event


def events(decision: Decision) -> list[Event]:
    assert not isinstance(decision, Refused), decision
    return [one for one in decision if isinstance(one, Event)]


# Opportunity

SNAPSHOT: dict[str, Any] = {"probability": 10, "category": "pipeline", "policy_version": 0}
OPENED = o.Opened(
    stage="prospect", **SNAPSHOT, partner_id=ACME, partner_role="selling", opened_by="ana", owner="ana", name="Stock"
)
WON = o.Won(stage="won", **SNAPSHOT, previous="prospect", closed_on=TODAY, closed_at=NOW, order_reference="PO-1")
LOST = o.Lost(stage="lost", **SNAPSHOT, previous="prospect", closed_on=TODAY, closed_at=NOW, reason="price")
NEXT = o.GivenNextAction(text="Call the head of stores", due_on=date(2026, 3, 17))
MONEY = GivenMoney(amount=Decimal("1000.00"), currency="BRL")
OPEN = o.Open(
    name="Stock counts",
    customer=GivenCustomer(name="Lojas Sul"),
    partner_id=ACME,
    deal_type="new",
    next_action=NEXT,
)

DEALS: Mapping[str, o.Opportunity] = {
    "none": o.Opportunity(),
    "open": after(o.AGGREGATE, OPENED),
    "won": after(o.AGGREGATE, OPENED, WON),
    "lost": after(o.AGGREGATE, OPENED, LOST),
}
DEAL_COMMANDS: list[Command] = [
    OPEN,
    o.ChangeStage(stage="prospect"),
    o.ChangeDetails(name="Stock counts, all shops"),
    o.SetNextAction(text="Call", due_on=TODAY),
    o.CompleteNextAction(),
    o.OverrideForecast(category="commit", reason="The buyer said yes"),
    o.LogActivity(kind="call", summary="Talked about the stock"),
    o.Comment(text="Good news"),
    o.RequestHelp(topic="technical", note="How does it count?"),
    o.AssignOwner(owner="bia"),
    o.AddPartner(partner_id=BETA, role="implementation"),
    o.RemovePartner(partner_id=BETA),
    o.ChangePartnerOfRecord(partner_id=BETA, reason="The customer asked for it"),
    o.SetCreditSplit(type="revenue", shares=(o.GivenShare(partner_id=ACME, percent=Decimal(100)),)),
    o.Win(final_amount=MONEY, order_reference="PO-1"),
    o.Lose(reason="price"),
    o.Reopen(reason="They changed their mind"),
    o.MarkStalled(due=NOW),
]

# Partner

IMPORTED = p.Imported(status="active", imported_at=NOW, legal_name="Acme", country="BR", types=("reseller",))
SIGNED = p.AgreementSigned(reference="A-1", signed_on=TODAY)
APPLY = p.Apply(legal_name="Acme", country="BR", types=("reseller",))


def _partner(status: str) -> p.Partner:
    state: p.Partner = after(p.AGGREGATE, IMPORTED.model_copy(update={"status": status}), SIGNED)
    return replace(state, rejected_at=NOW - timedelta(days=200))


STATUSES = (*p.LIVE, "terminated")
PARTNER_STATES: Mapping[str, p.Partner] = {"none": p.Partner(), **{status: _partner(status) for status in STATUSES}}
PARTNER_COMMANDS: list[Command] = [
    p.Invite(legal_name="Acme"),
    APPLY,
    p.Import(legal_name="Acme", status="active"),
    p.DeclineInvitation(),
    p.StartReview(),
    p.Approve(),
    p.Reject(reason="No shops of its own"),
    p.StartOnboarding(),
    p.CompleteTask(task="training"),
    p.Activate(),
    p.Suspend(reason="Unpaid invoices"),
    p.Reinstate(),
    p.Terminate(reason="Closed down"),
    p.UpdateProfile(trade_name="Acme Sul"),
    p.AssignChannelManager(channel_manager="carla"),
    p.SetTerritories(territories=("BR-RS",)),
    p.SetCapacity(open_leads=10),
    p.ChangeTier(tier="gold", reason="Yearly review"),
    p.GrantAuthorisation(product_line="scales"),
    p.RevokeAuthorisation(product_line="scales"),
    p.SignAgreement(reference="A-2", signed_on=TODAY),
    p.PutOnNotice(reason="No sales"),
    p.ClearNotice(),
    p.SetGoal(goal_id=GOAL, metric="won_amount", period="2026-Q1", target=Decimal(1000), currency="BRL"),
    p.WithdrawGoal(goal_id=GOAL),
    p.InviteUser(user_id="bia", role="partner_rep", name="Bia", email="bia@acme.example"),
    p.ChangeUserRole(user_id="bia", role="partner_rep"),
    p.DeactivateUser(user_id="bia"),
]

# Lead

CUSTOMER = GivenCustomer(
    name="Lojas Sul",
    country="BR",
    tax_ids=(GivenTaxId(country="BR", value="11.222.333/0001-81"),),
    domains=("www.lojas-sul.example",),
)
KEY = "tax:BR:cnpj:11222333"
REGISTER = m.Register(
    partner_id=ACME,
    customer=CUSTOMER,
    product_lines=("scales",),
    deal_type="new",
    amount=MONEY,
    expected_close_on=date(2026, 6, 30),
    business_problem=PROBLEM,
)
CAPTURE = m.Capture(customer=CUSTOMER, product_lines=("scales",), source="fair")
SCREEN = m.Screen(version=1)
ACCEPT = m.Accept(next_action=NEXT)
OFFER = m.Offer(partner_id=ACME, strategy="manual", candidates=(m.GivenCandidate(partner_id=ACME),))
SENDERS: Mapping[str, Actor] = {
    **{command.NAME: PA for command in (m.Resubmit, m.Withdraw, m.Open, m.Accept, m.Decline, m.RecordContact)},
    **{command.NAME: PA for command in (m.StartWork, m.RequestExtension)},
    **{command.NAME: SYSTEM for command in (m.Screen, m.Lapse, m.Expire, m.ExpireOffer, m.RemindProtection)},
    **{command.NAME: SYSTEM for command in (m.WarnSla, m.BreachSla, m.RemindContact, o.EndProtection)},
    m.Revert.NAME: by(Role.VENDOR_ADMIN),
}


def told(state: ld.Lead, *commands: Command, at: datetime = NOW, **known: Any) -> ld.Lead:
    """Give the lead after commands, each of somebody who may send it."""
    for command in commands:
        decision = ask(ld.AGGREGATE, state, command, facts(SENDERS.get(command.NAME, CM), LEAD, at, **known))
        for event in events(decision):
            state = ld.evolve(state, event)
    return state


SUBMITTED = told(ld.Lead(), REGISTER, SCREEN)
APPROVED = told(SUBMITTED, m.Approve())
ASKED = told(SUBMITTED, m.RequestInformation(note="Who have you met?"))
CAPTURED = told(ld.Lead(), CAPTURE)
OFFERED = told(CAPTURED, m.Qualify(), OFFER)
ACCEPTED = told(OFFERED, m.Open(), ACCEPT)
CONTACTED = told(ACCEPTED, m.RecordContact(kind="call"))
WORKING = told(CONTACTED, m.StartWork())
CONVERT = m.Convert(name="Stock counts", next_action=NEXT, deal_type="new")
LEADS: Mapping[str, ld.Lead] = {
    "none": ld.Lead(),
    "submitted": SUBMITTED,
    "in_review": told(SUBMITTED, m.StartReview()),
    "action_required": ASKED,
    "approved": APPROVED,
    "converted": told(APPROVED, CONVERT),
    "rejected": told(SUBMITTED, m.Reject(reason="other")),
    "withdrawn": told(SUBMITTED, m.Withdraw()),
    "lapsed": told(ASKED, m.Lapse(due=NOW + timedelta(days=30)), at=NOW + timedelta(days=30)),
    "expired": told(APPROVED, m.Expire(due=NOW), at=NOW + timedelta(days=90)),
    "revoked": told(APPROVED, m.Revoke(reason="The customer asked for it")),
    "new": CAPTURED,
    "qualified": told(CAPTURED, m.Qualify()),
    "offered": OFFERED,
    "accepted": ACCEPTED,
    "contacted": CONTACTED,
    "working": WORKING,
    "converted, captured": told(WORKING, CONVERT),
    "disqualified": told(WORKING, m.Disqualify(reason="no_need")),
}
ACTIVITY = m.LogActivity(kind="call", summary="Talked about the stock")
LEAD_COMMANDS: list[Command] = [
    REGISTER,
    CAPTURE,
    SCREEN,
    m.ResolveMatch(other_lead=RIVAL, outcome="not_a_conflict"),
    m.StartReview(),
    m.RequestInformation(note="Who have you met?", fields=("contact",)),
    m.Resubmit(external_id="R-1"),
    m.Approve(),
    m.Reject(reason="not_qualified"),
    m.Withdraw(),
    m.Lapse(due=NOW),
    m.RequestExtension(evidence="The tender was put off"),
    m.Extend(evidence="The tender was put off"),
    m.Correct(external_id="R-1", reason="A typing error"),
    m.Transfer(partner_id=BETA, reason="The customer asked for it"),
    m.AssignOwner(owner="bia"),
    m.WarnSla(due=NOW),
    m.BreachSla(due=NOW),
    m.RemindProtection(due=NOW),
    o.EndProtection(outcome="won", opportunity_id=DEAL, partners=(ACME,)),
    CONVERT,
    m.Expire(due=NOW),
    m.Revoke(reason="The customer asked for it"),
    m.Revert(reason="The wrong one"),
    ACTIVITY,
    m.Comment(text="Good news"),
    m.Qualify(score=70),
    OFFER,
    m.Open(),
    ACCEPT,
    m.Decline(reason="no_capacity"),
    m.ExpireOffer(due=NOW),
    m.Recall(reason="Nothing happens"),
    m.RecordContact(kind="call"),
    m.StartWork(),
    m.Disqualify(reason="no_need"),
    m.RemindContact(due=NOW),
]
