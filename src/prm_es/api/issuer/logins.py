"""Who may log in at the development issuer: one login a role of the vendor, two people of each of two partners."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from prm_es.messages import VENDOR, Role, aggregate_id


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody; `partner` is the place in the list of partners, None for the vendor's people."""

    name: str
    shown: str
    role: Role
    locale: str
    partner: int | None = None


LOGINS: Final = (
    Login("vera", "Vera Alves", Role.VENDOR_ADMIN, "pt-BR"),
    Login("carla", "Carla Nunes", Role.CHANNEL_MANAGER, "pt-BR"),
    Login("sam", "Sam Carter", Role.SELLER, "en"),
    Login("ada", "Ada Brandt", Role.ADJUDICATOR, "en"),
    Login("fred", "Fred Olsen", Role.FINANCE, "en"),
    Login("alba", "Alba Reyes", Role.AUDITOR, "en"),
    Login("robo", "Integration", Role.INTEGRATION, "en"),
    Login("pat", "Pat Moreira", Role.PARTNER_ADMIN, "pt-BR", 0),
    Login("rui", "Rui Campos", Role.PARTNER_REP, "pt-BR", 0),
    Login("pia", "Pia Keller", Role.PARTNER_ADMIN, "en", 1),
    Login("rob", "Rob Fisher", Role.PARTNER_REP, "en", 1),
)
BY_NAME: Final[Mapping[str, Login]] = {one.name: one for one in LOGINS}


@dataclass(frozen=True, slots=True)
class Organisation:
    """A partner for whose people there are logins."""

    id: UUID
    name: str


# While there are no partners yet: ids that a partner may be imported with.
NOBODY_YET: Final = tuple(
    Organisation(aggregate_id("partner", "dev-issuer", key), f"{key} (not imported yet)") for key in ("one", "two")
)


def claims_of(login: Login, partners: Sequence[Organisation], chosen: UUID | None = None) -> dict[str, Any]:
    """Give what a token says of somebody; `chosen` takes the place of a partner login's own partner."""
    org = VENDOR if login.partner is None else str(chosen or partners[login.partner].id)
    return {"sub": login.name, "name": login.shown, "role": login.role.value, "org": org, "locale": login.locale}
