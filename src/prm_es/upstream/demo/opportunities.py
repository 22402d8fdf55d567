"""Opportunities of the made-up world: most are worked from the first talk to the end, some are left lying."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from prm_es.aggregates.lead import opportunity_of
from prm_es.upstream.demo import words
from prm_es.upstream.demo.world import Lead, Seller, Story, World, domain, person

STAGES: Final = ("prospect", "qualified", "technical_validation", "business_validation", "committed")
# The chance that a deal of an average partner is lost in this stage, and the days that it stays there.
LOST: Final = (0.14, 0.16, 0.15, 0.12, 0.06)
DAYS: Final = ((4, 25), (6, 30), (8, 35), (6, 28), (3, 20))
LOST_REASONS: Final = {
    "price": 22,
    "no_decision": 20,
    "competitor": 20,
    "budget_lost": 10,
    "delayed": 9,
    "no_need": 6,
    "technical_fit": 6,
    "relationship": 3,
    "partner_capability": 2,
    "not_given": 2,
}
_COUNT: Final = 1500
_IDLE: Final = 0.035
_REOPENED: Final = 0.08
_EVERY: Final = 125  # so many opportunities to one mistake of the sender


@dataclass
class _Deal:
    """An opportunity that is being told."""

    world: World
    story: Story
    number: int
    seller: Seller
    user: str
    customer: dict[str, Any]
    products: list[dict[str, Any]]
    amount: Decimal
    known: set[str] = field(default_factory=set)
    closed_at: datetime | None = None

    def chance(self, of: float) -> bool:
        """Throw the dice."""
        return self.world.chance(of)

    def money(self, amount: Decimal | None = None) -> dict[str, str]:
        """Write an amount in the currency of the seller's country; the deal's own if none is given."""
        return {"amount": str(self.amount if amount is None else amount), "currency": self.seller.place.currency}

    def next_action(self, days: int) -> dict[str, str]:
        """Make up what to do next, due within so many days."""
        due = self.story.day(1 + self.world.random.randrange(days))
        return {"text": self.world.random.choice(words.NEXT_ACTIONS), "due_on": due, "owner": self.user}


def make(world: World) -> None:
    """Tell the opportunities that no lead has led to."""
    while world.deals < _COUNT:
        deal = _deal(world)
        _open(deal)
        _work(deal)


def _deal(world: World) -> _Deal:
    random = world.random
    begins = world.moment()
    while not (selling := world.selling(begins)):
        begins = world.moment()
    seller = world.seller(selling)
    near = [one for one in world.customers if one["country"] == seller.place.country]
    customer = random.choice(near if random.random() < 9 / 10 else world.customers)
    story = world.story("opportunity", f"O-{world.deals + 1:05}", begins)
    story.wait(0, 1)
    wanted, amount = products(world, seller)
    world.deals += 1
    return _Deal(world, story, world.deals - 1, seller, random.choice(seller.users), customer, wanted, amount)


def products(world: World, seller: Seller) -> tuple[list[dict[str, Any]], Decimal]:
    """Make up what a customer wants of what the seller may sell, and what it costs in the seller's currency."""
    random = world.random
    chosen = random.sample(seller.lines, random.choices((1, 2, 3), (6, 3, 1))[0])
    return priced(world, seller, chosen)


def priced(world: World, seller: Seller, lines: Sequence[tuple[str, str, int]]) -> tuple[list[dict[str, Any]], Decimal]:
    """Make up quantities of these product lines, and what they cost in the seller's currency."""
    random = world.random
    wanted, amount = [], Decimal(0)
    for line, name, price in lines:
        quantity = 5 * random.randrange(1, 60) if random.random() < 4 / 5 else 50 * random.randrange(6, 30)
        wanted.append({"line": line, "name": name, "quantity": quantity})
        amount += quantity * price * seller.place.rate
    return wanted, amount


