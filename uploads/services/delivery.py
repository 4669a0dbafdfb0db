"""The rollup of how long studies take to their vault: counted from finished uploads by a periodic task."""

from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils.timezone import now as clock_now

from gateway_project.core.models import JobState, RollupMark
from gateway_project.core.processes import stopping
from uploads.models import DeliveryTimes, UploadJob
from uploads.selectors.lines import delivery_seconds

MARK = "deliveries"
CHUNK = 2_000
# An upload's end is the moment at which its transaction began to write it: later than this, it is there to be seen.
LAG = timedelta(seconds=30)
BOUNDS = (60, 120, 300, 600, 660, 720, 900, 1200, 1800, 3600, 7200, 14_400, 28_800, 86_400, 259_200)
BEYOND = "+Inf"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def deliveries_count(now: datetime, *, chunks: int = 50) -> int:
    """Counts the uploads that ended since the last time, up to half a minute ago; answers how many.

    May be killed, repeated and run by two at once: each chunk and its mark are one transaction.
    """
    RollupMark.objects.get_or_create(name=MARK)
    counted = 0
    for _ in range(chunks):
        number, over = _chunk_count(now - LAG)
        counted += number
        if over or stopping():
            break
    return counted


def bound_of(seconds: float) -> str:
    """The least bound that it does not exceed, as `DeliveryTimes.counts` names it."""
    return next((str(bound) for bound in BOUNDS if seconds <= bound), BEYOND)


def _chunk_count(until: datetime) -> tuple[int, bool]:
    with transaction.atomic():
        mark = RollupMark.objects.select_for_update(no_key=True).get(pk=MARK)
        done = UploadJob.objects.filter(state=JobState.DONE, ended_at__gt=_EPOCH + mark.counted_to * _MICROSECOND)
        due = done.filter(ended_at__lte=until)
        further = due.order_by("ended_at").values_list("ended_at", flat=True)[CHUNK : CHUNK + 1].first()
        end = further or until  # with all that ended in the same microsecond
        number = _times_add(due.filter(ended_at__lte=end))
        if not number:
            return 0, True
        mark.counted_to = max((end - _EPOCH) // _MICROSECOND, mark.counted_to)
        mark.total += number
        mark.changed_at = clock_now()
        mark.save(update_fields=["counted_to", "total", "changed_at"])
    return number, further is None


def _times_add(jobs: QuerySet[UploadJob]) -> int:
    rows = list(
        jobs.values_list(
            "revision__study__source_ae_title",
            "revision__size_bytes",
            "revision__received_at",
            "receipt_at",
            "ended_at",
        )
    )
    by_source: dict[str, list[tuple[float, int]]] = {}
    for source, size_bytes, received_at, receipt_at, ended_at in rows:
        by_source.setdefault(source, []).append((delivery_seconds(received_at, receipt_at, ended_at), size_bytes))
    for source, found in sorted(by_source.items()):
        times, _created = DeliveryTimes.objects.get_or_create(source_ae_title=source)
        for seconds, size_bytes in found:
            bound = bound_of(seconds)
            times.counts[bound] = times.counts.get(bound, 0) + 1
            times.seconds += seconds
            times.size_bytes += size_bytes
            times.uploads += 1
        times.save()
    return len(rows)
