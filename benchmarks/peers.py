"""Who else receives: Orthanc and DCMTK's storescp from Debian, tuned, each in a folder of its own."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.gateway_harness import free_ports, listens, wait_until

TUNED = {"TCP_NODELAY": "1"}  # what DCMTK, and Orthanc which stands on it, take from the environment
STOP_SECONDS = 20.0


class BenchmarkError(Exception):
    """A measurement that means nothing: something was refused, lost or died. Says what."""


class Receiver(Protocol):
    """A running store to send to. `count` is how many objects it holds, as it would tell anybody who asks."""

    @property
    def label(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def ae_title(self) -> str: ...
    def count(self) -> int: ...


def program(*names: str) -> str | None:
    """Where one of these programs is; Debian keeps Orthanc in /usr/sbin, which is not on everybody's path."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin"
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def version_of(command: str) -> str:
    """The version in the first line that `--version` prints."""
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=30, check=False)
    words = (done.stdout or done.stderr).split("\n")[0].replace("$", " ").split()
    return next((word.lstrip("v") for word in words if word.lstrip("v")[:1].isdigit()), "unknown")


@contextmanager
def running(command: Sequence[str], *, port: int, log: Path, env: Mapping[str, str]) -> Iterator[None]:
    """The program listens on `port` inside the block, and is gone after it whatever happens."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env={**os.environ, **env}
        )
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, what=command[0])
        if process.poll() is not None:
            raise BenchmarkError(f"{command[0]} ended by itself: {log.read_text(errors='replace')[-500:]}")
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Storescp:
    """DCMTK's storescp: writes what it gets as it is, without fsync, without an index."""

    ae_title = "STORESCP"
    label = "DCMTK storescp"

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def count(self) -> int:
        return sum(1 for _ in self.folder.iterdir())

    @classmethod
    @contextmanager
    def start(cls, folder: Path, *, fork: bool = False, tuned: bool = True) -> Iterator["Storescp | None"]:
        """None when it is not installed. By default it serves one association after the other; with `fork` all at once,
        each in a process of its own."""
        found = program("storescp")
        if found is None:
            yield None
            return
        received = folder / "storescp"
        received.mkdir()
        (port,) = free_ports(1)
        options = ["-q", "-aet", cls.ae_title, "-od", str(received), "+B", *(["--fork"] if fork else [])]
        with running([found, *options, str(port)], port=port, log=folder / "storescp.log", env=TUNED if tuned else {}):
            yield cls(received, port)


class Orthanc:
    """Orthanc: a file per object (synced, as it does by default) and its SQLite index."""

    ae_title = "ORTHANC"
    label = "Orthanc"

    def __init__(self, port: int, http_port: int) -> None:
        self.port = port
        self._statistics = f"http://127.0.0.1:{http_port}/statistics"

    def count(self) -> int:
        with urllib.request.urlopen(self._statistics, timeout=30) as answer:
            return int(json.load(answer)["CountInstances"])

    @classmethod
    @contextmanager
    def start(
        cls, folder: Path, *, modalities: Mapping[str, tuple[str, int]] | None = None
    ) -> Iterator["Orthanc | None"]:
        """None when it is not installed. `modalities`: AE title and port on this machine by a name, to move to."""
        found = program("Orthanc", "orthanc")
        if found is None:
            yield None
            return
        home = folder / "orthanc"
        home.mkdir()
        port, http_port = free_ports(2)
        configuration = home / "orthanc.json"
        settings = orthanc_configuration(home, port=port, http_port=http_port)
        known = {name: [title, "127.0.0.1", number] for name, (title, number) in (modalities or {}).items()}
        settings |= {"DicomModalities": {**known, "bench": ["BENCH", "127.0.0.1", 1]}, "DicomAlwaysAllowGet": True}
        configuration.write_text(json.dumps(settings))
        with running([found, str(configuration)], port=port, log=folder / "orthanc.log", env=TUNED):
            wait_until(lambda: listens(http_port), what="Orthanc's HTTP port")
            yield cls(port, http_port)


def orthanc_configuration(home: Path, *, port: int, http_port: int) -> dict[str, object]:
    """Debian's defaults but for places, ports and plug-ins (none). A larger PDU was tried and makes it no faster."""
    return {
        "Name": "benchmark",
        "StorageDirectory": str(home / "storage"),
        "IndexDirectory": str(home / "index"),
        "TemporaryDirectory": str(home),
        "Plugins": [],
        "StorageCompression": False,
        "SyncStorageArea": True,
        "DicomAet": Orthanc.ae_title,
        "DicomPort": port,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "TcpNoDelay": True,
        "SaveJobs": False,
    }
