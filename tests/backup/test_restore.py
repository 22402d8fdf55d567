"""A backup is taken while everything runs, and restored whole, checked, and as a history of its own, or not at all."""

import signal
import stat
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import psycopg
import pytest

from prm_es.audit.verify import verify
from prm_es.backup import tools
from prm_es.consumers.runtime import UNAVAILABLE, WRONG_USAGE
from prm_es.projections.registry import READ_MODELS
from prm_es.rebuild import compare
from prm_es.settings import Settings
from tests.consumers.test_healing import caught_up, check_rows, refused
from tests.projections.test_ordered import registration
from tests.support import check_log, partner, rows
from tests.test_cli import Ran, environment, in_process
from tests.workers import Crew, check_topics, head, publish_all, read_topics, store_id, story, until, write

PARTNERS, DEALS = story(20)
FEW = [partner() for _ in range(30)]


def prm(settings: Settings, *arguments: str) -> Ran:
    return in_process(environment(settings), *arguments)


def backed_up(settings: Settings, folder: Path) -> Path:
    ran = prm(settings, "backup", str(folder))
    assert ran.code == 0, ran.err
    return Path(ran.out.strip())


def restored(settings: Settings, file: Path, *flags: str) -> str:
    ran = prm(settings, "restore", str(file), *flags)
    assert ran.code == 0, ran.err
    return ran.err


def change(settings: Settings, *statements: str) -> None:
    """Do what nobody may: as the superuser, with the triggers of the log off."""
    with psycopg.connect(settings.postgres, options=f"-c search_path={settings.store_schema}") as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_a_store_restored_behind_its_topics_goes_on_after_one_verb(
    installed: Settings, crew: Crew, tmp_path: Path
) -> None:
    publishes, projects = crew.start("publish"), crew.start("project", "pipeline")
    write(installed, PARTNERS)
    least = head(installed)
    stop = Event()

    def go_on() -> None:
        while not stop.is_set():
            write(installed, [partner()])

    writer = Thread(target=go_on)
    writer.start()
    try:
        file = backed_up(installed, tmp_path)
    finally:
        stop.set()
        writer.join()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    write(installed, DEALS)
    until(lambda: caught_up(installed), "the topics are ahead of the backup")
    ahead, before = head(installed), store_id(installed)
    ran = prm(installed, "restore", str(file), "--replace")
    assert (ran.code, "stop them first" in ran.err) == (UNAVAILABLE, True)
    assert (publishes.end(), projects.end()) == (0, 0)
    ran = prm(installed, "restore", str(file))
    assert (ran.code, "--replace" in ran.err) == (WRONG_USAGE, True)
    assert head(installed) == ahead

    said = restored(installed, file, "--replace")
    position = head(installed)
    assert least <= position < ahead
    assert f"verified up to position {position}" in said
    assert store_id(installed) != before
    check_log(installed)
    assert {sum(compare(installed, model).differs.values()) for model in READ_MODELS.values()} == {0}
    assert not rows(installed, "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%%replaced'")
    for verb in (("publish",), ("project", "pipeline")):
        assert "`prm-es repair-topics`" in refused(crew.start(*verb))
    state = prm(installed, "status")
    assert "another history" in state.out

    ran = prm(installed, "repair-topics", "--yes")
    assert ran.code == 0, ran.err
    publishes, projects = crew.start("publish"), crew.start("project", "pipeline")
    write(installed, DEALS)
    until(lambda: caught_up(installed), "all is published and projected anew")
    assert (publishes.end(), projects.end()) == (0, 0)
    check_topics(installed)
    assert {one.head["ce_storeid"] for one in read_topics(installed, installed.event_topics)} == {store_id(installed)}
    check_rows(installed)
    causes = rows(installed, "SELECT cause, after_position FROM histories ORDER BY number")
    assert [tuple(one.values()) for one in causes] == [("installed", 0), ("restored", position), ("repaired", position)]


def test_what_was_asked_before_the_backup_and_answered_after_it_is_asked_again(
    installed: Settings, crew: Crew, tmp_path: Path
) -> None:
    seller = partner(authorisations=[{"product_line": "scales"}])
    lead, other = (registration(seller.subject, {"customer_id": f"c-{n}"}) for n in range(2))
    write(installed, [seller, lead])
    asks = crew.start("conflicts")
    checkpoint = f"SELECT position FROM {installed.projections_schema}.checkpoints WHERE name = 'conflicts'"
    until(lambda: rows(installed, checkpoint)[0]["position"] == head(installed), "the worker has asked")
    file = backed_up(installed, tmp_path)
    answers = crew.start("handle")
    screened = "SELECT id FROM commands WHERE source = 'prm-es:conflicts' ORDER BY commit_number"
    (first,) = until(lambda: rows(installed, screened), "it is answered")
    assert (asks.end(), answers.end()) == (0, 0)
    restored(installed, file, "--replace")
    assert not rows(installed, screened)
    write(installed, [other])
    asks, answers = crew.start("conflicts"), crew.start("handle")
    until(lambda: len(rows(installed, screened)) == 2, "both are answered")
    assert (asks.end(), answers.end()) == (0, 0)
    again, new = (row["id"] for row in rows(installed, screened))
    assert again == first["id"]
    assert new.endswith(f"@{store_id(installed).partition('-')[0]}")


