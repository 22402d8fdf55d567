"""Leads of the made-up world: what partners register, what rivals register too, and what the vendor hands out.

A customer is with one lead and its rivals at a time, so that whoever is refused is refused on purpose.
"""

from datetime import datetime, timedelta
from typing import Final

from prm_es.upstream.demo import captured, opportunities, registered, rivals
from prm_es.upstream.demo.world import Lead, Seller, World

_REGISTERED: Final = 1270
_CAPTURED: Final = 600
# So many of them came in the last days: most are still to be answered.
_RECENT_REGISTERED: Final = 60
_RECENT_CAPTURED: Final = 30
_LAST_DAYS: Final = 5


def make(world: World) -> None:
    """Tell every lead, in the order in which they came in."""
    free: dict[int, datetime] = {}
    come = [
        *((at, _registered) for at in _moments(world, _REGISTERED, _RECENT_REGISTERED)),
        *((at, _captured) for at in _moments(world, _CAPTURED, _RECENT_CAPTURED)),
    ]
    for at, tell in sorted(come, key=lambda one: one[0]):
        seller = world.seller(world.selling(at))
        near = world.chance(9 / 10)
        open_ = [
            place
            for place, customer in enumerate(world.customers)
            if free.get(place, world.start) < at and (not near or customer["country"] == seller.place.country)
        ]
        place = world.random.choice(open_)
        free[place] = tell(_lead(world, at, place, seller))


def _moments(world: World, count: int, recent: int) -> list[datetime]:
    moments: list[datetime] = []
    while len(moments) < count - recent:
        at = world.moment()
        if world.selling(at):
            moments.append(at)
    return moments + [world.end - timedelta(days=_LAST_DAYS * world.random.random()) for _ in range(recent)]


def _lead(world: World, at: datetime, place: int, seller: Seller) -> Lead:
    story = world.lead(at, f"customer {place}")
    wanted, amount = opportunities.products(world, seller)
    user = world.random.choice(seller.users)
    return Lead(world, story, world.customers[place], seller, user, wanted, amount, story.at)


def _registered(lead: Lead) -> datetime:
    """Tell a registration, and who else registers the customer; gives when all that is over."""
    registered.tell(lead)
    others = rivals.tell(lead)
    return max(one.free_at for one in (lead, *others))


def _captured(lead: Lead) -> datetime:
    captured.tell(lead)
    return lead.free_at
