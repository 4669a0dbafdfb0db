"""Sending: the same files to DCMTK's storescp by our requestor, by storescu and by pynetdicom's, in turns."""

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from benchmarks.objects import CT, SMALL, ObjectFactory, ObjectKind
from benchmarks.peers import TUNED, BenchmarkError, Storescp
from benchmarks.report import Clock, Measure, Row, tell
from network.dimse import scu

OURS, STORESCU, PYNETDICOM = "gateway", "DCMTK storescu", "pynetdicom"
SEND_SECONDS = 180.0


@dataclass(frozen=True)
class Load:
    """`tuned`: the receiver sets TCP_NODELAY; storescu then does too. `peer` is who sends the same in turns."""

    title: str
    kind: ObjectKind
    count: int
    tuned: bool
    peer: str
    to_reach: str
    once: bool = False


def loads(*, quick: bool) -> list[Load]:
    ct, small, few = (8, 20, 5) if quick else (400, 1000, 100)
    return [
        Load("CT", CT, ct, True, STORESCU, "1x"),
        Load("small", SMALL, small, True, STORESCU, "1x"),
        Load("small, receiver as installed", SMALL, few, False, PYNETDICOM, "20x", once=True),
    ]


def push(folder: Path, *, rounds: int, quick: bool, clock: Clock) -> list[Row]:
    """Measures every load. Raises BenchmarkError when something was not stored."""
    with ExitStack() as stack:
        receivers: dict[bool, Storescp] = {}
        for tuned in (True, False):
            place = folder / ("tuned" if tuned else "installed")
            place.mkdir()
            started = stack.enter_context(Storescp.start(place, tuned=tuned))
            if started is None:
                tell("DCMTK is not installed: sending is not measured (apt-get install dcmtk)")
                return []
            receivers[tuned] = started
        runs = [_Run(load, receivers[load.tuned]) for load in loads(quick=quick)]
        done = 0
        while clock.allows(done, rounds):
            for run in runs:
                if done == 0 or not run.load.once:
                    run.round(folder, number=done)
            done += 1
        return [run.row() for run in runs]


class _Run:
    def __init__(self, load: Load, receiver: Storescp) -> None:
        self.load, self._receiver = load, receiver
        self._factory = ObjectFactory(load.kind)
        self._measures: dict[str, Measure] = {}

    def round(self, folder: Path, *, number: int) -> None:
        files = folder / "sent"
        size_bytes = self._factory.write(files, self.load.count)
        senders: list[tuple[str, Callable[[Path], None]]] = [
            (OURS, self._ours),
            (self.load.peer, self._storescu if self.load.peer == STORESCU else self._pynetdicom),
        ]
        for label, send in senders if number % 2 == 0 else senders[::-1]:
            for path in self._receiver.folder.iterdir():
                path.unlink()
            os.sync()
            began = time.perf_counter()
            send(files)
            measure = self._measures.setdefault(label, Measure(self.load.count, size_bytes))
            measure.seconds.append(time.perf_counter() - began)
            if self._receiver.count() != self.load.count:
                raise BenchmarkError(f"{label}: {self._receiver.count()} of {self.load.count} objects arrived.")
        told = ", ".join(f"{label} {measure.seconds[-1]:.2f} s" for label, measure in self._measures.items())
        tell(f"  send {self.load.title}, {self.load.count} objects, round {number + 1}: {told}")
        rmtree(files)

    def _ours(self, files: Path) -> None:
        scu.send_instances(
            sorted(files.iterdir()),
            address="127.0.0.1",
            port=self._receiver.port,
            calling_ae_title="BENCH",
            called_ae_title=self._receiver.ae_title,
        )

    def _storescu(self, files: Path) -> None:
        titles = ["-aet", "BENCH", "-aec", self._receiver.ae_title]
        command = ["storescu", *titles, "+sd", "127.0.0.1", str(self._receiver.port), str(files)]
        subprocess.run(command, env={**os.environ, **TUNED}, capture_output=True, timeout=SEND_SECONDS, check=True)

    def _pynetdicom(self, files: Path) -> None:
        entity = AE("BENCH")
        entity.add_requested_context(CTImageStorage, [ExplicitVRLittleEndian])
        opened = entity.associate("127.0.0.1", self._receiver.port, ae_title=self._receiver.ae_title)
        for path in sorted(files.iterdir()):
            opened.send_c_store(path)
        opened.release()

    def row(self) -> Row:
        size_bytes = self._measures[OURS].size_bytes
        figure = f"send {self.load.count} x {size_bytes / self.load.count / 1000:.0f} kB {self.load.title}"
        return Row(figure, self._measures[OURS], self.load.peer, self._measures.get(self.load.peer), self.load.to_reach)
