"""What was measured, as one table in Markdown, below the machine and the versions that it was measured on."""

import math
import os
import platform
import ssl
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import psutil
import pysqlite3

from benchmarks.peers import program, version_of

MB = 1e6
PACKAGES = ("pydicom", "pynetdicom", "cryptography", "zstandard", "Django")


@dataclass
class Measure:
    """One side of a comparison: the seconds of each round, for `objects` objects of `size_bytes` bytes in all."""

    objects: int
    size_bytes: int
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def cell(self) -> str:
        """Median (lowest-highest, number of rounds), time for each object, rate."""
        rounds = len(self.seconds)
        spread = f" ({min(self.seconds):.3g}-{max(self.seconds):.3g}, n={rounds})" if rounds > 1 else " (n=1)"
        each = self.median / self.objects * 1000
        return f"{self.median:.3g} s{spread}, {each:.3g} ms each, {self.size_bytes / MB / self.median:.3g} MB/s"


@dataclass(frozen=True)
class Row:
    """One comparison. `theirs` is None when that program is not installed; `to_reach` is what the ratio should be."""

    figure: str
    ours: Measure
    beside: str
    theirs: Measure | None
    to_reach: str

    def ratio(self) -> str:
        """How many times as fast as the other one: medians, above 1 is faster."""
        if self.theirs is None:
            return "-"
        times = self.theirs.median / self.ours.median
        return f"{times:.2f}x" if times >= 0.1 else f"{times:.1g}x"

    def cells(self) -> list[str]:
        theirs = self.theirs.cell() if self.theirs else "not installed"
        return [self.figure, self.ours.cell(), self.beside, theirs, self.ratio(), self.to_reach]


@dataclass(frozen=True)
class Figure:
    """One figure in words, with what is to be reached; beside a peer's, or beside nothing."""

    figure: str
    ours: str
    to_reach: str
    beside: str = "-"
    theirs: str = "-"

    def cells(self) -> list[str]:
        return [self.figure, self.ours, self.beside, self.theirs, "-", self.to_reach]


class TableRow(Protocol):
    """A line of the table, under HEADINGS."""

    def cells(self) -> list[str]: ...


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank: the least value that so many per cent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def latencies(seconds: Sequence[float]) -> str:
    told = ", ".join(f"p{percent} {percentile(seconds, percent) * 1000:.3g} ms" for percent in (50, 95, 99))
    return f"{told}, max {max(seconds) * 1000:.3g} ms (n={len(seconds)})"


HEADINGS = ["figure", "gateway", "beside", "theirs", "ratio", "to reach"]


def table(rows: Sequence[TableRow]) -> str:
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


class Clock:
    """Keeps a benchmark within its time: rounds that would begin too late are left out, and that is said."""

    def __init__(self, ends_at: float) -> None:
        self._ends_at = ends_at

    def is_over(self) -> bool:
        return time.monotonic() > self._ends_at

    def allows(self, done: int, asked: int) -> bool:
        """Whether another round may begin after `done` of `asked`; the first always may."""
        late = done > 0 and self.is_over()
        if late and done < asked:
            tell(f"  time is up after {done} of {asked} rounds")
        return done < asked and not late


def tell(line: str) -> None:
    print(line, flush=True)


def machine(folder: Path) -> str:
    """Cores, processor, kernel, load, memory, and the file system that everything is written to."""
    usable = len(os.sched_getaffinity(0))
    cores = f"{usable} of {os.cpu_count()} cores, {processor()}"
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    kind = file_system(folder)
    lines = [
        f"machine   {cores}, {memory}, {platform.system()} {platform.release()}",
        f"load      {load()} (1, 5, 15 minutes) at the start",
        f"disk      {kind} at {folder}" + (": MEMORY, SO FSYNC COSTS NOTHING HERE" if kind == "tmpfs" else ""),
    ]
    return "\n".join(lines)


def load() -> str:
    return ", ".join(f"{value:.2f}" for value in os.getloadavg())


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def file_system(folder: Path) -> str:
    """The type of the mount that holds `folder`: the longest mount point above it."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(above, key=lambda found: len(found[0]), default=("", "unknown"))[1]


def versions() -> str:
    """Ours with its commit, and everything that takes part."""
    from gateway_project import __version__

    found = [("gateway", f"{__version__} ({commit()})"), ("Python", platform.python_version())]
    found += [(name, version(name)) for name in PACKAGES]
    found += [("SQLite", pysqlite3.sqlite_version), ("OpenSSL", ssl.OPENSSL_VERSION.split()[1])]
    for name, commands in (("DCMTK", ("storescu",)), ("Orthanc", ("Orthanc", "orthanc"))):
        path = program(*commands)
        found.append((name, version_of(path) if path else "not installed"))
    return "versions  " + ", ".join(f"{name} {text}" for name, text in found)


def commit() -> str:
    """The commit that is measured, marked when the working tree differs from it."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(asked, cwd=root, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return "commit unknown"
    return done.stdout.strip() or "commit unknown"
