"""Starts clusters in a directory of their own, and finds, rings and kills their processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import psutil
import pysqlite3
import pytest

from gateway_project.core.redis_broker import KEY
from tests.servers.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 40.0
Found = TypeVar("Found")


def eventually(look: Callable[[], Found], *, seconds: float = PATIENCE_SECONDS) -> Found:
    """The first true answer of `look`, which is asked again and again; a test failure when there is none in time."""
    give_up_at = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > give_up_at:
            raise AssertionError(f"still {found!r} after {seconds} s")
        time.sleep(0.02)
    return found


def environment(directory: Path) -> dict[str, str]:
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "Q_CLUSTER", "COV_", "REDIS_URL"))},
        "DJANGO_SETTINGS_MODULE": "tests.core.cluster_project.settings",
        "CLUSTER_PROJECT_DIR": str(directory),
        "PYTHONPATH": str(ROOT),
    }


@dataclass(frozen=True)
class Template:
    """A migrated database, and the payload of a ring for every task; made once for all tests of a worker."""

    database: Path
    payloads: dict[str, str]

    @classmethod
    def make(cls, directory: Path) -> "Template":
        program = [sys.executable, "-m", "tests.core.cluster_project.prepare"]
        done = subprocess.run(program, env=environment(directory), cwd=ROOT, capture_output=True, check=True)
        database = directory / "db.sqlite3"
        with pysqlite3.connect(database) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return cls(database, json.loads(done.stdout))


@dataclass
class Project:
    directory: Path
    template: Template
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    redis: RedisServer | None = None

    def __post_init__(self) -> None:
        shutil.copy(self.template.database, self.directory / "db.sqlite3")

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[bytes]:
        """Starts `runworkers` with these arguments, or Python when they begin with "-c"."""
        program = [sys.executable, *(() if arguments[:1] == ("-c",) else ("-m", "django", "runworkers")), *arguments]
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                program,
                env=environment(self.directory) | ({"REDIS_URL": self.redis.url} if self.redis else {}) | extra,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def ring(self, name: str, *, cluster: str = "control") -> None:
        if self.redis is not None:
            self.redis.client.rpush(KEY.format(cluster=cluster), self.template.payloads[name])
            return
        row = (cluster, self.template.payloads[name], datetime.now(UTC).replace(tzinfo=None).isoformat(" "))
        connection = pysqlite3.connect(self.directory / "db.sqlite3", timeout=20)
        with connection:
            connection.execute("INSERT INTO django_q_ormq (key, payload, lock) VALUES (?, ?, ?)", row)
        connection.close()

    def rows(self, query: str) -> list[tuple[object, ...]]:
        connection = pysqlite3.connect(self.directory / "db.sqlite3", timeout=20)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def rings_waiting(self, cluster: str = "control") -> int:
        """Over Redis."""
        assert self.redis is not None
        return int(self.redis.client.llen(KEY.format(cluster=cluster)))

    def rings_taken(self) -> int:
        """How many rings a cluster has taken from the broker and not yet acknowledged."""
        return len(self.rows("SELECT id FROM django_q_ormq WHERE lock > datetime('now', '+50 minutes')"))

    def marks(self, text: str) -> int:
        path = self.directory / "marks"
        return path.read_text().splitlines().count(text) if path.exists() else 0

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def living(self, name: str | None = None) -> list[psutil.Process]:
        """What still lives of what was started here, also what lost its parents: the environment tells."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("CLUSTER_PROJECT_DIR") == str(self.directory)
                if ours and name in (None, process.name()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def one(self, name: str) -> psutil.Process:
        return eventually(lambda: self.living(name))[0]

    def complete(self, workers: int = 1) -> None:
        """Waits until one cluster is there with all its processes."""
        eventually(
            lambda: len(self.living("gw-worker")) == workers and self.living("gw-monitor") and self.living("gw-pusher")
        )

    def clean_up(self) -> None:
        while living := self.living():
            for process in living:
                process.send_signal(signal.SIGKILL)
        for started in self.started:
            started.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def cluster_template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return Template.make(tmp_path_factory.mktemp("cluster-template"))


@pytest.fixture
def project(tmp_path: Path, cluster_template: Template) -> Iterator[Project]:
    """A directory for one test's clusters, and afterwards the end of whatever it started."""
    project = Project(tmp_path, cluster_template)
    yield project
    project.clean_up()
