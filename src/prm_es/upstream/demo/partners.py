"""Partners of the made-up world: long known and imported, or told from their application on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from prm_es.upstream.demo import words
from prm_es.upstream.demo.places import PLACES, Place, tax_id
from prm_es.upstream.demo.world import MANAGERS, Seller, Story, World, domain, names, person

TYPES: Final = (
    "reseller",
    "retailer",
    "consultant",
    "service_provider",
    "integrator",
    "isv",
    "distributor",
    "referral",
)
TIERS: Final = ("registered", "silver", "gold", "platinum")
_IMPORTED: Final = 14
_COUNT: Final = 50
_SUSPENDED: Final = (5, 21, 33)
_FAR: Final = timedelta(days=3650)


@dataclass
class _Partner:
    """A partner that is being told: what is fixed about it before anything happens."""

    number: int
    name: str
    place: Place
    types: tuple[str, ...]
    manager: str
    users: tuple[str, ...]
    skill: float
    profile: dict[str, Any]


def make(world: World) -> None:
    """Tell every partner, and note who of them sells and when."""
    for number in range(_COUNT):
        partner = _partner(world, number)
        if number < _IMPORTED:
            _imported(world, partner)
        else:
            _ENDINGS.get(number, _grown)(world, partner)
        if number == 0:
            _taken_tax_id(world, partner)


def _partner(world: World, number: int) -> _Partner:
    random = world.random
    place = PLACES[list(PLACES)[number] if number < len(PLACES) else world.country()]
    name = names(words.PARTNER_FIRST, words.PARTNER_SECOND, number)
    types = [TYPES[number % len(TYPES)]]
    if random.random() < 1 / 4:
        types.append(random.choice([one for one in TYPES if one not in types]))
    profile: dict[str, Any] = {
        "legal_name": f"{name} {place.company}",
        "trade_name": name,
        "tax_ids": [tax_id(random, place.country)],
        "country": place.country,
        "domains": [domain(name)],
        "types": types,
        "external_id": f"P-{number + 1:03}",
        "contact": person(world, domain(name)),
        "parent": _parent(world, types, place),
    }
    users = tuple(f"p{number + 1:03}-u{user}" for user in range(1, 2 + random.randrange(3)))
    skill = 0.75 + random.random() / 2
    return _Partner(number, name, place, tuple(types), random.choice(MANAGERS), users, skill, profile)


def _parent(world: World, types: list[str], place: Place) -> str | None:
    """Every third reseller buys from the first distributor of its country."""
    if "reseller" not in types or world.random.random() > 1 / 3:
        return None
    above = (one.id for one in world.sellers if "distributor" in one.types and one.place == place)
    found = next(above, None)
    return str(found) if found else None


def _sells(
    world: World, partner: _Partner, story: Story, lines: Sequence[tuple[str, str, int]], until: timedelta = _FAR
) -> None:
    weight = 0.4 + 3 * world.random.random() ** 3
    seller = Seller(
        story.id,
        partner.number,
        partner.place,
        tuple(lines),
        partner.types,
        partner.users,
        partner.manager,
        partner.skill,
        weight,
        story.at,
        min(story.at + until, world.end),
    )
    world.sellers.append(seller)


def _story(world: World, partner: _Partner, days: float) -> Story:
    story = world.story("partner", partner.profile["external_id"], world.start)
    story.wait(days, days + 1)
    return story


# Known from the beginning


def _imported(world: World, partner: _Partner) -> None:
    story = _story(world, partner, 0)
    signed = story.day(-200 - world.random.randrange(600))
    story.do(
        "import",
        partner.manager,
        **_given(partner),
        status="active",
        territories=_territories(world, partner.place),
        tier=world.random.choice(TIERS[1:]),
        channel_manager=partner.manager,
        agreement={"reference": f"AG-{partner.number + 1:03}", "signed_on": signed},
        authorisations=[{"product_line": line} for line, _name, _price in words.LINES],
        capacity={"open_leads": 20, "live_registrations": 25},
        users=[_user(world, partner, place) for place in range(len(partner.users))],
    )
    if partner.number in _SUSPENDED:
        _sells(world, partner, story, words.LINES, until=timedelta(days=300))
        _suspended(world, partner, story)
        return
    _sells(world, partner, story, words.LINES)
    _settled(world, partner, story)


def _given(partner: _Partner) -> dict[str, Any]:
    return {name: value for name, value in partner.profile.items() if value is not None}


def _territories(world: World, place: Place) -> list[str]:
    count = 1 + world.random.randrange(min(2, len(place.territories)))
    return sorted(world.random.sample(place.territories, count))


def _user(world: World, partner: _Partner, place: int) -> dict[str, str]:
    role = "partner_rep" if place else "partner_admin"
    return {"user_id": partner.users[place], "role": role, **person(world, domain(partner.name))}


# Told from the application on


def _applies(world: World, partner: _Partner) -> Story:
    spread = 330 * (partner.number - _IMPORTED) / (_COUNT - _IMPORTED)
    story = _story(world, partner, 2 + spread)
    if world.random.random() < 1 / 2:
        invitation = {name: value for name, value in _given(partner).items() if name in ("legal_name", "country")}
        story.do("invite", partner.manager, **invitation, channel_manager=partner.manager)
        story.wait(2, 15)
    story.do("apply", partner.users[0], **_given(partner))
    story.wait(1, 6)
    return story


def _onboards(world: World, partner: _Partner) -> Story:
    story = _applies(world, partner)
    story.do("start_review", partner.manager)
    story.wait(1, 8)
    story.do("approve", partner.manager)
    story.do("assign_channel_manager", partner.manager, channel_manager=partner.manager)
    story.do("set_territories", partner.manager, territories=_territories(world, partner.place))
    story.wait(1, 3)
    story.do("start_onboarding", partner.manager, tasks=list(words.TASKS))
    for place in range(len(partner.users)):
        story.do("invite_user", partner.manager if place == 0 else partner.users[0], **_user(world, partner, place))
    for task in words.TASKS:
        story.wait(1, 6)
        story.do("complete_task", partner.users[0], task=task)
    return story


def _grown(world: World, partner: _Partner) -> None:
    story = _onboards(world, partner)
    reference = f"AG-{partner.number + 1:03}"
    story.do("sign_agreement", partner.manager, reference=reference, signed_on=story.day(0))
    story.do("activate", partner.manager)
    story.do("change_tier", partner.manager, tier="registered", reason="New in the programme.")
    lines = world.random.sample(words.LINES, 3)
    for line, _name, _price in lines:
        story.do("grant_authorisation", partner.manager, product_line=line)
    if partner.number in _SUSPENDED:
        _sells(world, partner, story, lines, until=timedelta(days=150))
        _suspended(world, partner, story)
        return
    _sells(world, partner, story, lines)
    _settled(world, partner, story)


def _settled(world: World, partner: _Partner, story: Story) -> None:
    """Tell the years of an active partner: a better tier, users who come and go."""
    random = world.random
    story.wait(120, 200)
    if random.random() < partner.skill - 1 / 2:
        story.do("change_tier", partner.manager, tier=random.choice(TIERS[1:]), reason="Goals of the half year met.")
    if len(partner.users) > 1 and random.random() < 1 / 4:
        story.do("change_user_role", partner.users[0], user_id=partner.users[1], role="partner_admin")
    story.wait(60, 150)
    if random.random() < 1 / 6:
        story.do("put_on_notice", partner.manager, reason="No business plan for this year.")
        story.wait(20, 50)
        story.do("clear_notice", partner.manager, note="The plan has come.")
    if random.random() < 1 / 5:
        story.do("set_capacity", partner.manager, open_leads=30, live_registrations=40)
    if len(partner.users) > 2 and random.random() < 1 / 3:  # noqa: PLR2004
        story.do("deactivate_user", partner.users[0], user_id=partner.users[2])


# Other endings


def _suspended(world: World, partner: _Partner, story: Story) -> None:
    story.wait(320, 340)
    story.do("suspend", partner.manager, reason="Invoices open for more than 90 days.")
    if world.random.random() < 1 / 2:
        story.wait(20, 60)
        story.do("reinstate", partner.manager, note="Paid.")


def _declined(world: World, partner: _Partner) -> None:
    story = _story(world, partner, 100)
    story.do("invite", partner.manager, legal_name=partner.profile["legal_name"], channel_manager=partner.manager)
    story.wait(3, 20)
    story.do("decline_invitation", "unknown", note="Not this year.")


def _invited(world: World, partner: _Partner) -> None:
    story = _story(world, partner, 700)
    story.do("invite", partner.manager, legal_name=partner.profile["legal_name"], channel_manager=partner.manager)


def _rejected(world: World, partner: _Partner) -> None:
    story = _applies(world, partner)
    story.do("reject", partner.manager, reason="No business in our markets.")
    story.wait(10, 30)
    story.mistake("partner.reapply_too_early", "apply", partner.users[0])


def _in_review(world: World, partner: _Partner) -> None:
    story = _applies(world, partner)
    story.do("start_review", partner.manager)


def _onboarding(world: World, partner: _Partner) -> None:
    _onboards(world, partner)


def _left(world: World, partner: _Partner) -> None:
    story = _story(world, partner, 0)
    agreement = {"reference": "AG-000", "signed_on": story.day(-2000), "valid_to": story.day(-100)}
    story.do("import", partner.manager, **_given(partner), status="terminated", agreement=agreement)


def _taken_tax_id(world: World, first: _Partner) -> None:
    """Let a branch apply with the tax id of its parent, which is refused.

    It names the parent, so that it is decided after it whatever the partitions.
    """
    story = world.story("partner", f"P-{_COUNT + 1:03}", world.start + timedelta(days=40))
    profile = _given(first) | {"legal_name": f"{first.name} Branch", "external_id": f"P-{_COUNT + 1:03}"}
    parent = world.id("partner", first.profile["external_id"])
    story.mistake("partner.duplicate", "apply", "unknown", **profile | {"parent": str(parent)})


_ENDINGS: Final[dict[int, Callable[[World, _Partner], None]]] = {
    40: _left,
    42: _declined,
    43: _rejected,
    45: _invited,
    46: _in_review,
    48: _onboarding,
    49: _rejected,
}
