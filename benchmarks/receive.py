"""Receiving: the same files by DCMTK's storescu to the gateway, to Orthanc and to storescp, in turns."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from benchmarks.gateway import GatewayReceiver, gateway_running
from benchmarks.objects import CT, SMALL, ObjectFactory, ObjectKind
from benchmarks.peers import TUNED, BenchmarkError, Orthanc, Receiver, Storescp
from benchmarks.report import Clock, Measure, Row, tell

SEND_SECONDS = 180.0
INDEX_SECONDS = 60.0
WARM_UP_OBJECTS = 10


@dataclass(frozen=True)
class Load:
    """One row's work: `count` objects in one association. `once`: in the first round only, because it takes long."""

    title: str
    kind: ObjectKind
    count: int
    tuned: bool
    orthanc_to_reach: str
    storescp_to_reach: str
    once: bool = False


def loads(*, quick: bool) -> list[Load]:
    ct, small, installed = (8, 20, 5) if quick else (400, 1000, 100)
    return [
        Load("CT, tuned sender", CT, ct, True, "3x", "1x"),
        Load("small, tuned sender", SMALL, small, True, "2x; 3x", "-"),
        Load("small, sender as installed", SMALL, installed, False, "50x", "50x", once=True),
    ]


def receive(folder: Path, *, rounds: int, quick: bool, clock: Clock) -> list[Row]:
    """Measures every load; the receivers are gone afterwards. Raises BenchmarkError when an object did not arrive."""
    with ExitStack() as stack:
        gateway = GatewayReceiver(stack.enter_context(gateway_running(folder)))
        peers: list[Receiver | None] = [
            stack.enter_context(Orthanc.start(folder)),
            stack.enter_context(Storescp.start(folder)),
        ]
        for peer, label in zip(peers, (Orthanc.label, Storescp.label), strict=True):
            if peer is None:
                tell(f"{label} is not installed: its rows are left out (apt-get install orthanc dcmtk)")
        receivers = [gateway, *(peer for peer in peers if peer is not None)]
        warm_up(folder, receivers)
        runs = [LoadRun(load) for load in loads(quick=quick)]
        done = 0
        while clock.allows(done, rounds):
            for run in runs:
                if done == 0 or not run.load.once:
                    run.round(folder, receivers, number=done)
            done += 1
        return [row for run in runs for row in run.rows()]


class LoadRun:
    """A load and what was measured of it so far."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self._factory = ObjectFactory(load.kind)
        self.measures: dict[str, Measure] = {}

    def round(self, folder: Path, receivers: Sequence[Receiver], *, number: int) -> None:
        """A new study, the same files to each receiver; another one is the first each time."""
        files = folder / "sent"
        size_bytes = self._factory.write(files, self.load.count)
        first = number % len(receivers)
        for receiver in [*receivers[first:], *receivers[:first]]:
            measure = self.measures.setdefault(receiver.label, Measure(self.load.count, size_bytes))
            measure.seconds.append(send(files, receiver, count=self.load.count, tuned=self.load.tuned))
        told = ", ".join(f"{label} {measure.seconds[-1]:.2f} s" for label, measure in self.measures.items())
        tell(f"  {self.load.title}, {self.load.count} objects, round {number + 1}: {told}")
        rmtree(files)

    def figure(self) -> str:
        size_bytes = self.measures[GatewayReceiver.label].size_bytes
        return f"receive {self.load.count} x {size_bytes / self.load.count / 1000:.0f} kB {self.load.title}"

    def rows(self) -> list[Row]:
        """One for each peer, also for one that is not installed."""
        ours, figure = self.measures[GatewayReceiver.label], self.figure()
        aims = ((Orthanc.label, self.load.orthanc_to_reach), (Storescp.label, self.load.storescp_to_reach))
        return [Row(figure, ours, label, self.measures.get(label), aim) for label, aim in aims]


def warm_up(folder: Path, receivers: Sequence[Receiver]) -> None:
    """Nobody's first association is measured."""
    files = folder / "warm-up"
    ObjectFactory(SMALL).write(files, WARM_UP_OBJECTS)
    for receiver in receivers:
        send(files, receiver, count=WARM_UP_OBJECTS, tuned=True)


def send(files: Path, receiver: Receiver, *, count: int, tuned: bool) -> float:
    """Seconds until storescu has ended and the receiver shows every object. Raises BenchmarkError."""
    titles = ["-aet", "BENCH", "-aec", receiver.ae_title]
    command = ["storescu", *titles, "+sd", "127.0.0.1", str(receiver.port), str(files)]
    env = {key: value for key, value in os.environ.items() if key not in TUNED} | (TUNED if tuned else {})

    def run() -> tuple[float, float]:
        began = time.perf_counter()
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=SEND_SECONDS, check=False)
        if done.returncode != 0:
            told = f"storescu to {receiver.label} ended with {done.returncode}: {done.stderr.strip()[-500:]}"
            raise BenchmarkError(told)
        return began, time.perf_counter()

    return until_shown(receiver, count, run)


def until_shown(receiver: Receiver, count: int, run: Callable[[], tuple[float, float]]) -> float:
    """Seconds from when `run` says that its sending began until it ended and the receiver shows `count` objects more.

    What was written before lies on the disk first, so that nobody pays for another's writing. Raises BenchmarkError.
    """
    os.sync()
    expected = receiver.count() + count
    began, ended = run()
    if receiver.count() < expected:
        ended = shown(receiver, expected)
    return ended - began


def shown(receiver: Receiver, expected: int) -> float:
    """When the receiver shows all of it."""
    give_up_at = time.perf_counter() + INDEX_SECONDS
    while (now := time.perf_counter()) < give_up_at:
        if receiver.count() >= expected:
            return now
        time.sleep(0.002)
    raise BenchmarkError(f"{receiver.label} shows {receiver.count()} of {expected} objects that it acknowledged.")
