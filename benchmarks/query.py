"""C-FIND at study level: by number, by name, by date and modality, and a thousand answers; the gateway with a million
instances beside Orthanc with ten thousand studies.
"""

import datetime as dt
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.finder import Finder, identifier
from benchmarks.gateway import gateway_run, gateway_running
from benchmarks.index import seeded
from benchmarks.objects import uid_new
from benchmarks.peers import BenchmarkError, Orthanc
from benchmarks.report import Clock, Measure, Row, TableRow, tell
from benchmarks.scu import DataSet, Sender
from tests.gateway_harness import Gateway

STUDIES, SERIES, INSTANCES = 100_000, 2, 5
THEIRS = 10_000
FAMILY = 25
"""So many studies share a family name, and a day."""
FIRST_DAY = dt.date(1990, 1, 1)
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
GATEWAY = "gateway"
PEER = "from network.models import RemoteAE; RemoteAE.objects.create(ae_title='BENCH', may_query=True); print('made')"
Keys = Mapping[int, tuple[str, str]]
WANTED: Keys = {
    0x00080020: ("DA", ""),
    0x00080030: ("TM", ""),
    0x00080050: ("SH", ""),
    0x00080052: ("CS", "STUDY"),
    0x00081030: ("LO", ""),
    0x00100010: ("PN", ""),
    0x00100020: ("LO", ""),
    0x00100030: ("DA", ""),
    0x00100040: ("CS", ""),
    0x0020000D: ("UI", ""),
    0x00200010: ("SH", ""),
}
# The seed's rows under the names, numbers and days that both sides have.
RENAMED = (
    f"UPDATE studies_study SET patient_name = printf('Family%05d^Given%d', (id - 1) / {FAMILY}, id - 1), "
    f"patient_name_folded = printf('family%05d^given%d', (id - 1) / {FAMILY}, id - 1), "
    "patient_id = printf('NUMBER%06d', id - 1), "
    f"study_date = date('{FIRST_DAY}', '+' || ((id - 1) / {FAMILY}) || ' days')"
)


class Asking:
    """One figure: what is asked for the `number`-th study, how many answers that has, and what was measured."""

    def __init__(self, figure: str, answers: int, keys: Callable[[int], Keys], to_reach: str) -> None:
        self.figure, self.answers, self.keys, self.to_reach = figure, answers, keys, to_reach
        self.measures: dict[str, Measure] = {}

    def ask(self, label: str, finder: Finder, number: int) -> None:
        asked = identifier({**WANTED, **self.keys(number)})
        began = time.perf_counter()
        found = finder.find(asked)
        seconds = time.perf_counter() - began
        if found != self.answers:
            raise BenchmarkError(f"{label} gave {found} answers {self.figure}, not {self.answers}.")
        self.measures.setdefault(label, Measure(1, 0)).seconds.append(seconds)

    def row(self) -> Row:
        figure = f"query {self.figure} ({self.answers:,} answer{'s' * (self.answers > 1)})"
        theirs = self.measures.get(Orthanc.label)
        return Row(figure, self.measures[GATEWAY], Orthanc.label, theirs, self.to_reach)


def askings(*, quick: bool) -> list[Asking]:
    many = 2 if quick else 40
    return [
        Asking("by PatientID", 1, lambda n: {0x00100020: ("LO", f"NUMBER{n:06d}")}, "2x; p50 under 5 ms"),
        Asking("by name prefix", FAMILY, lambda n: {0x00100010: ("PN", f"FAMILY{n // FAMILY:05d}*")}, "2x"),
        Asking("by day and modality", FAMILY, lambda n: {**days(n, 1), 0x00080061: ("CS", "CT")}, "2x"),
        Asking("by a range of days", FAMILY * many, lambda n: days(0 if quick else n % 5000, many), "1x, stretch 3x"),
    ]


def days(number: int, count: int) -> Keys:
    first = FIRST_DAY + dt.timedelta(days=number // FAMILY)
    last = first + dt.timedelta(days=count - 1)
    return {0x00080020: ("DA", f"{first:%Y%m%d}-{last:%Y%m%d}")}


def query(folder: Path, *, rounds: int, quick: bool, clock: Clock) -> list[TableRow]:
    """Asks both in turns, `rounds` times 20 questions of each figure. Raises BenchmarkError for a wrong answer."""
    ours, theirs = (200, 100) if quick else (STUDIES, THEIRS)
    figures = askings(quick=quick)
    with ExitStack() as stack:
        gateway = stack.enter_context(gateway_asked(folder, studies=ours))
        sides = {GATEWAY: Finder(gateway.dimse_port, called="GATEWAY")}
        orthanc = stack.enter_context(Orthanc.start(folder))
        if orthanc is not None:
            fill(orthanc, theirs)
            sides[orthanc.label] = Finder(orthanc.port, called=orthanc.ae_title)
        counts = {GATEWAY: ours, Orthanc.label: theirs}
        pick = random.Random(2)
        done = 0
        while clock.allows(done, rounds):
            for asking in figures:
                for _ in range(1 if quick else 20):
                    for label, finder in sides.items():
                        asking.ask(label, finder, pick.randrange(counts[label]))
            done += 1
        for finder in sides.values():
            finder.release()
    return [asking.row() for asking in figures]


@contextmanager
def gateway_asked(folder: Path, *, studies: int) -> Iterator[Gateway]:
    """Listeners over so many studies, that answer the queries of the AE BENCH."""
    prepare = partial(seeded, studies=studies, series=SERIES, instances=INSTANCES, then=[RENAMED])
    with gateway_running(folder, prepare=prepare) as gateway:
        gateway_run(gateway, PEER)
        time.sleep(2.5)  # the acceptor looks every two seconds
        yield gateway


def fill(orthanc: Orthanc, studies: int) -> None:
    """So many studies of one instance without pixels."""
    began = time.monotonic()
    sender = Sender(orthanc.port, called=orthanc.ae_title)
    for number in range(studies):
        sender.store(tiny(number))
    sender.release()
    tell(f"  filled Orthanc with {orthanc.count():,} studies in {time.monotonic() - began:.0f} s")


def tiny(number: int) -> DataSet:
    day = FIRST_DAY + dt.timedelta(days=number // FAMILY)
    study, instance = uid_new(), uid_new()
    keys = dict(texts(number, f"{day:%Y%m%d}", study, instance))
    return DataSet(CT_CLASS, instance, [identifier(keys)])


def texts(number: int, day: str, study: str, instance: str) -> Iterator[tuple[int, tuple[str, str]]]:
    yield 0x00080016, ("UI", CT_CLASS)
    yield 0x00080018, ("UI", instance)
    yield 0x00080020, ("DA", day)
    yield 0x00080030, ("TM", "093000")
    yield 0x00080050, ("SH", f"A{number:08d}")
    yield 0x00080060, ("CS", "CT")
    yield 0x00081030, ("LO", "CT of the abdomen with contrast")
    yield 0x00100010, ("PN", f"Family{number // FAMILY:05d}^Given{number}")
    yield 0x00100020, ("LO", f"NUMBER{number:06d}")
    yield 0x00100030, ("DA", "19500517")
    yield 0x00100040, ("CS", "F")
    yield 0x0020000D, ("UI", study)
    yield 0x0020000E, ("UI", uid_new())
    yield 0x00200010, ("SH", str(number))
    yield 0x00200011, ("IS", "1")
    yield 0x00200013, ("IS", "1")
