"""Bringing an installation up to this program: migrations, then the read models that are new or of an older version."""

from dataclasses import dataclass

from prm_es import rebuild
from prm_es.projections.registry import READ_MODELS
from prm_es.settings import Settings
from prm_es.store import migrate


@dataclass(frozen=True, slots=True)
class Installed:
    """What was applied: migration numbers, read models that got their tables, and those that were made anew."""

    migrations: list[int]
    read_models: list[str]
    rebuilt: list[str]


@dataclass(frozen=True, slots=True)
class Pending:
    """What installing would apply: migration numbers, read models without tables, and those of an older version."""

    migrations: list[int]
    read_models: list[str]
    rebuilt: list[str]

    @property
    def anything(self) -> bool:
        """Tell whether there is anything to do."""
        return bool(self.migrations or self.read_models or self.rebuilt)


def pending(settings: Settings) -> Pending:
    """Say what installing would apply, and change nothing; raises SchemaMismatch if the database is newer."""
    migrations = migrate.pending(settings)
    if migrations and not rebuild.bookkept(settings):
        return Pending(migrations, list(READ_MODELS), [])
    missing, older = rebuild.missing(settings), rebuild.older(settings)
    return Pending(migrations, [model.name for model in missing], [model.name for model in older])


def install(settings: Settings) -> Installed:
    """Migrate, make missing read models, rebuild those of an older version; safe to run again.

    Raises SchemaMismatch if the database is newer, AlreadyRunning while another rebuild runs.
    """
    migrations = migrate.migrate(settings)
    older, made = rebuild.older(settings), rebuild.install(settings)
    for model in older:
        rebuild.rebuild(settings, model)
    return Installed(migrations, made, [model.name for model in older])
