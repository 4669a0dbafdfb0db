"""`python -m benchmarks`: one table of what the hot paths do beside the best peers on this machine."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import disk_usage, rmtree
from subprocess import TimeoutExpired

from benchmarks.associations import associations
from benchmarks.busy import busy
from benchmarks.index import index
from benchmarks.large import large
from benchmarks.pages import pages
from benchmarks.parallel import parallel
from benchmarks.peers import BenchmarkError, program
from benchmarks.push import push
from benchmarks.query import query
from benchmarks.receive import receive
from benchmarks.report import Clock, TableRow, load, machine, table, tell, versions
from benchmarks.retrieve import retrieve
from benchmarks.seal import seal

FREE_GB = 8
Part = Callable[..., Sequence[TableRow]]
PARTS: dict[str, tuple[Part, float]] = {
    # each with its end as a share of the time from the beginning; a round that has begun is finished
    "push": (push, 0.07),
    "retrieve": (retrieve, 0.13),
    "receive": (receive, 0.24),
    "parallel": (parallel, 0.31),
    "index": (index, 0.43),
    "query": (query, 0.52),
    "busy": (busy, 0.58),
    "seal": (seal, 0.63),
    "large": (large, 0.68),
    "associations": (associations, 0.97),
    "pages": (pages, 1.0),
}
NOTES = """\
Medians (lowest-highest of the rounds); ratio = their median / ours: above 1 the gateway is faster. All on loopback.
Rounds are interleaved; the first touch of a page of memory is paid by whoever needs the page first, page cache too.
- Receiving: DCMTK's storescu, one association; ends when storescu has ended and the receiver shows every object.
  The gateway syncs every file and indexes, Orthanc syncs its files and indexes, storescp does neither.
- "Tuned" senders have TCP_NODELAY=1, those "as installed" have not. The peers are always tuned.
- At once: senders of our own (benchmarks/scu.py), a process each, their PDUs encoded before. storescp serves more than
  one with --fork alone. One answer: from the first PDV of the data set until the response is read, all rounds together.
- Sending: to storescp, which writes what it gets; reading the files included. storescu and storescp are tuned, but for
  the receiver as installed, to which pynetdicom's own requestor sends the same.
- Retrieving: by DCMTK's getscu, which throws away what it gets, and movescu to storescp --fork (the gateway keeps an
  association for a few seconds; one that serves a single association would make the next sender wait).
- Index: as receiving, the gateway beside itself with an empty index. The seeded rows have no files.
- Queries: study level, one association, one client for both; the gateway has 100,000 studies and 1,000,000 instances,
  Orthanc 10,000 studies of one instance. From the request until the final response is read.
- Both at once: a question every 100 ms, each timed from when it is due, while storescu sends; beside the same gateway
  that is asked nothing.
- "Primitives": zstd-3, AES-256-CBC and HMAC-SHA-512 in memory, one thread, nothing kept.
- Upload: from the settled study to the verified receipt; hashing, staging and the vault's fsyncs included.
- Large: made while it is sent, through every process that `make run` starts. Memory: the kernel's peak (VmHWM) of each
  process above what it held before; of each role the process that grew most.
- Pages: one request after the other through the WSGI application, in one process; the list above tells each address.
- In a row: from the connection to the answered release, an echo and a small object in turns, meanwhile half of the
  silent connections have sent nothing and half three bytes. Set for it: DICOM.ACSE_SECONDS=3600 (the silent ones would
  be closed after 10 s) and DICOM.CONNECTIONS_PER_SECOND=0; every other limit is the default."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: sys.exit(128 + got))  # unwinds: everything started is ended
    rounds = options.rounds or (1 if options.quick else 5)
    if program("storescu") is None:
        tell("storescu is not installed, nothing can be sent (apt-get install dcmtk)")
        return 2
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = Path(name)
        if not options.quick and disk_usage(folder).free < FREE_GB * 10**9:
            tell(f"Less than {FREE_GB} GB free at {folder.parent}. Set TMPDIR to a folder with room, on a real disk.")
            return 2
        tell(f"{machine(folder)}\n{versions()}\n")
        if options.quick:
            tell("--quick: far too few objects to compare anything\n")
        try:
            names = [options.only] if options.only else list(PARTS)
            rows = run(folder, names, seconds=options.minutes * 60, rounds=rounds, quick=options.quick)
        except (BenchmarkError, AssertionError, TimeoutExpired, ConnectionError) as error:
            tell(f"benchmark failed: {error}")
            return 1
    tell(f"\nload      {load()} at the end\n\n{NOTES}\n\n{table(rows)}")
    return 0


def run(folder: Path, names: Sequence[str], *, seconds: float, rounds: int, quick: bool) -> list[TableRow]:
    """The rows of these parts; one alone has all the time. What a part wrote is gone before the next begins."""
    rows: list[TableRow] = []
    began = time.monotonic()
    for name in names:
        part, share = PARTS[name]
        place = folder / name
        place.mkdir()
        tell(f"{name}:")
        rows += part(place, rounds=rounds, quick=quick, clock=Clock(began + seconds * (share if names[1:] else 1)))
        rmtree(place)
    return rows


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--quick", action="store_true", help="a few objects, one round: proves nothing but that it works")
    made.add_argument("--rounds", type=int, default=0, help="interleaved rounds (default 5)")
    made.add_argument("--only", choices=list(PARTS), help="this part alone")
    made.add_argument(
        "--minutes", type=float, default=10.0, help="no round begins when its part's share of this is over"
    )
    return made


if __name__ == "__main__":
    sys.exit(main())
