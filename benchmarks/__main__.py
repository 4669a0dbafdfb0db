"""`python -m benchmarks`: one table of what the hot paths do beside the best peers on this machine."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import disk_usage
from subprocess import TimeoutExpired

from benchmarks.peers import BenchmarkError, program
from benchmarks.receive import receive
from benchmarks.report import Clock, Row, load, machine, table, tell, versions
from benchmarks.seal import seal

FREE_GB = 6
Part = Callable[..., list[Row]]
PARTS: dict[str, Part] = {"receive": receive, "seal": seal}
UNTIL = {"receive": 0.6, "seal": 0.9}  # of the time, from the beginning; a round that has begun is finished
NOTES = """\
Medians (lowest-highest of the rounds); ratio = their median / ours: above 1 the gateway is faster. All on loopback.
- Receiving: DCMTK's storescu, one association; ends when storescu has ended and the receiver shows every object.
  The gateway syncs every file and indexes, Orthanc syncs its files and indexes, storescp does neither.
- "Tuned" senders have TCP_NODELAY=1, those "as installed" have not. The peers are always tuned.
- "Primitives": zstd-3, AES-256-CBC and HMAC-SHA-512 in memory, one thread, nothing kept.
- Upload: from the settled study to the verified receipt; hashing, staging and the vault's fsyncs included."""


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
        except (BenchmarkError, AssertionError, TimeoutExpired) as error:
            tell(f"benchmark failed: {error}")
            return 1
    tell(f"\nload      {load()} at the end\n\n{NOTES}\n\n{table(rows)}")
    return 0


def run(folder: Path, names: Sequence[str], *, seconds: float, rounds: int, quick: bool) -> list[Row]:
    rows: list[Row] = []
    began = time.monotonic()
    for name in names:
        place = folder / name
        place.mkdir()
        tell(f"{name}:")
        rows += PARTS[name](place, rounds=rounds, quick=quick, clock=Clock(began + seconds * UNTIL[name]))
    return rows


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--quick", action="store_true", help="a few objects, one round: proves nothing but that it works")
    made.add_argument("--rounds", type=int, default=0, help="interleaved rounds (default 5)")
    made.add_argument("--only", choices=list(PARTS), help="this part alone")
    made.add_argument(
        "--minutes", type=float, default=6.0, help="no round begins when its part's share of this is over"
    )
    return made


if __name__ == "__main__":
    sys.exit(main())
