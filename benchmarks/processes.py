"""What the gateway's processes hold, as the kernel tells it: resident memory, its peaks, descriptors."""

import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.gateway_harness import Gateway

MIB = 2**20
LOOK_SECONDS = 0.1
ROLES = {  # by what stands in the command line, the first that does
    "rungateway": "supervisor",
    "supervisord": "supervisor",
    "--receiver": "receiver",
    "runlisteners": "acceptor",
    "runworkers": "worker",
    "gunicorn": "web",
    "uploads.vault": "vault",
}


@dataclass(frozen=True)
class Held:
    """What one process holds now."""

    resident_bytes: int
    descriptors: int
    threads: int

    def told(self) -> str:
        return f"{self.resident_bytes / MIB:.1f} MiB, {self.descriptors} fds, {self.threads} threads"


def processes(gateway: Gateway) -> dict[int, str]:
    """Every living process of this gateway, with its role."""
    found: dict[int, str] = {}
    for started in gateway.processes:
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(started.pid)
            for process in [parent, *parent.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    found[process.pid] = role_of(" ".join(process.cmdline()))
    return found


def role_of(command: str) -> str:
    return next((role for word, role in ROLES.items() if word in command), "other")


def held(pid: int) -> Held:
    process = psutil.Process(pid)
    return Held(process.memory_info().rss, process.num_fds(), process.num_threads())


class PeakWatch:
    """How far the resident memory of each process rises above what it was at the beginning of the block.

    The kernel keeps the peak (VmHWM, begun anew here), so nothing short is missed; it is read every 0.1 s because a
    process may end. One that begins in the block is compared with the largest of its role before it.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._roles = processes(gateway)
        self._before = {pid: psutil.Process(pid).memory_info().rss for pid in self._roles}
        self._largest: dict[str, int] = {}
        for pid, size in self._before.items():
            self._largest[self._roles[pid]] = max(size, self._largest.get(self._roles[pid], 0))
            with suppress(OSError):  # then the peak is that of the whole life: never too little
                Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._peaks = dict(self._before)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        self._roles |= processes(self._gateway)
        for pid in self._roles:
            self._peaks[pid] = max(self._peaks.get(pid, 0), peak_bytes(pid))

    def growth(self) -> dict[str, int]:
        """Bytes by role: of the process of this role that grew most."""
        found: dict[str, int] = {}
        for pid, role in self._roles.items():
            before = self._before.get(pid, self._largest.get(role, 0))
            found[role] = max(found.get(role, 0), self._peaks.get(pid, before) - before)
        return found


def peak_bytes(pid: int) -> int:
    """VmHWM; 0 when the process is gone."""
    with suppress(OSError):
        match = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(match[1]) * 1024 if match else 0
    return 0


def growth_told(growth: Mapping[str, int]) -> str:
    """The largest first."""
    ordered = sorted(growth.items(), key=lambda found: -found[1])
    return ", ".join(f"{role} +{size / MIB:.1f}" for role, size in ordered) + " MiB"
