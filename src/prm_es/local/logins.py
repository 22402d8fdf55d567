"""Tokens of the development issuer for the command line, signed with the key in the data folder."""

from uuid import UUID

from prm_es.api.issuer.app import partners_of
from prm_es.api.issuer.logins import BY_NAME, claims_of
from prm_es.api.issuer.signing import Signer
from prm_es.errors import Unavailable, Usage
from prm_es.local.folder import StackRecord
from prm_es.settings import Settings


def token_for(settings: Settings, record: StackRecord | None, name: str, partner: UUID | None = None) -> str:
    """Give a bearer token for a login; raises Usage if there is none, Unavailable if no development issuer runs."""
    login = BY_NAME.get(name)
    if login is None:
        raise Usage(f"there is no login {name}; there are: {', '.join(BY_NAME)}")
    if record is None or "issuer" not in record.children:
        raise Unavailable(f"no development issuer runs in {settings.data}: start it with `prm-es up`")
    said = claims_of(login, partners_of(settings), partner)
    return Signer(settings.data, record.issuer).sign(settings.oidc_audience, said)
