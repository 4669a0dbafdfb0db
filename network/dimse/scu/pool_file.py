"""What the pool of one process holds, told to the other processes of this gateway through a small file."""

import contextlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from network.dimse.scu.pool import PoolState

logger = logging.getLogger(__name__)
_PREFIX = "pool-"
_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class PoolLine:
    """The associations of one process to one peer: open now (`idle`, `in_use`), and counted since it started."""

    process: str
    pid: int
    called_ae_title: str
    calling_ae_title: str
    address: str
    port: int
    tls: bool
    idle: int
    in_use: int
    opened: int
    reused: int
    failed: int


class PoolFile:
    """One process's file; readable by our user alone, gone when the process ends in order, and passed over (and
    removed by the next reader) when it did not.
    """

    def __init__(self, directory: Path, process: str) -> None:
        self._directory = directory
        self._process = process
        self._pid = os.getpid()
        self._started = psutil.Process().create_time()
        name = "".join(c if c.isalnum() else "_" for c in process)
        self._path = directory / f"{_PREFIX}{self._pid}-{name}.json"
        self._written = ""

    def write(self, states: Iterable[PoolState]) -> None:
        """Tell what has changed since; a disk that does not take it is logged, and it is tried again next time."""
        lines = [asdict(self._line(state)) for state in states]
        lines.sort(key=lambda line: (line["called_ae_title"], line["address"], line["port"]))
        text = json.dumps({"started": self._started, "lines": lines}, separators=(",", ":"))
        if text == self._written:
            return
        part = self._path.with_suffix(".part")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.touch(mode=0o600)
            part.write_text(text)
            part.replace(self._path)
        except OSError as exc:
            logger.warning("state of the association pool not written", extra={"errno": exc.errno})
            return
        self._written = text

    def remove(self) -> None:
        """Nothing is told any more. May be repeated."""
        self._written = ""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _line(self, state: PoolState) -> PoolLine:
        peer = state.peer
        return PoolLine(
            process=self._process,
            pid=self._pid,
            called_ae_title=peer.called_ae_title,
            calling_ae_title=peer.calling_ae_title,
            address=peer.address,
            port=peer.port,
            tls=peer.tls is not None,
            idle=state.idle,
            in_use=state.in_use,
            opened=state.opened,
            reused=state.reused,
            failed=state.failed,
        )


def pools_read(directory: Path) -> list[PoolLine]:
    """What every living process has told, by peer. A file that cannot be read is passed over."""
    found: list[PoolLine] = []
    for path in sorted(directory.glob(f"{_PREFIX}*.json")):
        number = path.stem.removeprefix(_PREFIX).partition("-")[0]
        told = _read(path)
        if told is None or not number.isascii() or not number.isdecimal():
            continue
        if not _lives(int(number), told.get("started")):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            continue
        with contextlib.suppress(TypeError, KeyError):
            found += [PoolLine(**line) for line in told["lines"]]
    return sorted(found, key=lambda line: (line.called_ae_title, line.address, line.port, line.process, line.pid))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as stream:
            told = json.loads(stream.read(_BYTES_MAX))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _lives(pid: int, started: Any) -> bool:
    """Whether the process that wrote it runs still; its number may be another's by now."""
    try:
        return bool(psutil.Process(pid).create_time() == started)
    except (psutil.Error, OverflowError, ValueError):
        return False
