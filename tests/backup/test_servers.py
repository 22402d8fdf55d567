"""A backup of a data folder in which nothing runs, and one restored into a folder that was never used."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from prm_es.audit.verify import verify
from prm_es.backup.dump import back_up
from prm_es.backup.restore import restore
from prm_es.backup.servers import postgres
from prm_es.install import install
from prm_es.local.connect import running
from prm_es.projections.pipeline import MODEL
from prm_es.rebuild import compare
from prm_es.settings import Settings
from tests.support import check_log, partner
from tests.workers import head, write


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder that the servers' user may pass through: pytest closes its own to others again and again."""
    with tempfile.TemporaryDirectory(prefix="prm-es-backup-") as name:
        yield Path(name)


def test_a_folders_own_postgresql_is_started_for_as_long_as_it_is_needed(place: Path) -> None:
    first, second = (Settings(data=place / name) for name in ("first", "second"))
    with postgres(first) as settings:
        install(settings)
        write(settings, [partner() for _ in range(5)])
        position = head(settings)
        done = back_up(settings, place)
    assert (done.position, running(first.data)) == (position, None)
    with postgres(second) as settings:
        restored = restore(settings, done.file)
        assert (restored.verified.position, restored.forgotten) == (position, None)
        assert verify(settings).digest == done.digest
        check_log(settings)
        assert not any(compare(settings, MODEL).differs.values())
    assert running(second.data) is None
