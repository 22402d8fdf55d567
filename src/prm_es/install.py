"""Bringing an installation up to this program: migrations, then the read models that are new or of an older version."""

from dataclasses import dataclass

from prm_es import rebuild
from prm_es.settings import Settings
from prm_es.store import migrate


@dataclass(frozen=True, slots=True)
class Installed:
    """What was applied: migration numbers, read models that got their tables, and those that were made anew."""

    migrations: list[int]
    read_models: list[str]
    rebuilt: list[str]


def install(settings: Settings) -> Installed:
    """Migrate, make missing read models, rebuild those of an older version; safe to run again.

    Raises SchemaMismatch if the database is newer, AlreadyRunning while another rebuild runs.
    """
    migrations, made = migrate.migrate(settings), rebuild.install(settings)
    older = rebuild.older(settings)
    for model in older:
        rebuild.rebuild(settings, model)
    return Installed(migrations, made, [model.name for model in older])