def converted(lead: Lead) -> datetime | None:
    """Convert a lead at its time, and tell the opportunity; gives when that was closed, None if it never was."""
    world = lead.world
    if lead.story.over:
        return None
    world.deals += 1
    at = lead.story.at + timedelta(minutes=5)
    story = Story(world, "opportunity", f"{lead.story.external_id}-O", opportunity_of(lead.story.id), at)
    story.thread = lead.story.thread
    deal = _Deal(
        world, story, world.deals - 1, lead.seller, lead.user, lead.customer, lead.products, lead.amount,
        known={"amount", "business_problem"},
    )  # fmt: skip
    lead.story.do(
        "convert",
        lead.user,
        name=_name(deal),
        partner_role=_role(deal),
        owner=lead.user,
        amount=deal.money(),
        next_action=deal.next_action(21),
    )
    _work(deal)
    return deal.closed_at


def _name(deal: _Deal) -> str:
    return f"{deal.products[0]['name']} for {deal.customer['name']}"[:200]


def _role(deal: _Deal) -> str:
    return "referral" if deal.seller.types[0] == "referral" else "selling"


# The course of a deal


def _open(deal: _Deal) -> None:
    world, story = deal.world, deal.story
    story.do(
        "open",
        deal.user,
        name=_name(deal),
        external_id=story.external_id,
        partner_id=str(deal.seller.id),
        partner_role=_role(deal),
        customer=deal.customer,
        deal_type=world.random.choices(("new", "expansion", "renewal"), (6, 3, 1))[0],
        products=[{"line": product["line"], "name": product["name"]} for product in deal.products],
        amount=deal.money() if deal.chance(2 / 3) else None,
        owner=deal.user,
        next_action=deal.next_action(21),
        competitors=[world.random.choice(words.COMPETITORS)] if deal.chance(1 / 5) else None,
    )
    if deal.number % _EVERY == 1:  # sent twice under another id
        story.mistake("aggregate.already_exists", "open", deal.user, partner_id=str(deal.seller.id))


def _work(deal: _Deal) -> None:
    for place in range(len(STAGES)):
        _stay(deal, place)
        if deal.chance(_IDLE):
            return
        if deal.chance(LOST[place] / deal.seller.skill):
            _lose(deal)
            return
        if place + 1 < len(STAGES):
            _advance(deal, place + 1)
    _win(deal)


def _stay(deal: _Deal, place: int) -> None:
    """Let the time of a stage pass, with what happens in it."""
    least, most = DAYS[place]
    first = deal.world.random.random()
    deal.story.wait(least * first, most * first)
    _talk(deal)
    if place and deal.chance(1 / 5):
        _change(deal)
    if place > 1 and deal.chance(1 / 25):
        _fall_back(deal, place)
    deal.story.wait(least * (1 - first), most * (1 - first))


def _advance(deal: _Deal, place: int) -> None:
    world, story = deal.world, deal.story
    details = {name: value for name, value in _entry(deal, place).items() if name not in deal.known}
    deal.known |= details.keys()
    if details:
        story.do("change_details", deal.user, **details)
    if deal.chance(2 / 3):
        story.do("complete_next_action", deal.user)
    story.do("change_stage", deal.user, stage=STAGES[place], next_action=deal.next_action(DAYS[place][1]))
    if place == len(STAGES) - 1 and deal.chance(1 / 8):
        reason = "The signature moves into the next quarter."
        story.do("override_forecast", deal.seller.manager, category="best_case", reason=reason)
    if place == 2 and deal.chance(1 / 10):  # noqa: PLR2004
        _second_partner(deal)
    if deal.number % _EVERY == place:
        passed = story.day(-30 - world.random.randrange(30))
        story.mistake("command.invalid", "change_details", deal.user, expected_close_on=passed)


def _entry(deal: _Deal, place: int) -> dict[str, Any]:
    """Give what entering a stage needs; of the rest, imports may have gaps, and a few here have."""
    story = deal.story
    ahead = sum(most for _least, most in DAYS[place:])
    match place:
        case 1:
            where = (deal.customer.get("domains") or [domain("mail")])[0]
            problem = deal.world.random.choice(words.PROBLEMS)
            gap = {} if deal.chance(1 / 20) else {"contact": person(deal.world, where)}
            return gap | {
                "amount": deal.money(),
                "expected_close_on": story.day(ahead),
                "business_problem": problem,
            }
        case 2:
            return {"products": deal.products}
        case 3:
            price = {"amount": deal.money(), "proposed_on": story.day(0), "reference": f"Q-{deal.number + 1:05}"}
            return {"price_proposed": price}
        case _:
            return {"contract_in_progress": f"C-{deal.number + 1:05}"}


