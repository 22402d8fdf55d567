"""The table of all commands: who may send each, and when."""

from collections.abc import Iterator

from prm_es.aggregates.base import NONE
from prm_es.aggregates.catalogue import AGGREGATES
from prm_es.schemas.models import roles_of, states_for

_HEAD = """\
# Commands

Generated. Each command's schema names its fields; `none` is the state of what does not exist yet.
Partner roles act for their own organisation only; a seller changes only what it owns or opened.
"""


def commands() -> str:
    """Give the page as Markdown."""
    return "\n".join([_HEAD, *(line for name in AGGREGATES for line in _section(name))])


def _section(name: str) -> Iterator[str]:
    yield from (f"## {name}", "", "| command | roles | possible while |", "|---|---|---|")
    for command in AGGREGATES[name].table:
        wire = f"prm.{command.NAME}"
        states = states_for(command)
        when = "not there yet" if states == [NONE] else ", ".join(states)
        yield f"| [`{wire}`](commands/{wire}.json) | {', '.join(roles_of(command))} | {when} |"
    yield ""
