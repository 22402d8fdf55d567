"""A registration of the made-up world: from the partner's form to the end of its protection."""

from datetime import timedelta
from typing import Any, Final

from prm_es.upstream.demo import opportunities, words
from prm_es.upstream.demo.world import Lead, domain, person

PROTECTION: Final = 90
EXTENSION: Final = 30
REJECT_REASONS: Final = {
    "existing_customer": 16,
    "insufficient_information": 15,
    "no_verifiable_relationship": 14,
    "active_direct_opportunity": 12,
    "not_qualified": 12,
    "named_account": 8,
    "outside_territory": 8,
    "below_minimum_value": 6,
    "outside_authorisation": 4,
    "rfp_excluded": 3,
    "other": 2,
}
_APPROVED: Final = 0.74
_REJECTED: Final = 0.95  # the rest is withdrawn
_RUNS_OUT: Final = 0.08
_REVOKED: Final = 0.12  # the rest is converted


def tell(lead: Lead) -> None:
    """Tell a registration that no rival stands in the way of."""
    register(lead)
    if review(lead):
        decide(lead)


def register(lead: Lead) -> None:
    """Register; imports may have gaps, and a few here have."""
    world, story = lead.world, lead.story
    lead.came_in_at = story.at
    complete = not world.chance(0.03)
    data: dict[str, Any] = {
        "partner_id": str(lead.seller.id),
        "external_id": story.external_id,
        "customer": lead.customer,
        "contact": person(world, (lead.customer.get("domains") or [domain("mail")])[0]),
        "product_lines": lead.lines,
        "deal_type": world.random.choices(("new", "expansion", "renewal"), (6, 3, 1))[0],
        "amount": lead.money() if complete else None,
        "expected_close_on": story.day(45 + world.random.randrange(120)) if complete else None,
        "business_problem": world.random.choice(words.PROBLEMS),
        "competitors": [world.random.choice(words.COMPETITORS)] if world.chance(1 / 5) else None,
        "evidence": world.random.choice(words.EVIDENCE) if world.chance(1 / 4) else None,
        "owner": lead.user,
    }
    if not story.over:
        world.registrations.append((lead.seller.id, story.today))
    story.do("register", lead.user, **data)
    if world.chance(0.004):  # sent twice under another id
        story.mistake("aggregate.already_exists", "register", lead.user, **data)


def review(lead: Lead) -> bool:
    """Tell the review up to the decision; gives whether there is one to take."""
    world, story = lead.world, lead.story
    recent = world.end - story.at < timedelta(days=8)
    story.wait(0.1, 4 if recent else 1.8)
    if world.chance(9 / 10):
        story.do("start_review", lead.seller.manager)
        _remark(lead)
    if world.chance(0.35 if recent else 0.12):
        story.hours(1, 20)
        asked = world.random.choice(words.QUESTIONS)
        fields = world.random.choice((["contact"], ["customer"], ["expected_close_on", "amount"]))
        story.do("request_information", lead.seller.manager, fields=fields, note=asked)
        if world.chance(0.12):  # never answered: it lapses by itself
            lead.decided_at = story.at + timedelta(days=30)
            return False
        story.wait(1, 9)
        story.do("resubmit", lead.user, contact=person(world, domain("mail")), note="As you asked.")
    story.wait(0.1, 3 if recent else 1.9)
    return not story.over


def decide(lead: Lead) -> None:
    """Tell the decision, and what follows from it."""
    world, story = lead.world, lead.story
    lead.decided_at = story.at
    chosen = world.random.random()
    if chosen < _APPROVED:
        approve(lead)
    elif chosen < _REJECTED:
        reject(lead, world.random.choices(list(REJECT_REASONS), list(REJECT_REASONS.values()))[0])
        if world.chance(0.02):
            story.mistake("state.not_allowed", "approve", lead.seller.manager)
    else:
        story.do("withdraw", lead.user, note="They buy elsewhere.")


