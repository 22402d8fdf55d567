"""Which questions an index answers: any two of these filters, in the order of these sorts, at any size.

Other filters and sorts pass over the rows once. The tables' indexes (`projections/*.tables.sql`) are made for this
list, and bench/web.py measures it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Indexed:
    """Filters of which any two may be combined, and the sorts to combine them with, a list's own first."""

    filters: tuple[str, ...]
    sorts: tuple[str, ...]


INDEXED: Final[Mapping[str, Indexed]] = {
    "opportunities": Indexed(
        ("partner", "territory", "owner", "stage", "status", "forecast_category", "currency", "created"),
        ("-opened_at",),
    ),
    "leads": Indexed(("partner", "territory", "status", "origin", "currency", "created"), ("-came_in_at",)),
    "registrations": Indexed(("partner", "status", "decision", "created"), ("-submitted_at",)),
    "protected-customers": Indexed(("partner", "country", "protected_until"), ("protected_until",)),
    "offers": Indexed(("partner", "status", "created"), ("-offered_at",)),
    "conflicts": Indexed(("partner", "status", "strength"), ("-found_at",)),
    "partners": Indexed(("territory", "channel_manager", "status", "tier"), ("partner",)),
    "goals": Indexed(("partner", "metric", "status"), ("partner",)),
    "deadlines": Indexed(("partner", "kind", "due"), ("due_at",)),
}


def walks(name: str, filters: Iterable[str], sort: str) -> bool:
    """Tell whether a list is read along an index in the order of this sort, until enough rows fit these filters."""
    indexed = INDEXED.get(name)
    return indexed is not None and sort in indexed.sorts and set(filters) <= set(indexed.filters)
