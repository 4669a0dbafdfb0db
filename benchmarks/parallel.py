"""Four senders of CT at once: their common rate, and how long one object waits for its answer."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree

from benchmarks.gateway import GatewayReceiver, gateway_running
from benchmarks.objects import CT, ObjectFactory
from benchmarks.peers import BenchmarkError, Orthanc, Receiver, Storescp
from benchmarks.receive import SEND_SECONDS, until_shown, warm_up
from benchmarks.report import Clock, Figure, Measure, Row, TableRow, latencies, percentile, tell
from benchmarks.scu import Sent
from tests.gateway_harness import ROOT

SENDERS = 4
ALONE = "gateway, one sender"
P99_TO_REACH = "p99 under 50 ms"
FORKED = "DCMTK storescp --fork"


class Parallel:
    """The rounds' measures by receiver, and every object's time to its answer."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._factory = ObjectFactory(CT)
        self.measures: dict[str, Measure] = {}
        self.latencies: dict[str, list[float]] = {}

    def round(self, folder: Path, receivers: Sequence[Receiver], *, number: int) -> None:
        """The gateway with one sender and with four, the peers with four; another one is the first each time."""
        together = [folder / f"sent-{number}" for number in range(SENDERS)]
        size_bytes = sum(self._factory.write(each, self.count // SENDERS) for each in together)
        alone = folder / "sent-alone"
        self._factory.write(alone, self.count)
        turns = [(ALONE, receivers[0], [alone]), *((receiver.label, receiver, together) for receiver in receivers)]
        first = number % len(turns)
        for label, receiver, folders in [*turns[first:], *turns[:first]]:
            measure = self.measures.setdefault(label, Measure(self.count, size_bytes))
            measure.seconds.append(self._send(label, receiver, folders))
        for each in [*together, alone]:
            rmtree(each)
        told = (
            f"{label} {measure.seconds[-1]:.2f} s (p99 {percentile(self.latencies[label], 99) * 1000:.1f} ms so far)"
            for label, measure in self.measures.items()
        )
        tell(f"  {SENDERS} senders, {self.count} CT, round {number + 1}: {', '.join(told)}")

    def _send(self, label: str, receiver: Receiver, folders: Sequence[Path]) -> float:
        def run() -> tuple[float, float]:
            sent = send_at_once(folders, receiver)
            self.latencies.setdefault(label, []).extend(seconds for one in sent for seconds in one.latencies)
            return min(one.began for one in sent), max(one.ended for one in sent)

        return until_shown(receiver, self.count, run)

    def rows(self) -> list[TableRow]:
        ours = self.measures[GatewayReceiver.label]
        each = f"{self.count // SENDERS} x {ours.size_bytes / self.count / 1000:.0f} kB CT"
        figure = f"receive {SENDERS} senders x {each} at once"
        beside = ((ALONE, "1x"), (Orthanc.label, "-"), (FORKED, "-"))
        rates = [Row(figure, ours, label, self.measures.get(label), aim) for label, aim in beside]
        waits = [
            Figure(
                f"one CT's answer, {SENDERS} senders at once",
                latencies(self.latencies[GatewayReceiver.label]),
                P99_TO_REACH,
                label,
                latencies(self.latencies[label]) if label in self.latencies else "not installed",
            )
            for label, _aim in beside
        ]
        return [*rates, *waits]


def parallel(folder: Path, *, rounds: int, quick: bool, clock: Clock) -> list[TableRow]:
    """Measures; the receivers are gone afterwards. Raises BenchmarkError when an object did not arrive."""
    with ExitStack() as stack:
        gateway = GatewayReceiver(stack.enter_context(gateway_running(folder)))
        orthanc = stack.enter_context(Orthanc.start(folder))
        storescp = stack.enter_context(Storescp.start(folder, fork=True))
        if storescp is not None:
            storescp.label = FORKED
        receivers = [gateway, *(peer for peer in (orthanc, storescp) if peer is not None)]
        warm_up(folder, receivers)
        measured = Parallel(8 if quick else 400)
        done = 0
        while clock.allows(done, rounds):
            measured.round(folder, receivers, number=done)
            done += 1
        return measured.rows()


def send_at_once(folders: Sequence[Path], receiver: Receiver) -> list[Sent]:
    """One sender in a process of its own for each folder; all are associated, encoded and waiting before one begins."""
    with ExitStack() as stack:
        senders = [stack.enter_context(sender_process(folder, receiver)) for folder in folders]
        for sender in senders:
            if sender.stdout is None or sender.stdout.readline() != "ready\n":
                raise failed(sender, receiver)
        for sender in senders:
            if sender.stdin is not None:
                sender.stdin.write("go\n")
                sender.stdin.flush()
        return [ended(sender, receiver) for sender in senders]


@contextmanager
def sender_process(folder: Path, receiver: Receiver) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "benchmarks.scu", str(receiver.port), receiver.ae_title, str(folder)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(sender: "subprocess.Popen[str]", receiver: Receiver) -> Sent:
    output, errors = sender.communicate(timeout=SEND_SECONDS)
    if sender.returncode != 0:
        raise BenchmarkError(f"A sender to {receiver.label} failed: {errors.strip()[-500:]}")
    return Sent(**json.loads(output))


def failed(sender: "subprocess.Popen[str]", receiver: Receiver) -> BenchmarkError:
    sender.kill()
    _output, errors = sender.communicate()
    return BenchmarkError(f"A sender to {receiver.label} could not begin: {errors.strip()[-500:]}")