def reject(lead: Lead, reason: str) -> None:
    """Reject it for this reason."""
    lead.decided_at = lead.story.at
    lead.story.do("reject", lead.seller.manager, reason=reason)


def approve(lead: Lead) -> None:
    """Approve it, and tell what becomes of the protection."""
    world, story = lead.world, lead.story
    if story.over:
        return
    lead.decided_at = story.at
    lead.held(PROTECTION)
    story.do("approve", lead.seller.manager)
    _work(lead)
    fate = world.random.random()
    if fate < _RUNS_OUT:
        return
    if fate < _REVOKED:
        story.wait(1, 20)
        if not story.over:
            lead.held_until = story.at
        story.do("revoke", lead.seller.manager, reason=world.random.choice(words.REVOKED))
        return
    if world.chance(0.12):
        _extend(lead)
    closed_at = opportunities.converted(lead)
    lead.held_until = min(filter(None, (lead.held_until, closed_at)))


def _work(lead: Lead) -> None:
    """Let some weeks pass, with what happens in them."""
    world, story = lead.world, lead.story
    for _ in range(world.random.choices((0, 1, 2), (3, 5, 2))[0]):
        story.wait(1, 12)
        kind, summary = world.random.choice(words.ACTIVITIES)
        story.do("log_activity", lead.user, kind=kind, summary=summary)
    _remark(lead)
    story.wait(1, 15)
    if world.chance(0.05):
        _correct(lead)
    if world.chance(0.02):
        _transfer(lead)
    if world.chance(0.05) and len(lead.seller.users) > 1:
        lead.user = world.random.choice([user for user in lead.seller.users if user != lead.user])
        story.do("assign_owner", lead.seller.users[0], owner=lead.user)


def _remark(lead: Lead) -> None:
    if lead.world.chance(0.12):
        internal = lead.world.chance(1 / 3)
        by, visibility = (lead.seller.manager, "internal") if internal else (lead.user, "shared")
        lead.story.do("comment", by, text=lead.world.random.choice(words.COMMENTS), visibility=visibility)


def _correct(lead: Lead) -> None:
    world, story = lead.world, lead.story
    if len(lead.products) > 1:
        lead.products = lead.products[:-1]
        story.do("correct", lead.seller.manager, product_lines=lead.lines, reason="They want less.")
    else:
        city = world.random.choice(lead.seller.place.cities)
        customer = lead.customer | {"city": city}
        story.do("correct", lead.seller.manager, customer=customer, reason="They have moved.")


def _transfer(lead: Lead) -> None:
    world, story = lead.world, lead.story
    others = [
        one
        for one in world.selling(story.at)
        if one is not lead.seller and {line for line, _name, _price in one.lines} >= set(lead.lines)
    ]
    if not others or story.over:
        return
    manager = lead.seller.manager
    rate = lead.seller.place.rate
    lead.belongs_to(world.seller(others))
    lead.amount = lead.amount * lead.seller.place.rate / rate
    reason = "The customer asked for a partner nearer to them."
    story.do("transfer", manager, partner_id=str(lead.seller.id), reason=reason)
    story.do("assign_owner", lead.seller.users[0], owner=lead.user)


def _extend(lead: Lead) -> None:
    """Ask for more time shortly before it is over, and get it."""
    world, story = lead.world, lead.story
    story.at = max(story.at, (lead.held_until or story.at) - timedelta(days=12))
    story.wait(0, 6)
    evidence = world.random.choice(words.STILL_ON_IT)
    kind, summary = world.random.choice(words.ACTIVITIES)
    story.do("log_activity", lead.user, kind=kind, summary=summary)
    story.do("request_extension", lead.user, evidence=evidence)
    story.wait(0.1, 1.5)
    if story.over:
        return
    lead.held_until = (lead.held_until or story.at) + timedelta(days=EXTENSION)
    story.do("extend", lead.seller.manager, evidence=evidence)
    if world.chance(0.1):
        story.mistake("lead.extension_limit", "extend", lead.seller.manager, evidence=evidence)
    story.wait(3, 18)
