"""A real gateway in processes of its own, judged from outside: over the wire, in its database file, in its folders."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import psycopg
import pysqlite3

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 40.0
T = TypeVar("T")

PREPARE = "from gateway_project.wiring.prepare import gateway_prepare; gateway_prepare()"
VAULT = "from gateway_project.wiring.demonstration import demonstration_prepare; demonstration_prepare()"
DRAIN = "from gateway_project.core.tasks import drain; drain('upload')"
# A dead worker's lease runs out after a minute; here that minute has passed.
EXPIRE = (
    "from datetime import timedelta; from django.utils.timezone import now; from uploads.models import UploadJob;"
    "from gateway_project.core.tasks import leases_expire;"
    "UploadJob.objects.filter(state='running').update(lease_until=now() - timedelta(seconds=1)); leases_expire(now())"
)
# Everything is quiet for long enough: the harness sets GATEWAY_SETTLING__INACTIVITY_SECONDS=0.
SETTLE = (
    "from django.utils.timezone import now; from gateway_project.wiring.pipeline import settle_due; settle_due(now())"
)


def data_directory_prepare(path: Path) -> None:
    """Runs the first start's preparation on a new directory."""
    path.mkdir(mode=0o700, parents=True)
    run_code(PREPARE, environment_for(path, free_ports(3)))


def free_ports(count: int) -> list[int]:
    """Ports that nobody holds now. They are outside the range that the kernel hands out by itself."""
    found: list[int] = []
    while len(found) < count:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def environment_for(data: Path, ports: Sequence[int]) -> dict[str, str]:
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "DJANGO_", "DATABASE_URL", "REDIS_URL"))
    }
    return kept | {
        "DJANGO_SETTINGS_MODULE": "gateway_project.settings",
        "GATEWAY_DATA_DIR": str(data),
        "GATEWAY_DICOM__PORT": str(ports[0]),
        "GATEWAY_WEB__PORT": str(ports[1]),
        "GATEWAY_VAULT_SERVER__PORT": str(ports[2]),
        "GATEWAY_SETTLING__INACTIVITY_SECONDS": "0",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def run_code(code: str, env: dict[str, str], *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a line of Python inside Django, in a process of its own."""
    setup = "import django; django.setup();"
    return subprocess.run(
        [sys.executable, "-c", setup + code],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def wait_until(look: Callable[[], T], *, seconds: float = START_SECONDS, what: str = "it") -> T:
    """Looks until the answer is true; fails with what was waited for."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Gateway:
    """Its parts are started one by one, or all together by `run()`."""

    def __init__(self, data: Path, **environment: str) -> None:
        self.data = data
        self.dimse_port, self.web_port, self.vault_port = ports = free_ports(3)
        self.env = environment_for(data, ports) | environment
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log = data.parent / "console.log"

    # Starting and stopping

    def start(self, *arguments: str, cwd: Path = ROOT, **extra: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env=self.env | extra,
                cwd=cwd,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start_listeners(self, **extra: str) -> subprocess.Popen[bytes]:
        process = self.start("manage.py", "runlisteners", **extra)
        wait_until(lambda: listens(self.dimse_port) or process.poll() is not None, what="the DIMSE port")
        return process

    def start_vault(self, **extra: str) -> subprocess.Popen[bytes]:
        self.code(VAULT)
        identity = json.loads((self.data / "vault" / "vault.json").read_text())
        arguments = ["--directory", str(self.data / "vault"), "--vault-id", identity["vault_id"], "--demonstration"]
        process = self.start("-m", "uploads.vault", "serve", *arguments, "--port", str(self.vault_port), **extra)
        wait_until(lambda: listens(self.vault_port), what="the vault's port")
        return process

    def run(self, *, cwd: Path = ROOT, **extra: str) -> subprocess.Popen[bytes]:
        """`make run`, without make: the whole gateway in the foreground of a process of its own."""
        process = self.start(str(ROOT / "manage.py"), "rungateway", cwd=cwd, **extra)
        for port, what in ((self.dimse_port, "DIMSE"), (self.vault_port, "vault"), (self.web_port, "web")):
            wait_until(lambda port=port: listens(port) or process.poll() is not None, what=f"the {what} port")
        return process

    def kill(self) -> None:
        for process in self.processes:
            for member in [*descendants(process.pid), process]:
                try:
                    member.kill()
                except (psutil.NoSuchProcess, ProcessLookupError):
                    continue
            process.wait()
        for stray in self.strays():
            stray.kill()

    def stop(self, process: subprocess.Popen[bytes], *, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        process.send_signal(number)
        return process.wait(seconds)

    def strays(self) -> list[psutil.Process]:
        """Processes anywhere on this machine that work on this data directory."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get("GATEWAY_DATA_DIR") == str(self.data)
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                continue
        return found

    # Asking it

    def code(self, code: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return run_code(code, self.env | extra)

    def manage(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, env=self.env | extra, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Reads the database beside the gateway, without any of its code."""
        if "DATABASE_URL" in self.env:
            with psycopg.connect(self.env["DATABASE_URL"], autocommit=True) as postgres:
                return postgres.execute(sql.replace("?", "%s"), parameters or None).fetchall()
        connection = pysqlite3.connect(f"file:{self.data / 'gateway.sqlite3'}?mode=ro", uri=True, timeout=20)
        try:
            return list(connection.execute(sql, parameters))
        finally:
            connection.close()

    def value(self, sql: str, *parameters: Any) -> Any:
        return self.rows(sql, *parameters)[0][0]

    @property
    def store(self) -> Path:
        return Path(self.env.get("GATEWAY_STORAGE__ROOT", self.data / "studies"))

    def storescu(self, *files: Path, extra: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """DCMTK's sender, verbose, so that its output tells what was acknowledged."""
        command = ["storescu", "-v", "-aec", "GATEWAY", "-aet", "JUDGE", *extra, "127.0.0.1", str(self.dimse_port)]
        env = os.environ | {"TCP_NODELAY": "1"}
        return subprocess.run(
            [*command, *map(str, files)], capture_output=True, text=True, timeout=120, env=env, check=False
        )

    def open_upload(self, upload_id: str, target: Path) -> dict[str, Any]:
        """The recipient's tool, as a recipient would call it."""
        command = [
            *(sys.executable, "-m", "uploads.vault", "open", "--upload", upload_id, "--json", "--out", str(target)),
            *("--directory", str(self.data / "vault")),
            *("--key", str(self.data / "demonstration-recipient" / "recipient.pem")),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
