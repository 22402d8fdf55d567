"""Rivals of the made-up world: who registers a customer that another partner, or the same one, has registered."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from prm_es.upstream.demo import opportunities, registered, words
from prm_es.upstream.demo.places import branch_tax_id
from prm_es.upstream.demo.world import Lead, Seller

_RIVALS: Final = 0.095
_TWICE: Final = 0.015
_LATEST: Final = timedelta(days=26)
_NEW: Final = timedelta(days=10)
_SEEN: Final = {"tax_ids": 5, "customer_id": 3, "domains": 2}
_CPF: Final = len("12345678901")
_PATIENCE: Final = timedelta(days=35)  # a conflict so old is decided


def tell(first: Lead) -> list[Lead]:
    """Tell who comes after the first one, if anybody does."""
    world = first.world
    recent = world.end - first.came_in_at < _NEW
    if world.chance(3 * _RIVALS if recent else _RIVALS) and _keys(first.customer):
        found = list(_rival(first))
        for lead in found:
            registered.register(lead)
            if registered.review(lead):
                _contest(first, lead)
        return found
    if world.chance(_TWICE):
        return [_again(first)]
    return []


def _keys(customer: dict[str, Any]) -> list[str]:
    """Name what tells that two speak of the same customer; for a natural person nothing does."""
    if any(len(one["value"]) == _CPF for one in customer.get("tax_ids", ())):
        return []
    return [name for name in _SEEN if name in customer]


def _rival(first: Lead) -> Iterator[Lead]:
    world = first.world
    longest = min(world.end - first.came_in_at, _LATEST)
    at = first.came_in_at + timedelta(hours=1) + longest * world.random.random() ** 3
    others = [one for one in world.selling(at) if one is not first.seller and _common(one, first)]
    if not others or at >= world.end:
        return
    seller = world.seller(others)
    common = _common(seller, first)
    more = [line for line in seller.lines if line not in common]
    lines = [world.random.choice(common), *(more[:1] if world.chance(1 / 3) else ())]
    wanted, amount = opportunities.priced(world, seller, lines)
    story = world.lead(at, first.story.thread)
    user = world.random.choice(seller.users)
    yield Lead(world, story, _as_seen(first), seller, user, wanted, amount, story.at)


def _common(seller: Seller, first: Lead) -> list[tuple[str, str, int]]:
    return [line for line in seller.lines if line[0] in first.lines]


def _as_seen(first: Lead) -> dict[str, Any]:
    """Give the customer as the rival knows it: by one of its keys, or by another establishment."""
    world, customer = first.world, first.customer
    keys = _keys(customer)
    key = world.random.choices(keys, [_SEEN[one] for one in keys])[0]
    name = customer["name"].rpartition(" ")[0] if key == "domains" else customer["name"]
    seen = {"name": name, "country": customer["country"], "city": customer["city"], key: customer[key]}
    if key == "tax_ids" and customer["country"] == "BR" and world.chance(1 / 2):
        city = world.random.choice(words.BRANCH_CITIES)
        branch = branch_tax_id(world.random, customer[key][0]["value"])
        seen |= {"name": f"{name} Filial {city}", "city": city, "tax_ids": [branch]}
    return seen


def _contest(first: Lead, lead: Lead) -> None:
    """Tell what the vendor answers, once the first one has its answer."""
    world, story = lead.world, lead.story
    if first.decided_at is None:
        return
    if story.at <= first.decided_at:
        story.at = first.decided_at
        story.wait(0.1, 2)
    hard = "domains" not in lead.customer
    if first.holds(story.at) and hard:
        _protected(first, lead)
    elif hard or world.chance(1 / 3):
        registered.approve(lead)
    elif not _left_open(lead, story.at):
        registered.reject(lead, "already_registered_other_partner")


def _protected(first: Lead, lead: Lead) -> None:
    """Try to approve what another holds, which is refused; then reject it, or wait until it is free."""
    world, story = lead.world, lead.story
    if world.chance(0.85):
        story.mistake("lead.already_protected", "approve", lead.seller.manager)
    story.hours(1, 30)
    ends = first.held_until
    if world.chance(0.25) and ends is not None and ends < world.end:
        story.at = max(story.at, ends)
        story.wait(1, 6)
        registered.approve(lead)
    elif first.holds(story.at) and not _left_open(lead, story.at):
        registered.reject(lead, "already_registered_other_partner")


def _left_open(lead: Lead, at: datetime) -> bool:
    world = lead.world
    return world.end - at < _PATIENCE and world.chance(3 / 4)


def _again(first: Lead) -> Lead:
    """Let the same partner register it again, and be told so."""
    world = first.world
    at = first.came_in_at + timedelta(days=1 + 20 * world.random.random())
    story = world.lead(at, first.story.thread)
    customer = first.customer | {"city": world.random.choice(first.seller.place.cities)}
    user = world.random.choice(first.seller.users)
    lead = Lead(world, story, customer, first.seller, user, first.products, first.amount, story.at)
    registered.register(lead)
    if registered.review(lead):
        registered.reject(lead, "duplicate_registration")
    return lead