def test_keys_destroyed_since_the_backup_are_destroyed_again_where_the_replaced_store_tells(
    installed: Settings, tmp_path: Path
) -> None:
    write(installed, [*PARTNERS, *DEALS])
    file = backed_up(installed, tmp_path)
    assert b"Rita" not in file.read_bytes()
    personal = f"SELECT key_id FROM {installed.prefix}_pipeline_1.personal ORDER BY 1 LIMIT 1"
    prm(installed, "rebuild", "pipeline")
    personal = personal.replace("_1.", "_2.")
    (gone,) = rows(installed, personal)
    change(installed, f"DELETE FROM keys WHERE key_id = '{gone['key_id']}'")
    assert "1 keys that were destroyed since the backup are destroyed again" in restored(installed, file, "--replace")
    assert not rows(installed, "SELECT 1 FROM keys WHERE key_id = %s", [gone["key_id"]])
    assert {sum(compare(installed, model).differs.values()) for model in READ_MODELS.values()} == {0}
    change(installed, *(f"DROP SCHEMA {name} CASCADE" for name in schemas(installed)))
    assert "run `prm-es forget` anew" in restored(installed, file)
    assert rows(installed, "SELECT 1 FROM keys WHERE key_id = %s", [gone["key_id"]])
    check_log(installed)


def schemas(settings: Settings) -> list[str]:
    found = rows(settings, "SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", [f"{settings.prefix}%"])
    return sorted(row["nspname"] for row in found)


def test_a_backup_that_is_damaged_or_does_not_verify_leaves_what_is_there(installed: Settings, tmp_path: Path) -> None:
    write(installed, FEW)
    publish_all(installed)
    good = backed_up(installed, tmp_path)
    content = good.read_bytes()
    torn, other = tmp_path / "torn.backup", tmp_path / "other.backup"
    torn.write_bytes(content[:-200])
    other.write_bytes(b"something else")
    change(
        installed,
        "ALTER TABLE events DISABLE TRIGGER append_only",
        "UPDATE events SET state = convert_to(replace(convert_from(state, 'UTF8'), 'a', 'o'), 'UTF8')"
        " WHERE notification_id = 7",
        "ALTER TABLE events ENABLE ALWAYS TRIGGER append_only",
    )
    assert prm(installed, "verify").code == 1
    tampered = tmp_path / "tampered.backup"
    assert prm(installed, "backup", str(tampered)).code == 0
    assert prm(installed, "backup", str(tampered)).code == WRONG_USAGE
    before = store_id(installed), head(installed), schemas(installed)
    for file, why in ((torn, "pg_restore failed"), (other, "cannot be read"), (tampered, "does not verify: commit 1,")):
        ran = prm(installed, "restore", str(file), "--replace")
        assert (ran.code, why in ran.err) == (UNAVAILABLE, True), ran.err
        assert (store_id(installed), head(installed), schemas(installed)) == before
    elsewhere = installed.model_copy(update={"prefix": "elsewhere"})
    ran = prm(elsewhere, "restore", str(good), "--replace")
    assert (ran.code, "PRM_PREFIX" in ran.err) == (WRONG_USAGE, True)
    restored(installed, good, "--replace")
    assert prm(installed, "verify").code == 0
    check_rows(installed)


KILLED = """
import os, signal, sys
from pathlib import Path
from prm_es.backup.restore import restore
from prm_es.settings import Settings

def on_step(step, done, total):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

restore(Settings(), Path(sys.argv[1]), replace=True, on_step=on_step)
"""


@pytest.mark.parametrize("step", ["loading", "pipeline"])
def test_a_restore_that_was_killed_keeps_workers_out_and_can_be_run_again(
    installed: Settings, crew: Crew, tmp_path: Path, step: str
) -> None:
    write(installed, FEW)
    file = backed_up(installed, tmp_path)
    write(installed, [partner()])
    argv = [sys.executable, "-c", KILLED, str(file), step]
    done = subprocess.run(argv, env={**tools.environment(""), **environment(installed)}, check=False)
    assert done.returncode == -signal.SIGKILL
    until(lambda: not _others(installed), "what it had begun has ended")
    worker = crew.start("publish")
    assert worker.exit_code() == UNAVAILABLE
    assert "SchemaMismatch" in worker.logged("worker.unavailable")[0]["reason"]
    ran = prm(installed, "restore", str(file))
    assert (ran.code, "--replace" in ran.err) == (WRONG_USAGE, True)
    restored(installed, file, "--replace")
    assert verify(installed).fault is None
    publish_all(installed)
    assert {sum(compare(installed, model).differs.values()) for model in READ_MODELS.values()} == {0}


def _others(settings: Settings) -> bool:
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return bool(rows(settings, query))
