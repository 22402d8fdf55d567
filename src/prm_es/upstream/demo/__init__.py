"""A made-up channel of two years, for demonstrations: partners of every kind, and what they sell.

A seed and a date fix every byte. Each part tells its aggregates in turn and may build on what the parts before it left
in the world; a new aggregate is a new part.
"""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Final

from prm_es.messages import Envelope
from prm_es.upstream.demo import goals, leads, opportunities, partners
from prm_es.upstream.demo.world import World

_PARTS: Final[Sequence[Callable[[World], None]]] = (partners.make, leads.make, opportunities.make, goals.make)


def scenario(seed: int, until: date) -> list[Envelope]:
    """Give the commands of the two years before a date, in order of business time.

    All are sent by an integration on behalf of who did it then; a few are mistakes that will be refused. What a command
    depends on across aggregates it names, so whoever sends each after those it names gets the same outcomes every time.
    """
    return world(seed, until).told()


def world(seed: int, until: date) -> World:
    """Make the world that the scenario is told of; it knows which commands are meant to be refused, and how."""
    made = World.empty(seed, until)
    for part in _PARTS:
        part(made)
    return made
