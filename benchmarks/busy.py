"""Receiving at full rate while a workstation asks ten times a second, in turns with receiving alone."""

import threading
import time
from itertools import count
from pathlib import Path
from shutil import rmtree

from benchmarks.finder import Finder
from benchmarks.gateway import GatewayReceiver
from benchmarks.objects import CT, ObjectFactory
from benchmarks.peers import BenchmarkError
from benchmarks.query import STUDIES, Asking, askings, gateway_asked
from benchmarks.receive import send, warm_up
from benchmarks.report import Clock, Figure, Measure, Row, TableRow, latencies, percentile, tell

EVERY_SECONDS = 0.1
UNASKED, ASKED = "gateway, asked nothing", "gateway"
AT_MOST_ANSWERS = 25  # what a person looks at; the long lists are measured alone


class Asker(threading.Thread):
    """Asks its questions in turns, one every 100 ms. Each is timed from when it was due: a late answer delays nobody's
    clock.
    """

    def __init__(self, port: int, figures: list[Asking], *, studies: int) -> None:
        super().__init__(name="asker", daemon=True)
        self._finder = Finder(port, called="GATEWAY")
        self._figures, self._studies = figures, studies
        self._over = threading.Event()
        self._failure: BenchmarkError | OSError | None = None
        self.seconds: list[float] = []

    def run(self) -> None:
        due = time.perf_counter()
        try:
            for number in count():
                if self._over.wait(max(0.0, due - time.perf_counter())):
                    break
                asking = self._figures[number % len(self._figures)]
                asking.ask(ASKED, self._finder, number * 7919 % self._studies)
                self.seconds.append(time.perf_counter() - due)
                due += EVERY_SECONDS
            self._finder.release()
        except (BenchmarkError, OSError) as error:
            self._failure = error

    def ended(self) -> list[float]:
        """The seconds of every answer. Raises BenchmarkError when one failed, or none came."""
        self._over.set()
        self.join(60)
        if self._failure is not None or not self.seconds or self.is_alive():
            raise BenchmarkError(f"Asking while receiving failed: {self._failure or 'no answer'}")
        return self.seconds


class Busy:
    """The rounds' measures, and how long every answer was waited for."""

    def __init__(self, folder: Path, receiver: GatewayReceiver, *, studies: int, quick: bool) -> None:
        self.objects = 8 if quick else 800
        self._files, self._receiver, self._studies = folder / "sent", receiver, studies
        self._figures = [asking for asking in askings(quick=quick) if asking.answers <= AT_MOST_ANSWERS]
        self._factory = ObjectFactory(CT)
        self.measures: dict[str, Measure] = {}
        self.waits: list[float] = []

    def round(self, number: int) -> None:
        """A new study for each side; the other one is the first each time."""
        for label in (UNASKED, ASKED) if number % 2 else (ASKED, UNASKED):
            measure = self.measures.setdefault(label, Measure(self.objects, 0))
            measure.size_bytes = self._factory.write(self._files, self.objects)
            measure.seconds.append(self._asked() if label == ASKED else self._sent())
            rmtree(self._files)
        told = ", ".join(f"{label} {measure.seconds[-1]:.2f} s" for label, measure in self.measures.items())
        wait = f"answers so far p95 {percentile(self.waits, 95) * 1000:.1f} ms"
        tell(f"  {self.objects} CT, round {number + 1}: {told}; {wait}")

    def _asked(self) -> float:
        asker = Asker(self._receiver.port, self._figures, studies=self._studies)
        asker.start()
        seconds = self._sent()
        self.waits += asker.ended()
        return seconds

    def _sent(self) -> float:
        return send(self._files, self._receiver, count=self.objects, tuned=True)

    def rows(self) -> list[TableRow]:
        figure = f"receive {self.objects} CT, asked 10 times a second"
        return [
            Row(figure, self.measures[ASKED], UNASKED, self.measures[UNASKED], "0.8x"),
            Figure("an answer while receiving, 10 a second", latencies(self.waits), "p95 under 50 ms"),
        ]


def busy(folder: Path, *, rounds: int, quick: bool, clock: Clock) -> list[TableRow]:
    """Measures; raises BenchmarkError for an object that did not arrive and for a wrong answer."""
    studies = 200 if quick else STUDIES
    with gateway_asked(folder, studies=studies) as gateway:
        receiver = GatewayReceiver(gateway)
        warm_up(folder, [receiver])
        measured = Busy(folder, receiver, studies=studies, quick=quick)
        done = 0
        while clock.allows(done, rounds):
            measured.round(done)
            done += 1
    return measured.rows()
