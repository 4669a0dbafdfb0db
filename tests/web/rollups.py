"""Weeks of arrivals for the Now page, the metrics and the silence of a source: rollup rows, made directly."""

import datetime as dt
from collections.abc import Iterable

from studies.models import Arrival, SourceActivity

HOUR = dt.timedelta(hours=1)
MEAN_BYTES = 500_000


def hour_of(moment: dt.datetime) -> dt.datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def source_make(title: str, hours: Iterable[dt.datetime], *, objects: int = 40, steps: bool = False) -> SourceActivity:
    """A source that sent `objects` in each of these hours (UTC, whole); with `steps` also by ten minutes."""
    found = sorted(hours)
    source = SourceActivity.objects.create(
        calling_ae_title=title,
        objects_received=objects * len(found),
        size_bytes=objects * len(found) * MEAN_BYTES,
        stored_bytes=objects * len(found) * MEAN_BYTES,
        first_at=found[0],
        last_at=found[-1] + dt.timedelta(minutes=20),
    )
    rows = [(60, hour, objects) for hour in found]
    if steps:
        rows += [
            (10, hour + dt.timedelta(minutes=10 * step), objects * (step + 1) // 21)
            for hour in found
            for step in range(6)
        ]
    Arrival.objects.bulk_create(
        Arrival(minutes=minutes, start=start, source=source, objects_received=number, size_bytes=number * MEAN_BYTES)
        for minutes, start, number in rows
    )
    return source


def working_hours(now: dt.datetime, *, weeks: int = 5, days: Iterable[int] = range(5), begin: int = 8, end: int = 17,
                  until: dt.datetime | None = None) -> list[dt.datetime]:  # fmt: skip
    """Every whole hour of working days in the weeks before `now` (or `until`), UTC, ascending."""
    last = hour_of(until or now)
    hours = [last - number * HOUR for number in range(weeks * 7 * 24, -1, -1)]
    wanted = set(days)
    return [hour for hour in hours if hour.weekday() in wanted and begin <= hour.hour < end]
