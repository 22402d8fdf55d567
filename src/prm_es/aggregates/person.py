"""A person: its stream tells only that it was forgotten. Its key is destroyed in the same commit.

It takes no commands from the topics: `prm-es forget` appends to it.
"""

from typing import ClassVar, Final

from prm_es.aggregates.base import Event

REASONS: Final = ("request", "consent_withdrawn", "retention", "other")  # a text of one's own could name the person


class Forgotten(Event):
    """From here on nothing that was sealed under the person's key can be read, and nothing is found by it.

    `reason` is one of REASONS.
    """

    TYPE: ClassVar[str] = "person.forgotten.v1"
    reason: str
