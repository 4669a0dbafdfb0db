"""The gateway's figures, in one place: the Now page draws them, /metrics exports them.

Every figure is read from rollups, from indexes of what is unfinished, or from small tables: none costs more because
more instances are stored.
"""

import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django_q.brokers import get_broker

from gateway_project.core.models import Lane
from gateway_project.core.options import option
from gateway_project.core.queues import CONTROL_CLUSTER, REGISTRY, TRANSFER_CLUSTER
from gateway_project.core.selectors import (
    AuditLag,
    LaneLine,
    alerts_by_severity,
    audit_lag,
    failures_by_code,
    lanes_all,
    lease_held,
    queue_lines,
    rings_waiting,
    rollup_totals,
)
from network.selectors import LiveList, associations_live
from studies.activity import (
    quarantine_line,
    received_bytes_a_day,
    settling_line,
    sources_first,
    sources_totals,
    studies_by_state,
)
from studies.models import SourceActivity
from studies.options import GIB
from studies.selectors import store_root
from uploads.models import DeliveryTimes
from uploads.selectors.lines import delivery_times, delivery_totals

SOURCES_MOST = 100
CLUSTERS = (CONTROL_CLUSTER, TRANSFER_CLUSTER)


@dataclass(frozen=True)
class Line:
    """Things that wait: how many, and since when the oldest of them."""

    count: int = 0
    oldest: datetime | None = None

    def age_seconds(self, now: datetime) -> float:
        return max((now - self.oldest).total_seconds(), 0.0) if self.oldest is not None else 0.0


@dataclass(frozen=True)
class Disk:
    """The file system of the store. `days_left`: until objects are refused, at the rate of the last seven days."""

    free_bytes: int
    total_bytes: int
    stored_bytes: int
    bytes_a_day: float | None

    @property
    def stop_bytes(self) -> float:
        return float(option("STORAGE.STOP_SPACE_GB")) * GIB

    @property
    def low_bytes(self) -> float:
        return float(option("STORAGE.LOW_SPACE_GB")) * GIB

    @property
    def days_left(self) -> float | None:
        if not self.bytes_a_day:
            return None
        return max(self.free_bytes - self.stop_bytes, 0.0) / self.bytes_a_day


@dataclass(frozen=True)
class Live:
    """The associations that are open now, as the acceptor knows them; `running` is False when no listener answers."""

    running: bool
    connections: int = 0
    associations: int = 0
    bytes_per_second: float = 0.0
    objects: int = 0
    objects_refused: int = 0
    totals: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers:
    """How fast the database and the broker answer, in seconds; None: not at all."""

    database: float | None
    broker: float | None
    rings: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Machine:
    """How the gateway's own parts stand: listeners, workers, and the lanes to the outside."""

    live: Live
    workers: bool
    lanes: list[Lane]


@dataclass(frozen=True)
class Queues:
    """Every line of unfinished work: studies that settle, and each queue's jobs by lane."""

    settling: Line
    lanes: list[Lane]
    lines: list[LaneLine]


@dataclass(frozen=True)
class Received:
    """What has ever been received and settled."""

    objects: int
    size_bytes: int
    stored_bytes: int
    sources: int
    revisions: int
    by_source: list[SourceActivity]


def received_figures() -> Received:
    """Three queries over rollups. The first sources ever come first, so that what is counted for each only grows."""
    totals, counted = sources_totals(), rollup_totals()
    return Received(
        objects=totals.objects,
        size_bytes=totals.size_bytes,
        stored_bytes=totals.stored_bytes,
        sources=totals.sources,
        revisions=counted.get("revisions", 0),
        by_source=sources_first(SOURCES_MOST),
    )


def delivery_figures() -> tuple[list[DeliveryTimes], dict[str, int]]:
    """By source, the first ever first; and of all sources together. Two queries."""
    return delivery_times(SOURCES_MOST), delivery_totals()


def machine_figures(now: datetime) -> Machine:
    """Two queries, and the acceptor is asked."""
    return Machine(live_figures(), lease_held("ticker", now=now), lanes_all())


def queue_figures(lanes: list[Lane]) -> Queues:
    """One query for studies, and one a queue."""
    lines = [line for queue in REGISTRY.queues.values() for line in queue_lines(queue, lanes)]
    return Queues(settling=Line(**settling_line()), lanes=lanes, lines=lines)


def failure_figures() -> Counter[tuple[str, ...]]:
    """Queue, state (ready: tried again; parked: given up) and error code of what failed: one query a queue."""
    found: Counter[tuple[str, ...]] = Counter()
    for queue in REGISTRY.queues.values():
        for state, code, number in failures_by_code(queue):
            found[queue.name, state, code] += number
    return found


def state_figures() -> dict[str, int]:
    return studies_by_state()


def alert_figures() -> dict[str, int]:
    return alerts_by_severity()


def quarantine_figures() -> Line:
    """What waits for a decision."""
    return Line(**quarantine_line())


def audit_figures() -> AuditLag:
    return audit_lag()


def disk_figures(now: datetime, *, stored_bytes: int, first_at: datetime | None) -> Disk | None:
    """Asks the file system, and one query for the rate since `first_at`, the first object; None without an answer."""
    root = store_root()
    try:
        usage = shutil.disk_usage(root if root.exists() else settings.DATA_DIR)
    except OSError:
        return None
    return Disk(usage.free, usage.total, stored_bytes, received_bytes_a_day(now, first_at=first_at))


def live_figures() -> Live:
    """Asked of the acceptor; no query."""
    found: LiveList = associations_live()
    admitted = [one for one in found.associations if one.admitted]
    return Live(
        running=found.running,
        connections=len(found.associations),
        associations=len(admitted),
        bytes_per_second=sum(one.bytes_per_second for one in admitted),
        objects=sum(one.objects_stored for one in admitted),
        objects_refused=sum(one.objects_refused for one in admitted),
        totals=found.totals,
        refused=found.refused,
    )


def answer_figures(*, rings: bool = True) -> Answers:
    """Asks both for next to nothing, and the broker (`rings`) how many of them wait for each cluster."""
    database = _timed_database()
    if database is None:
        return Answers(None, None)
    began = time.monotonic()
    try:
        alive = bool(get_broker().ping())
        broker = time.monotonic() - began
        waiting = {name: rings_waiting(name) for name in CLUSTERS if rings}
    except Exception:  # noqa: BLE001 - each broker has errors of its own, and all of them say the same: it is away
        return Answers(database, None)
    return Answers(database, broker if alive else None, waiting)


def _timed_database() -> float | None:
    began = time.monotonic()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    except DatabaseError:
        return None
    return time.monotonic() - began


def day_begin(now: datetime, hours: int = 24) -> datetime:
    """The whole hour from which on the last 24 hours are shown; the running hour is the last of them."""
    return now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours - 1)