def _talk(deal: _Deal) -> None:
    world, story = deal.world, deal.story
    if deal.chance(0.5):
        kind, summary = world.random.choice(words.ACTIVITIES)
        story.do("log_activity", deal.user, kind=kind, summary=summary)
    if deal.chance(0.15):
        internal = deal.chance(1 / 3)
        by, visibility = (deal.seller.manager, "internal") if internal else (deal.user, "shared")
        story.do("comment", by, text=world.random.choice(words.COMMENTS), visibility=visibility)
    if deal.chance(0.15):
        story.do("set_next_action", deal.user, **deal.next_action(14))
    if deal.chance(0.03):
        topic, note = world.random.choice(words.HELP)
        story.do("request_help", deal.user, topic=topic, note=note)


def _change(deal: _Deal) -> None:
    """Another amount, a later date, or another owner."""
    random, story = deal.world.random, deal.story
    match random.randrange(4):
        case 0:
            story.do("change_details", deal.user, expected_close_on=story.day(30 + random.randrange(60)))
        case 1 if len(deal.seller.users) > 1:
            deal.user = random.choice([user for user in deal.seller.users if user != deal.user])
            story.do("assign_owner", deal.seller.users[0], owner=deal.user)
        case _:
            deal.amount = (deal.amount * random.randrange(70, 125) / 100).quantize(Decimal(1))
            story.do("change_details", deal.user, amount=deal.money())


def _fall_back(deal: _Deal, place: int) -> None:
    story, user = deal.story, deal.user
    story.do("change_stage", user, stage=STAGES[place - 1], reason=deal.world.random.choice(words.BACKWARDS))
    story.wait(5, 20)
    story.do("change_stage", user, stage=STAGES[place], next_action=deal.next_action(20))


def _second_partner(deal: _Deal) -> None:
    """Another partner helps, and has its share of the credit."""
    others = [one for one in deal.world.sellers if one.since < deal.story.at < one.until and one is not deal.seller]
    if not others:
        return
    other, manager = deal.world.random.choice(others), deal.seller.manager
    first, second = str(deal.seller.id), str(other.id)
    deal.story.do("add_partner", manager, partner_id=second, role="implementation")
    if deal.number % 10 == 0:
        shares = [{"partner_id": first, "percent": "70"}, {"partner_id": second, "percent": "40"}]
        code = "opportunity.credit_split_sum"
        deal.story.mistake(code, "set_credit_split", manager, type="revenue", shares=shares)
    shares = [{"partner_id": first, "percent": "70.00"}, {"partner_id": second, "percent": "30.00"}]
    deal.story.do("set_credit_split", manager, type="revenue", shares=shares)


# The end of a deal


def _win(deal: _Deal) -> None:
    random, story = deal.world.random, deal.story
    final = (deal.amount * random.randrange(88, 104) / 100).quantize(Decimal("0.01"))
    reference = f"PO-{random.randrange(10_000, 99_999)}"
    if not story.over:
        deal.closed_at = deal.closed_at or story.at
        deal.world.wins.append((deal.seller.id, story.today, final))
    story.do("win", deal.user, final_amount=deal.money(final), order_reference=reference, closed_on=story.day(0))
    if deal.number % _EVERY == 7:  # noqa: PLR2004
        story.mistake("state.not_allowed", "lose", deal.user, reason="price")


def _lose(deal: _Deal) -> None:
    random, story = deal.world.random, deal.story
    reason = random.choices(list(LOST_REASONS), list(LOST_REASONS.values()))[0]
    rival = random.choice(words.COMPETITORS) if reason == "competitor" else None
    deal.closed_at = None if story.over else story.at
    story.do("lose", deal.user, reason=reason, competitor=rival, closed_on=story.day(0))
    if deal.number % _EVERY == 9:  # noqa: PLR2004
        story.wait(100, 120)
        story.mistake("opportunity.reopen_too_late", "reopen", deal.seller.manager, reason="They called again.")
    elif deal.chance(_REOPENED):
        story.wait(15, 80)
        story.do("reopen", deal.seller.manager, reason="The budget was found after all.")
        story.do("set_next_action", deal.user, **deal.next_action(10))
        story.wait(10, 40)
        if deal.chance(2 / 3):
            _win(deal)
