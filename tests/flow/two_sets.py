"""Two sets of processes, each with its own data directory, on one PostgreSQL, one Redis and one store."""

import os
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.crash.test_receiving_crash import acknowledged
from tests.dicom_samples import study_files, uid_of
from tests.gateway_harness import PREPARE, Gateway, descendants, listens, wait_until
from tests.servers.postgres import Postgres
from tests.servers.redis_server import RedisServer

SENDER_SECONDS = 120
SPOOL = "from studies.services.watch import spool_watch; spool_watch(None)"
RUNNING = "SELECT count(*) FROM uploads_uploadjob WHERE state = 'running'"
OPEN = "SELECT count(*) FROM studies_study WHERE state <> 'uploaded'"


def environment(folder: Path, database: str, redis: RedisServer) -> dict[str, str]:
    """What the sets have in common."""
    return {
        "DATABASE_URL": database,
        "REDIS_URL": redis.url,
        "GATEWAY_STORAGE__ROOT": str(folder / "store"),
        "GATEWAY_KEYS_DIR": str(folder / "keys"),
        "GATEWAY_SETTLING__SCAN_SECONDS": "1",
        "GATEWAY_SETTLING__INACTIVITY_SECONDS": "1",
        "GATEWAY_QUEUE__LEASE_SECONDS": "5",
    }


class Prepared:
    """Two data directories, a store, keys and a database as the first start of each set leaves them, to be copied."""

    database = "prepared"

    def __init__(self, folder: Path, postgres: Postgres, redis: RedisServer) -> None:
        self.folder, self.postgres, self.redis = folder, postgres, redis
        common = environment(folder, postgres.create(self.database), redis)
        for name in ("first", "second"):
            data = folder / name / "data"
            data.mkdir(mode=0o700, parents=True)
            done = Gateway(data, **common).code(PREPARE)
            assert done.returncode == 0, done.stderr

    def copy(self, folder: Path) -> "Sets":
        shutil.copytree(self.folder, folder)
        database = self.postgres.create(f"sets_{secrets.token_hex(6)}", template=self.database)
        return Sets(folder, environment(folder, database, self.redis))


class Sets:
    """`first` and `second`; the demonstration vault is the first's, in a process that outlives it."""

    def __init__(self, folder: Path, common: dict[str, str]) -> None:
        self.keys = folder / "keys"
        self.first = Gateway(folder / "first" / "data", **common)
        self.second = Gateway(folder / "second" / "data", **common)
        self.both = (self.first, self.second)
        self.vault: subprocess.Popen[bytes] | None = None
        self.promised: set[str] = set()
        self.files: dict[str, Path] = {}

    def start(self, gateway: Gateway) -> list[subprocess.Popen[bytes]]:
        """Listeners, workers and web of one set."""
        if self.vault is None:
            self.vault = self.first.start_vault()
        web = ("-m", "gunicorn", "gateway_project.wsgi:application", "-k", "gthread", "--no-control-socket")
        return [
            gateway.start_listeners(),
            gateway.start("manage.py", "runworkers"),
            gateway.start(*web, "--bind", f"127.0.0.1:{gateway.web_port}", "--log-level", "warning"),
        ]

    def kill(self, gateway: Gateway) -> None:
        """SIGKILL for every process of the set, as when its machine loses power."""
        own = [process for process in gateway.processes if process is not self.vault and process.poll() is None]
        for process in own:
            for member in [*descendants(process.pid), process]:
                try:
                    os.kill(member.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            process.wait()
        wait_until(lambda: not listens(gateway.dimse_port), what="the port to be free")

    def end(self) -> None:
        for gateway in self.both:
            gateway.kill()

    def study(self, folder: Path, *, patient_id: str, count: int = 6) -> list[Path]:
        files = study_files(folder, count=count, patient_id=patient_id, side=64)
        self.files |= {uid_of(path): path for path in files}
        return files

    def send(self, gateway: Gateway, files: Sequence[Path]) -> "Sending":
        return Sending(self, gateway, list(files))

    def leader(self) -> str:
        """The data directory's set whose ticker leads, by the process id in the lease; "" for none that lives."""
        for (holder,) in self.first.rows("SELECT holder FROM core_lease WHERE name = 'ticker' AND until > now()"):
            pid = int(holder.split(":")[1])
            for gateway in self.both:
                if any(pid == member.pid for process in gateway.processes for member in descendants(process.pid)):
                    return str(gateway.data)
        return ""

    def led_by(self, gateway: Gateway) -> bool:
        return self.leader() == str(gateway.data)

    def all_home(self) -> bool:
        """Every promised object has its row, and every study is in the vault."""
        indexed = {uid for (uid,) in self.first.rows("SELECT sop_instance_uid FROM studies_instance")}
        return self.promised <= indexed and not self.first.value(OPEN)

    def in_the_vault(self, folder: Path) -> list[str]:
        """The SOP Instance UIDs of all that the recipient can open, over every upload that has its receipt."""
        found = []
        folder.mkdir()
        for (upload_id,) in self.first.rows("SELECT upload_id FROM uploads_uploadjob WHERE state = 'done'"):
            self.first.open_upload(upload_id, folder / upload_id)
            found += [uid_of(path) for path in (folder / upload_id).rglob("*.dcm")]
        return sorted(found)


class Sending:
    """storescu under way; `told` waits for its end and notes what was acknowledged."""

    def __init__(self, sets: Sets, gateway: Gateway, files: list[Path]) -> None:
        self._sets, self._files = sets, files
        self.lines: list[str] = []
        command = ["storescu", "-v", "-aec", "GATEWAY", "-aet", "JUDGE", "127.0.0.1", str(gateway.dimse_port)]
        self._process = subprocess.Popen(
            [*command, *map(str, files)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"TCP_NODELAY": "1"},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        if self._process.stdout is not None:
            self.lines.extend(iter(self._process.stdout.readline, ""))

    @property
    def stored(self) -> int:
        return sum("Received Store Response (Success)" in line for line in list(self.lines))

    def told(self) -> set[str]:
        self._process.wait(SENDER_SECONDS)
        self._reader.join(SENDER_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()
        found = acknowledged("".join(self.lines), self._files)
        self._sets.promised |= found
        return found
