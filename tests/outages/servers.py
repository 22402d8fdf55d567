"""Servers that are stopped, made to hang and run out of room, and a real `prm-es up` that works on them."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from prm_es.files import write_file
from prm_es.local.folder import Folder
from prm_es.local.kafka import Kafka, find_jars
from prm_es.local.postgres import Postgres
from prm_es.local.processes import Child, Spec, wait_ready
from prm_es.settings import Settings
from tests.chaos.load import Load, Sender
from tests.chaos.run import settle
from tests.chaos.stack import Stack, stands_still, until

SETTLE_S = 120.0


class Server:
    """A server as a child of the tests."""

    def __init__(self, server: Postgres | Kafka, logs: Path, environment: Mapping[str, str]) -> None:
        self._server, self._logs, self._environment = server, logs, environment
        self.child: Child | None = None

    def start(self) -> None:
        given = self._server.spec()
        spec = Spec(**{**vars(given), "env": {**given.env, **self._environment}})
        self.child = Child(spec, self._logs)
        self.child.start()
        wait_ready(self.child, self._server.ready)

    def stop(self) -> None:
        if self.child:
            self.child.stop()
        self.child = None

    def processes(self) -> list[psutil.Process]:
        record = self.child.record.process if self.child else None
        found = record.find() if record else None
        return [found, *found.children(recursive=True)] if found else []

    @contextmanager
    def away(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let it stand still: its connections stay, new ones are taken by the kernel, and nobody answers."""
        stopped = self.processes()
        for one in stopped:
            one.send_signal(signal.SIGSTOP)
        until(lambda: all(stands_still(one.pid) for one in stopped), "it stands still")
        try:
            yield
        finally:
            for one in stopped:
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGCONT)


class Room:
    """A small file system of its own, where this user may mount one; its ballast takes all the room that is left."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.chmod(0o711)
        self._ballast = folder / "ballast"
        argv = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)]
        self.small = subprocess.run(argv, capture_output=True, check=False).returncode == 0

    @contextmanager
    def full(self) -> Iterator[None]:
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.folder).free)
        try:
            yield
        finally:
            self._ballast.unlink()

    def close(self) -> None:
        if self.small:
            subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


class Clock:
    """The clock of a process, by a library that is loaded before all others: real time and an offset in seconds."""

    def __init__(self, file: Path, library: Path) -> None:
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",  # a process that looks often would never see it change
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.set("+0")

    def set(self, offset: str) -> None:
        write_file(self._file, offset)


class Town:
    """Both servers, everything that `prm-es up` runs on them, a load, and who sends it."""

    def __init__(self, room: Room, seed: int, faketime: Path | None) -> None:
        self.room = room
        self.clock = Clock(room.folder / "clock", faketime) if faketime else None
        folder = Folder.at(room.folder / "servers")
        folder.make()
        self._own_postgres = Postgres(
            folder.root / "postgres", port=folder.port("postgres"), password=folder.secrets().superuser
        )
        own_kafka = Kafka(
            folder.root / "kafka",
            port=folder.port("kafka"),
            controller_port=folder.port("controller"),
            mark=str(folder.root),
        )
        self._own_postgres.prepare()
        own_kafka.prepare(find_jars(Settings()))
        self.postgres = Server(self._own_postgres, folder.logs, self.clock.environment if self.clock else {})
        self.kafka = Server(own_kafka, folder.logs, {})
        self.stack = Stack(
            room.folder / "data", servers=("--kafka", own_kafka.address, "--postgres", self._own_postgres.dsn("prm"))
        )
        self._load = Load(seed)

    @contextmanager
    def open(self) -> Iterator["Town"]:
        try:
            self.postgres.start()
            self.kafka.start()
            with psycopg.connect(self._own_postgres.dsn(), autocommit=True) as connection:
                connection.execute("CREATE DATABASE prm")
            with self.stack as stack:
                stack.up()
                self.sender = Sender(stack.settings)
                try:
                    yield self
                finally:
                    self.sender.close()
        finally:
            self.kafka.stop()
            self.postgres.stop()

    def send(self, size: int = 60) -> None:
        self.sender.give(self._load.burst(size))

    def settle(self) -> None:
        """Return once everything that was sent is answered, published and in every read model."""
        self.stack.forget()  # connections of before
        assert settle(self.stack, self.sender, SETTLE_S) is not None, self.status()

    def status(self) -> dict[str, Any]:
        """Ask `prm-es status --json`."""
        return self.stack.status_json()

    def children(self) -> dict[str, dict[str, Any]]:
        """Give what the supervisor has recorded of its children."""
        record = Folder.at(self.stack.data).record()
        assert record
        return {name: child.model_dump() for name, child in record.children.items()}

    def deaths(self) -> int:
        """Count how often a server ended by itself."""
        return sum(one.child.record.restarts for one in (self.postgres, self.kafka) if one.child)

    def dead_after_sending(self) -> int:
        self.send()
        return self.deaths()

    def starts(self) -> dict[str, int]:
        return {name: child["restarts"] for name, child in self.children().items()}
