"""A lead that the vendor of the made-up world has, and hands out: offered, worked, and brought to an end."""

from datetime import timedelta
from typing import Any, Final

from prm_es.upstream.demo import opportunities, words
from prm_es.upstream.demo.world import Lead, Seller, domain, person

PROTECTION: Final = 30
DECLINE_REASONS: Final = {
    "no_capacity": 26,
    "problem_unclear": 18,
    "outside_territory": 14,
    "unable_to_support": 14,
    "next_steps_unclear": 10,
    "conflict_of_interest": 8,
    "duplicate": 6,
    "other": 4,
}
DISQUALIFY_REASONS: Final = {
    "not_reachable": 24,
    "no_need": 20,
    "no_budget": 18,
    "wrong_timing": 14,
    "competitor": 8,
    "no_authority": 8,
    "spam": 6,
    "other": 2,
}
_SALES: Final = ("se-rosa", "se-stefan", "se-ulla")
_OFFERS: Final = 3
_ACCEPTED: Final = 0.66
_DECLINED: Final = 0.86  # the rest is never answered
_CONVERTED: Final = 0.5
_DISQUALIFIED: Final = 0.86  # the rest is recalled


def tell(lead: Lead) -> None:
    """Tell a lead from the web form or the fair on."""
    world, story = lead.world, lead.story
    by = world.random.choice(_SALES)
    story.do(
        "capture",
        by,
        external_id=story.external_id,
        customer=lead.customer,
        contact=person(world, (lead.customer.get("domains") or [domain("mail")])[0]),
        product_lines=lead.lines,
        business_problem=world.random.choice(words.PROBLEMS) if world.chance(2 / 3) else None,
        owner=by,
        source=world.random.choice(words.SOURCES),
    )
    story.wait(0.1, 2)
    if world.chance(0.12):
        _disqualify(lead, by)
        return
    if world.chance(0.9):
        story.do("qualify", by, score=30 + world.random.randrange(70))
        story.hours(0.2, 8)
    _offer(lead)


def _offer(lead: Lead) -> None:
    """Offer it to one partner after the other, until one makes something of it."""
    world, story = lead.world, lead.story
    asked: list[Seller] = []
    for _ in range(_OFFERS):
        candidates = _candidates(lead, asked)
        if not candidates or story.over:
            break
        lead.belongs_to(candidates[0])
        asked.append(lead.seller)
        if _answered(lead, candidates) and not _recalled(lead):
            return
    if world.chance(1 / 2):
        story.wait(2, 20)
        _disqualify(lead, lead.seller.manager)


def _candidates(lead: Lead, asked: list[Seller]) -> list[Seller]:
    """Choose who could have it, the best one first."""
    world = lead.world
    able = [
        one
        for one in world.selling(lead.story.at)
        if one not in asked and {line for line, _name, _price in one.lines} >= set(lead.lines)
    ]
    near = [one for one in able if one.place.country == lead.customer["country"]]
    chosen: list[Seller] = []
    for _ in range(3):
        among = [one for one in near or able if one not in chosen]
        if among:
            chosen.append(world.seller(among))
    return chosen


def _answered(lead: Lead, candidates: list[Seller]) -> bool:
    """Offer it to the first of the candidates; tell whether that one accepts."""
    world, story = lead.world, lead.story
    recent = world.end - story.at < timedelta(days=6)
    respond_by = (story.at + timedelta(days=6)).isoformat().replace("+00:00", "Z") if recent else None
    scores = sorted((40 + world.random.randrange(60) for _ in candidates), reverse=True)
    story.do(
        "offer",
        lead.seller.manager,
        partner_id=str(lead.seller.id),
        respond_by=respond_by,
        strategy=world.random.choice(words.STRATEGIES),
        candidates=[
            {
                "partner_id": str(one.id),
                "score": str(score),
                "reasons": world.random.sample(words.FOR_A_CANDIDATE, 2),
            }
            for one, score in zip(candidates, scores, strict=True)
        ],
    )
    answer = world.random.random()
    if answer >= _DECLINED:
        story.wait(7 if recent else 2.1, 8)
        return False
    story.hours(0.5, 120 if recent else 11)
    if world.chance(9 / 10):
        story.do("open", lead.user)
        story.hours(0.1, 11)
    if answer < _ACCEPTED:
        _accept(lead)
        return True
    reason = world.random.choices(list(DECLINE_REASONS), list(DECLINE_REASONS.values()))[0]
    story.do("decline", lead.user, reason=reason)
    story.hours(0.5, 12)
    if world.chance(0.06):
        partner_id = str(lead.seller.id)
        story.mistake("lead.partner_declined_before", "offer", lead.seller.manager, partner_id=partner_id)
    return False


def _accept(lead: Lead) -> None:
    world, story = lead.world, lead.story
    lead.held(PROTECTION)
    due = story.day(1 + world.random.randrange(3))
    action: dict[str, Any] = {"text": "Call them", "due_on": due, "owner": lead.user}
    story.do("accept", lead.user, next_action=action)


def _recalled(lead: Lead) -> bool:
    """Tell the work of the partner that has it; gives whether the vendor takes it back."""
    world, story = lead.world, lead.story
    fate = world.random.random()
    if fate >= _DISQUALIFIED and world.chance(1 / 2):
        return _recall(lead)
    story.wait(0.1, 4)
    story.do("record_contact", lead.user, kind=world.random.choice(("call", "email", "meeting")))
    story.wait(1, 5)
    if fate >= _DISQUALIFIED:
        return _recall(lead)
    story.do("start_work", lead.user)
    if world.chance(1 / 2):
        story.wait(1, 5)
        kind, summary = world.random.choice(words.ACTIVITIES)
        story.do("log_activity", lead.user, kind=kind, summary=summary)
    story.wait(1, 7)
    if fate >= _CONVERTED:
        lead.held_until = story.at
        _disqualify(lead, lead.user)
        return False
    lead.held_until = min(filter(None, (lead.held_until, opportunities.converted(lead))))
    return False


def _recall(lead: Lead) -> bool:
    lead.story.wait(8, 12)
    lead.held_until = lead.story.at
    lead.story.do("recall", lead.seller.manager, reason="Nothing has happened for a week.")
    lead.story.hours(1, 20)
    return True


def _disqualify(lead: Lead, by: str) -> None:
    reasons = DISQUALIFY_REASONS
    lead.story.do("disqualify", by, reason=lead.world.random.choices(list(reasons), list(reasons.values()))[0])
