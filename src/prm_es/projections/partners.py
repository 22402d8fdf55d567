"""Partners as they stand: the table that every read model has whose views name partners, folded the same in each."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prm_es.aggregates import partner as p
from prm_es.aggregates.base import Event
from prm_es.frozen import replace
from prm_es.messages import Recorded
from prm_es.projections.base import Rows, Table

SQL = "partners"  # the file with its DDL


@dataclass(frozen=True)
class Partner:
    """One partner. `name` is the trade name, else the legal name."""

    partner_id: UUID
    external_id: str | None
    name: str | None
    legal_name: str | None
    status: str
    types: list[str]
    country: str | None
    territories: list[str]
    tier: str | None
    channel_manager: str | None
    parent_id: UUID | None
    on_notice: bool
    since: datetime
    data_gaps: list[str]
    updated_position: int


TABLE = Table(Partner, ("partner_id",))


def fold_partner(rows: Rows, recorded: Recorded, event: Event) -> Rows:
    """Give the partner's rows after the event; those of other tables stay."""
    before: Partner | None = next(iter(rows["partner"]), None)
    after = _profile(_status_after(before, recorded, event), event)
    after = replace(_trait(after, event), data_gaps=_partner_gaps(after, event), updated_position=recorded.position)
    return {**rows, "partner": (after,)}


_STATUS: dict[type[Event], str] = {
    p.Invited: "invited",
    p.ApplicationSubmitted: "applied",
    p.InvitationDeclined: "declined",
    p.ReviewStarted: "under_review",
    p.Approved: "approved",
    p.Rejected: "rejected",
    p.OnboardingStarted: "onboarding",
    p.Activated: "active",
    p.Suspended: "suspended",
    p.Reinstated: "active",
    p.Terminated: "terminated",
}


def _status_after(before: Partner | None, recorded: Recorded, event: Event) -> Partner:
    row = before or Partner(
        partner_id=recorded.subject,
        external_id=None,
        name=None,
        legal_name=None,
        status="",
        types=[],
        country=None,
        territories=[],
        tier=None,
        channel_manager=None,
        parent_id=None,
        on_notice=False,
        since=recorded.at,
        data_gaps=[],
        updated_position=recorded.position,
    )
    if isinstance(event, p.Imported):
        return replace(row, status=event.status)
    return replace(row, status=_STATUS.get(type(event), row.status))


_PROFILE = ("legal_name", "trade_name", "country", "types", "parent", "external_id")


def _profile(row: Partner, event: Event) -> Partner:
    """Take over what a profile says: all that is given by an application or import, what is named by an update."""
    if not isinstance(event, p.Invited | p.ApplicationSubmitted | p.Imported | p.ProfileUpdated):
        return row
    if isinstance(event, p.ProfileUpdated):
        said = set(event.changed)
    else:
        said = {name for name in _PROFILE if getattr(event, name)}
    legal = event.legal_name if "legal_name" in said else row.legal_name
    trade = event.trade_name if "trade_name" in said else (row.name if row.name != row.legal_name else None)
    return replace(
        row,
        legal_name=legal,
        name=trade or legal,
        country=event.country if "country" in said else row.country,
        types=list(event.types) if "types" in said else row.types,
        parent_id=event.parent if "parent" in said else row.parent_id,
        external_id=event.external_id if "external_id" in said else row.external_id,
    )


def _trait(row: Partner, event: Event) -> Partner:
    match event:
        case p.Imported():
            return replace(
                row,
                territories=list(event.territories),
                tier=event.tier,
                channel_manager=event.channel_manager,
                on_notice=event.on_notice,
            )
        case p.Invited():
            return replace(row, channel_manager=event.channel_manager)
        case p.ChannelManagerAssigned():
            return replace(row, channel_manager=event.channel_manager)
        case p.TerritoriesSet():
            return replace(row, territories=list(event.territories))
        case p.TierChanged():
            return replace(row, tier=event.tier)
        case p.PlacedOnNotice():
            return replace(row, on_notice=True)
        case p.NoticeCleared():
            return replace(row, on_notice=False)
        case _:
            return row


def _partner_gaps(row: Partner, event: Event) -> list[str]:
    match event:
        case p.Imported() | p.ApplicationSubmitted():
            return sorted(event.missing)
        case p.Activated():
            return sorted({*row.data_gaps, *event.missing})
        case p.AgreementSigned():
            return without(row.data_gaps, "agreement")
        case p.ProfileUpdated():
            return without(row.data_gaps, *(name for name in event.changed if getattr(event, name, None)))
        case _:
            return row.data_gaps


def without(gaps: Iterable[str], *filled: str) -> list[str]:
    """Give the gaps that are left once these fields are known."""
    return sorted(set(gaps) - set(filled))
