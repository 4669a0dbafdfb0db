"""A PostgreSQL server for one run: made in a temporary directory, without fsync, gone with who made it."""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gateway_project.core.processes import die_with_parent
from tests.servers.ports import free_port

ROLE = "gateway"
START_SECONDS = 40.0
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "log_min_messages": "fatal",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "autovacuum_naptime": "20s",
}


def programs() -> Path | None:
    """The directory of the newest PostgreSQL server that is installed; Debian keeps it off the PATH."""
    versions = Path("/usr/lib/postgresql")
    found = [path.parent for path in versions.glob("*/bin/postgres")] if versions.exists() else []
    if found:
        return max(found, key=lambda path: float(path.parent.name))
    known = shutil.which("postgres")
    return Path(known).parent if known else None


def missing() -> str:
    return "" if programs() is not None else "postgresql"


class Postgres:
    """One server. As root it runs as the user `postgres`, which it insists on."""

    def __init__(self, **settings: str) -> None:
        found = programs()
        if found is None:
            raise LookupError("PostgreSQL is not installed")
        self.programs = found
        self.settings = SETTINGS | settings
        self.directory = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)
        data = str(self.directory / "data")
        self._run(str(found / "initdb"), "-D", data, "-U", ROLE, "-A", "trust", "--no-sync", "-E", "UTF8", *LOCALE)
        self.start()

    def start(self) -> None:
        options = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        parent = os.getpid()
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.directory / "data"), "-p", str(self.port), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent, number=signal.SIGQUIT),  # noqa: PLW1509 - as `make run` does
                **self._as_user(),
            )
        give_up_at = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError((self.directory / "log").read_text())
            time.sleep(0.05)

    def url(self, database: str = "postgres") -> str:
        return f"postgres://{ROLE}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str, *, template: str = "template0") -> str:
        """A new database; answers its address."""
        self.sql(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.url(database)

    def sql(self, statement: str, *, database: str = "postgres") -> list[list[str]]:
        """Rows as psql prints them: the server as another program sees it."""
        done = subprocess.run(
            [str(self.programs / "psql"), "-X", "-q", "-A", "-t", "-F", "\x1f", "-c", statement, self.url(database)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return [line.split("\x1f") for line in done.stdout.splitlines()]

    def stop(self, *, number: int = signal.SIGINT) -> None:
        """SIGINT: connections are cut, the server ends in order; SIGQUIT: as by a power cut."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def remove(self) -> None:
        self.stop(number=signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        ready = [str(self.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"]
        return subprocess.run(ready, check=False).returncode == 0

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **self._as_user())
        if done.returncode != 0:
            raise RuntimeError(done.stderr)

    def _as_user(self) -> dict[str, object]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


LOCALE: Sequence[str] = ("--locale=C.UTF-8",)


def server_for_this_run() -> str:
    """The address of a server that lives as long as this process; the first call starts it."""
    server = Postgres()
    atexit.register(server.remove)
    return server.url()
