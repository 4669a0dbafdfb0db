"""Every page and endpoint at 10,000 studies and 1,000,000 instances, on SQLite and PostgreSQL."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gateway import gateway_run
from benchmarks.index import INSTANCES, SERIES, STUDIES
from benchmarks.report import Clock, Figure, TableRow, tell
from tests.gateway_harness import PREPARE, Gateway
from tests.servers.postgres import Postgres, missing

MOST_MILLISECONDS = 150.0
ROUNDS = 20
FILL = "from benchmarks.pages_seed import fill; print(fill({studies}))"
LOOK = "from benchmarks.pages_look import look; look({session!r}, rounds={rounds})"
TO_REACH = f"each p95 < {MOST_MILLISECONDS:.0f} ms"


def pages(folder: Path, *, rounds: int, quick: bool, clock: Clock) -> list[TableRow]:
    """Prints each address's times and queries; answers the slowest of each database."""
    studies = 10 if quick else STUDIES
    rows: list[TableRow] = []
    figure = f"pages and endpoints, {studies:,} studies, {studies * SERIES * INSTANCES:,} instances"
    for name in ("SQLite", "PostgreSQL"):
        if name == "PostgreSQL" and (quick or missing()):
            continue
        place = folder / name
        place.mkdir()
        with gateway_on(place, name) as gateway:
            looks = measured(gateway, studies=studies, rounds=2 if quick else ROUNDS)
        tell(f"  {name}:\n{listed(looks)}")
        slowest, most = max(looks, key=lambda one: one["p95"]), max(looks, key=lambda one: one["queries"])
        over = sum(one["p95"] >= MOST_MILLISECONDS for one in looks)
        words = (
            f"{len(looks)} addresses, {over} over; slowest p95 {slowest['p95']:.0f} ms ({slowest['address']}), "
            f"most queries {most['queries']} ({most['address']})"
        )
        rows.append(Figure(f"{figure}, {name}", words, TO_REACH))
    return rows


@contextmanager
def gateway_on(place: Path, name: str) -> Iterator[Gateway]:
    """A prepared gateway of which no process runs."""
    data = place / "data"
    data.mkdir(mode=0o700)
    postgres = Postgres() if name == "PostgreSQL" else None
    try:
        gateway = Gateway(data, **({"DATABASE_URL": postgres.create("pages")} if postgres else {}))
        done = gateway.code(PREPARE)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        yield gateway
    finally:
        if postgres is not None:
            postgres.remove()


def measured(gateway: Gateway, *, studies: int, rounds: int) -> list[dict[str, Any]]:
    began = time.monotonic()
    gateway.code(
        "from uploads.models import Vault; from gateway_project.core.models import Lane;"
        "Vault.objects.all().delete(); Lane.objects.all().delete()"
    )
    session = gateway_run(gateway, FILL.format(studies=studies))
    tell(f"  seeded {studies:,} studies in {time.monotonic() - began:.0f} s")
    answer = json.loads(gateway_run(gateway, LOOK.format(session=session, rounds=rounds)))
    if answer["left_out"]:
        tell("  not measured: " + "; ".join(answer["left_out"]))
    shown = [one for one in answer["looks"] if one["status"] == 200]
    rest = Counter(one["status"] for one in answer["looks"] if one["status"] != 200)
    tell("  not listed: " + ", ".join(f"{count} that answer {status}" for status, count in sorted(rest.items())))
    return shown


def listed(looks: list[dict[str, Any]]) -> str:
    """The slowest first."""
    lines = [f"    {'p50 ms':>8} {'p95 ms':>8} {'queries':>8} {'kB':>7}  status  address"]
    for one in sorted(looks, key=lambda each: -each["p95"]):
        figures = f"{one['p50']:>8.1f} {one['p95']:>8.1f} {one['queries']:>8} {one['bytes'] / 1000:>7.1f}"
        lines.append(f"    {figures}  {one['status']:>6}  {one['address']}")
    return "\n".join(lines)
