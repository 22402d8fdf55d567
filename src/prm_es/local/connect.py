"""How every other verb finds the servers that `prm-es up` runs in a data folder."""

from pathlib import Path

from prm_es.errors import Unavailable
from prm_es.local.folder import Folder, StackRecord
from prm_es.settings import DB_ROLES, Settings


def running(data: Path) -> StackRecord | None:
    """Give the record of the supervisor that lives in a data folder, or None."""
    record = Folder.at(data).record()
    return record if record and record.supervisor.find() else None


def names_postgres(settings: Settings) -> bool:
    """Tell whether settings name a PostgreSQL."""
    return any(getattr(settings, name) for name in ("postgres", *(f"postgres_{role}" for role in DB_ROLES)))


def settings_for(data: Path, base: Settings) -> Settings:
    """Fill in the servers of a running stack where `base` names none; raises Unavailable if nothing runs.

    What the environment or a flag has set is kept. The migrating role is left to the superuser's string, so that
    `prm-es migrate` can make roles.
    """
    named = names_postgres(base)
    if base.kafka and named:
        return base
    record = running(data)
    if record is None:
        raise Unavailable(f"nothing runs in {data}: start it with `prm-es up`")
    if record.state == "starting":
        raise Unavailable(f"what runs in {data} is still starting: try again in a moment")
    found: dict[str, object] = {} if base.kafka else {"kafka": record.kafka}
    if not named:
        dsns = Folder.at(data).secrets().dsns
        found |= {f"postgres_{role}": dsns[role] for role in DB_ROLES if role != "owner" and role in dsns}
        found["postgres"] = dsns.get("admin", "")
    if "prefix" not in base.model_fields_set:
        found["prefix"] = record.prefix
    return base.model_copy(update=found)
