"""Bringing an installation up to this program: migrations, then the tables and views of read models that are new."""

from dataclasses import dataclass

from prm_es import rebuild
from prm_es.settings import Settings
from prm_es.store import migrate


@dataclass(frozen=True, slots=True)
class Installed:
    """What was applied: migration numbers, and read models that got their tables."""

    migrations: list[int]
    read_models: list[str]


def install(settings: Settings) -> Installed:
    """Migrate and make missing read models; safe to run again. Raises SchemaMismatch if the database is newer."""
    return Installed(migrate.migrate(settings), rebuild.install(settings))
