"""The rollup of what arrives: counted from the instances' rows by a periodic task, so that receiving pays nothing."""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection, transaction
from django.db.models import F, Max
from django.utils.timezone import now as clock_now

from gateway_project.core.models import RollupMark
from gateway_project.core.processes import stopping
from studies.activity import HOUR_MINUTES, MARK_INSTANCES, MARK_REVISIONS, STEP_MINUTES
from studies.models import Arrival, Instance, SourceActivity, StudyRevision
from studies.selectors import stored_bytes_by_source

CHUNK = 2_000
CALL_SECONDS = 5.0
STEPS_KEPT = timedelta(days=3)
HOURS_KEPT = timedelta(days=120)
Key = tuple[str, datetime]


@dataclass
class _Sum:
    objects: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        self.objects += 1
        self.size_bytes += size_bytes


def arrivals_count(*, seconds: float = CALL_SECONDS) -> list[str]:
    """Counts the instances indexed since the last time, and settled revisions; answers which sources sent something.

    May be killed, repeated and run by two at once: each chunk of 2,000 and its mark are one transaction, short enough
    for whoever indexes beside it. An index that is there already (an upgrade) takes several calls, as none goes on for
    longer than `seconds`. With SQLite all is counted that there is; with PostgreSQL it is one call behind (RollupMark).
    """
    seen: set[str] = set()
    _mark_seen(MARK_INSTANCES, Instance.objects.aggregate(highest=Max("pk"))["highest"])
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stopping():
        sources, over = _chunk_count()
        seen |= sources
        if over:
            break
    _mark_moved(MARK_INSTANCES)
    _revisions_count()
    return sorted(seen)


def stored_measure() -> None:
    """Measures how many bytes of each source are in the store: one pass over an index, every few minutes.

    Between two measurements what is counted as received is added, as its files are there.
    """
    measured = stored_bytes_by_source()
    for source in SourceActivity.objects.all():
        stored = measured.get(source.calling_ae_title, 0)
        if stored != source.stored_bytes:
            SourceActivity.objects.filter(pk=source.pk).update(stored_bytes=stored)


def arrivals_trim(now: datetime) -> int:
    """Forgets steps of ten minutes after three days, hours after 120 days, and answers how many rows. Totals stay."""
    removed = 0
    for minutes, kept in ((STEP_MINUTES, STEPS_KEPT), (HOUR_MINUTES, HOURS_KEPT)):
        old = Arrival.objects.filter(minutes=minutes, start__lt=now - kept).values_list("pk", flat=True)
        while ids := list(old[:500]):
            removed += Arrival.objects.filter(pk__in=ids).delete()[0]
    return removed


def _mark_seen(name: str, highest: int | None) -> None:
    """With SQLite ids become visible in their order: what is there now may be counted now."""
    mark, _created = RollupMark.objects.get_or_create(name=name)
    if connection.vendor == "sqlite" and (highest or 0) > mark.seen_to:
        RollupMark.objects.filter(pk=name, seen_to__lt=highest or 0).update(seen_to=highest)


def _mark_moved(name: str) -> None:
    """What is there now may be counted the next time."""
    model = Instance if name == MARK_INSTANCES else StudyRevision
    highest = model._default_manager.aggregate(highest=Max("pk"))["highest"] or 0
    RollupMark.objects.filter(pk=name, seen_to__lt=highest).update(seen_to=highest)


def _chunk_count() -> tuple[set[str], bool]:
    with transaction.atomic():
        mark = RollupMark.objects.select_for_update(no_key=True).get(pk=MARK_INSTANCES)
        rows = Instance.objects.filter(pk__gt=mark.counted_to, pk__lte=mark.seen_to).order_by("pk")
        found = list(rows.values_list("pk", "source_ae_title", "received_at", "size_bytes")[:CHUNK])
        over = len(found) < CHUNK
        if not found and mark.counted_to == mark.seen_to:
            return set(), True
        if found:
            _rollup_write([row[1:] for row in found])
        mark.counted_to = mark.seen_to if over else found[-1][0]
        mark.total += len(found)
        mark.changed_at = clock_now()
        mark.save(update_fields=["counted_to", "total", "changed_at"])
    return {row[1] for row in found}, over


def _rollup_write(found: Iterable[tuple[str, datetime, int]]) -> None:
    spans: dict[int, dict[Key, _Sum]] = {STEP_MINUTES: defaultdict(_Sum), HOUR_MINUTES: defaultdict(_Sum)}
    totals: dict[str, _Sum] = defaultdict(_Sum)
    first: dict[str, datetime] = {}
    last: dict[str, datetime] = {}
    for source, moment, size_bytes in found:
        totals[source].add(size_bytes)
        first[source] = min(first.get(source, moment), moment)
        last[source] = max(last.get(source, moment), moment)
        for minutes, sums in spans.items():
            sums[source, _start(moment, minutes)].add(size_bytes)
    ids = {source: _source_count(source, totals[source], first[source], last[source]) for source in sorted(totals)}
    for minutes, sums in spans.items():
        _arrivals_add(minutes, {(ids[source], start): each for (source, start), each in sums.items()})


def _source_count(title: str, counted: _Sum, first: datetime, last: datetime) -> int:
    source, _created = SourceActivity.objects.get_or_create(
        calling_ae_title=title, defaults={"first_at": first, "last_at": last}
    )
    SourceActivity.objects.filter(pk=source.pk).update(
        objects_received=F("objects_received") + counted.objects,
        size_bytes=F("size_bytes") + counted.size_bytes,
        stored_bytes=F("stored_bytes") + counted.size_bytes,
        first_at=min(source.first_at, first),
        last_at=max(source.last_at, last),
    )
    return source.pk


def _arrivals_add(minutes: int, sums: dict[tuple[int, datetime], _Sum]) -> None:
    starts = {start for _source, start in sums}
    known = {
        (row.source_id, row.start): row
        for row in Arrival.objects.filter(
            minutes=minutes, start__gte=min(starts), start__lte=max(starts), source__in={pk for pk, _start in sums}
        )
    }
    fresh = []
    for (source_id, start), each in sums.items():
        row = known.get((source_id, start))
        if row is None:
            fresh.append(
                Arrival(
                    minutes=minutes,
                    start=start,
                    source_id=source_id,
                    objects_received=each.objects,
                    size_bytes=each.size_bytes,
                )
            )
        else:
            row.objects_received += each.objects
            row.size_bytes += each.size_bytes
    Arrival.objects.bulk_create(fresh, batch_size=500)
    changed = [row for key, row in known.items() if key in sums]
    Arrival.objects.bulk_update(changed, ["objects_received", "size_bytes"], batch_size=200)


def _start(moment: datetime, minutes: int) -> datetime:
    utc = moment.astimezone(UTC)
    return utc.replace(minute=utc.minute - utc.minute % minutes if minutes < 60 else 0, second=0, microsecond=0)


def _revisions_count() -> None:
    _mark_seen(MARK_REVISIONS, StudyRevision.objects.aggregate(highest=Max("pk"))["highest"])
    with transaction.atomic():
        mark = RollupMark.objects.select_for_update(no_key=True).get(pk=MARK_REVISIONS)
        if mark.seen_to > mark.counted_to:
            mark.total += StudyRevision.objects.filter(pk__gt=mark.counted_to, pk__lte=mark.seen_to).count()
            mark.counted_to, mark.changed_at = mark.seen_to, clock_now()
            mark.save(update_fields=["total", "counted_to", "changed_at"])
    _mark_moved(MARK_REVISIONS)
