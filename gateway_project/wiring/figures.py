"""The gateway's figures, in one place: the Now page draws them, /metrics exports them.

Every figure is read from rollups, from indexes of what is unfinished, or from small tables: none costs more because
more instances are stored.
"""

import shutil
import time
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
    queue_lines,
    rings_waiting,
    rollup_totals,
    workers_running,
)
from network.selectors import LiveList, associations_live
from studies.activity import (
    Totals,
    received_bytes_a_day,
    sources_first,
    sources_totals,
    studies_by_state,
    waiting_lines,
)
from studies.models import SourceActivity
from studies.options import GB
from studies.selectors import store_root
from uploads.models import DeliveryTimes
from uploads.selectors.lines import delivery_times, delivery_totals, lanes_standing

SOURCES_MOST = 100
BROKER_AWAY_SECONDS = 15.0
CLUSTERS = (CONTROL_CLUSTER, TRANSFER_CLUSTER)


@dataclass(frozen=True)
class Line:
    """Things that wait: how many, and since when the oldest of them."""

    count: int = 0
    oldest: datetime | None = None

    def age_seconds(self, now: datetime) -> float:
        return max((now - self.oldest).total_seconds(), 0.0) if self.oldest is not None else 0.0


@dataclass(frozen=True)
class Waiting:
    """What waits in the index: studies that may still grow, and refused objects that nobody has decided about."""

    settling: Line = Line()
    quarantine: Line = Line()


@dataclass(frozen=True)
class Disk:
    """The file system of the store. `days_left`: until objects are refused, at the rate of the last seven days."""

    free_bytes: int
    total_bytes: int
    stored_bytes: int
    bytes_a_day: float | None

    @property
    def stop_bytes(self) -> float:
        return float(option("STORAGE.STOP_SPACE_GB")) * GB

    @property
    def low_bytes(self) -> float:
        return float(option("STORAGE.LOW_SPACE_GB")) * GB

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
    """How the gateway's own parts stand: listeners, workers, what carries the rings, and the lanes to the outside."""

    live: Live
    workers: bool
    broker: bool
    lanes: list[Lane]

    @property
    def works(self) -> bool:
        """Whether anything is settled, uploaded and counted."""
        return self.workers and self.broker


@dataclass(frozen=True)
class Queues:
    """Every line of unfinished jobs: each queue's by lane."""

    lanes: list[Lane]
    lines: list[LaneLine]


@dataclass(frozen=True)
class Received:
    """What has ever been received and settled. `by_source`: the first sources ever, and whether each is silent."""

    totals: Totals
    revisions: int
    by_source: list[tuple[SourceActivity, bool]]


def received_figures() -> Received:
    """Three queries over rollups. The first sources ever come first, so that what is counted for each only grows."""
    revisions = rollup_totals().get("revisions", 0)
    return Received(sources_totals(), revisions, sources_first(SOURCES_MOST))


def delivery_figures() -> tuple[list[DeliveryTimes], dict[str, int]]:
    """By source, the first ever first; and of all sources together. One query, two when there are more sources."""
    by_source = delivery_times(SOURCES_MOST)
    if len(by_source) == SOURCES_MOST:
        return by_source, delivery_totals()
    return by_source, {name: sum(getattr(each, name) for each in by_source) for name in ("uploads", "size_bytes")}


def machine_figures(now: datetime) -> Machine:
    """Two queries; the acceptor is asked, and Redis where it carries the rings."""
    return Machine(live_figures(), workers_running(now), broker_answers(), lanes_standing())


def queue_figures(lanes: list[Lane]) -> Queues:
    """One query."""
    return Queues(lanes=lanes, lines=queue_lines(REGISTRY.queues.values(), lanes))


def failure_figures() -> dict[tuple[str, ...], float]:
    return {labels: float(number) for labels, number in failures_by_code(REGISTRY.queues.values()).items()}


def state_figures() -> dict[str, int]:
    return studies_by_state()


def alert_figures() -> dict[str, int]:
    return alerts_by_severity()


def waiting_figures() -> Waiting:
    """One query."""
    found = waiting_lines()
    return Waiting(**{name: Line(count, oldest) for name, (count, oldest) in found.items()})


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


def answer_figures() -> Answers:
    """Asks both for next to nothing, and the broker how many rings wait for each cluster."""
    database = _timed_database()
    if database is None:
        return Answers(None, None)
    try:
        return Answers(database, _timed_broker(), {name: rings_waiting(name) for name in CLUSTERS})
    except Exception:  # noqa: BLE001 - each broker has errors of its own, and all of them say the same: it is away
        return Answers(database, None)


class _Broker:
    """What this process knows of Redis: after a silent one was waited for, no page waits for it again at once."""

    away_until = 0.0


def broker_answers() -> bool:
    """Whether what carries the rings is there, asked again 15 seconds after it was not; no query, when that is the
    database itself.
    """
    if time.monotonic() < _Broker.away_until:
        return False
    try:
        answers = _timed_broker() is not None
    except Exception:  # noqa: BLE001 - as above
        answers = False
    _Broker.away_until = 0.0 if answers else time.monotonic() + BROKER_AWAY_SECONDS
    return answers


def _timed_broker() -> float | None:
    began = time.monotonic()
    return time.monotonic() - began if get_broker().ping() else None


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
