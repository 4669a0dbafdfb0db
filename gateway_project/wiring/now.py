"""What the Now page shows: what needs a hand, the day as charts, what waits, the disk, and who was heard from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import ClassVar

from django.utils.timezone import localtime

from gateway_project.core.selectors import LaneLine
from gateway_project.wiring import figures
from gateway_project.wiring.charts import Chart, Point, chart, scale_decimal, scale_duration
from gateway_project.wiring.lane_words import lane_or_vault_standing
from gateway_project.wiring.summary import Summary, summary_now
from gateway_project.wiring.words import count_words, duration_words, size_words, within_words
from studies.activity import Received, SourceLine, received_steps, sources_shown, sources_totals
from studies.selectors import studies_any
from uploads.queue import NAME as UPLOAD_QUEUE
from uploads.selectors.lines import Delivery, deliveries_since

HOURS = 24
STEP = timedelta(minutes=30)
HOUR = timedelta(hours=1)
SOURCES_SHOWN = 12
DAYS_LOW = 14
Mark = tuple[str, str, str]


@dataclass(frozen=True)
class LineRow:
    """One line of waiting work, as a row. A Mark is (icon, tone, word)."""

    title: str
    state: Mark
    words: str
    count: int
    running: int
    parked: int
    oldest: datetime | None
    link: str = ""


@dataclass(frozen=True)
class SourceRow:
    line: SourceLine

    @property
    def offers_switch(self) -> bool:
        """Where the button is wanted: at a silent source, and at one that is not watched."""
        return self.line.silent_since is not None or not self.line.watched

    @property
    def state(self) -> Mark:
        if self.line.silent_since is not None:
            return "again", "warn", "silent against its usual week"
        return ("check", "ok", "heard") if self.line.watched else ("settled", "calm", "not watched")


@dataclass(frozen=True)
class DiskView:
    disk: figures.Disk
    tone: str
    sentence: str
    detail: str

    @property
    def used_bytes(self) -> int:
        return self.disk.total_bytes - self.disk.free_bytes


@dataclass(frozen=True)
class NowView:
    summary: Summary
    received: Chart
    delivered: Chart
    today: str
    live: figures.Live
    workers: bool
    lines: list[LineRow]
    disk: DiskView | None
    sources: list[SourceRow]
    sources_more: int
    silent: int
    quarantine: figures.Line
    broker: bool
    counting: bool
    started: bool

    listeners_away: ClassVar[Mark] = ("stop", "bad", "no answer")

    @property
    def workers_state(self) -> Mark:
        return ("check", "ok", "run") if self.workers else ("stop", "bad", "do not run")

    @property
    def broker_state(self) -> Mark:
        return ("check", "ok", "answers") if self.broker else ("stop", "bad", "does not answer")


def now_view(now: datetime) -> NowView:
    """Everything on the page, in a fixed number of queries."""
    begin = figures.day_begin(now, HOURS)
    machine = figures.machine_figures(now)
    steps = received_steps(min(begin, _midnight(now)))
    totals = sources_totals()
    sources = sources_shown(SOURCES_SHOWN, midnight=_midnight(now))
    waiting = figures.waiting_figures()
    return NowView(
        summary=summary_now(now, machine=machine),
        received=_received_chart(steps, begin, counting=machine.works),
        delivered=_delivered_chart(deliveries_since(begin), begin),
        today=_today_words(steps, _midnight(now)),
        live=machine.live,
        workers=machine.workers,
        lines=_lines(figures.queue_figures(machine.lanes), waiting.settling, now),
        disk=_disk(figures.disk_figures(now, stored_bytes=totals.stored_bytes, first_at=totals.first_at)),
        sources=[SourceRow(line) for line in sources],
        sources_more=max(totals.sources - len(sources), 0),
        silent=sum(line.silent_since is not None for line in sources),
        quarantine=waiting.quarantine,
        broker=machine.broker,
        counting=machine.works,
        started=bool(totals.sources) or studies_any(),
    )


def _midnight(now: datetime) -> datetime:
    return localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)


# -- the day -----------------------------------------------------------------------------------------------------------


def _today_words(steps: Sequence[Received], midnight: datetime) -> str:
    today = [step for step in steps if step.start >= midnight]
    objects = sum(step.objects for step in today)
    return f"{count_words(objects, 'object')}, {size_words(sum(step.size_bytes for step in today))}" if objects else ""


def _received_chart(steps: Sequence[Received], begin: datetime, *, counting: bool) -> Chart:
    count = int(HOURS * HOUR / STEP)
    sums = [[0, 0] for _ in range(count)]
    for step in steps:
        place = int((step.start - begin) / STEP)
        if step.start >= begin and place < count:
            sums[place][0] += step.objects
            sums[place][1] += step.size_bytes
    points = [
        Point(
            label=_span_words(begin + number * STEP, STEP),
            value=size or None,
            note=f"{count_words(objects, 'object')}, {size_words(size)}" if objects else "nothing",
        )
        for number, (objects, size) in enumerate(sums)
    ]
    hours = [(sum(o for o, _s in sums[i : i + 2]), sum(s for _o, s in sums[i : i + 2])) for i in range(0, count, 2)]
    busiest = max(range(count), key=lambda number: sums[number][1])
    total = sum(size for _objects, size in sums)
    return chart(
        "received",
        points,
        title="Received in the last 24 hours",
        description=f"{size_words(total)} in all, the most at {points[busiest].label}: {points[busiest].note}."
        if total
        else "Nothing was received.",
        words=size_words,
        scale=scale_decimal,
        ticks=_ticks(begin),
        columns=("Hour", "Objects", "Size"),
        rows=[
            (_span_words(begin + number * HOUR, HOUR), f"{objects:,}", size_words(size))
            for number, (objects, size) in enumerate(hours)
            if objects
        ],
        empty="Nothing had been received in the last 24 hours when it was counted, at most a quarter of a minute ago."
        if counting
        else "Nothing is counted while the workers or the task queue are away.",
    )


def _delivered_chart(deliveries: Sequence[Delivery], begin: datetime) -> Chart:
    """Bars are the median of an hour's uploads, marks what 95 of 100 did not exceed."""
    by_hour: list[list[float]] = [[] for _ in range(HOURS)]
    for delivery in deliveries:
        place = int((delivery.at - begin) / HOUR)
        if 0 <= place < HOURS:
            by_hour[place].append(delivery.seconds)
    points = [_hour_point(begin + number * HOUR, seconds) for number, seconds in enumerate(by_hour)]
    every = [seconds for hour in by_hour for seconds in hour]
    return chart(
        "delivered",
        points,
        title="Time to the vault in the last 24 hours",
        description=f"{count_words(len(every), 'upload')}; half of them took no more than "
        f"{within_words(median(every))} from the last object to the vault's receipt, 95 in 100 no more than "
        f"{within_words(high_of(every))}."
        if every
        else "No upload ended.",
        words=duration_words,
        scale=scale_duration,
        ticks=_ticks(begin),
        columns=("Hour", "Uploads", "Half within", "95 in 100 within"),
        rows=[
            (
                _span_words(begin + number * HOUR, HOUR),
                f"{len(seconds):,}",
                within_words(median(seconds)),
                within_words(high_of(seconds)),
            )
            for number, seconds in enumerate(by_hour)
            if seconds
        ],
        empty="No study has reached a vault in the last 24 hours.",
    )


def _hour_point(start: datetime, seconds: Sequence[float]) -> Point:
    label = _span_words(start, HOUR)
    if not seconds:
        return Point(label, None, note="no upload")
    middle, high = median(seconds), high_of(seconds)
    note = f"{count_words(len(seconds), 'upload')}, half within {within_words(middle)}, 95 in 100 within "
    return Point(label, middle, high, note + within_words(high))


def high_of(seconds: Sequence[float]) -> float:
    """What 95 in 100 did not exceed (nearest rank)."""
    ordered = sorted(seconds)
    return ordered[max(-(-len(ordered) * 95 // 100) - 1, 0)]


def _span_words(start: datetime, span: timedelta) -> str:
    return f"{localtime(start):%H:%M} to {localtime(start + span):%H:%M}"


def _ticks(begin: datetime) -> list[str]:
    return [f"{localtime(begin + hours * HOUR):%H:%M}" for hours in (0, 6, 12, 18)] + ["now"]


# -- what waits --------------------------------------------------------------------------------------------------------


def _lines(found: figures.Queues, settling: figures.Line, now: datetime) -> list[LineRow]:
    by_lane: dict[int, list[LaneLine]] = {}
    for line in found.lines:
        if line.lane is not None:
            by_lane.setdefault(line.lane.pk, []).append(line)
    rows = [
        LineRow(
            title="Settling",
            state=("settled", "calm", "waiting for quiet") if settling.count else ("check", "ok", "nothing open"),
            words="studies that may still grow",
            count=settling.count,
            running=0,
            parked=0,
            oldest=settling.oldest,
            link="receiving",
        )
    ]
    for lane in found.lanes:
        lines = by_lane.get(lane.pk) or [LaneLine("", lane)]
        rows += [_lane_row(line, now, title=_lane_title(line, alone=len(lines) == 1)) for line in lines]
    others = [line for line in found.lines if line.lane is None]
    return rows + [_lane_row(line, now, title=f"{line.queue.capitalize()} jobs") for line in others]


def _lane_title(line: LaneLine, *, alone: bool) -> str:
    """Several queues may share a lane, as uploads to a vault and the questions whether it still has them."""
    title = line.lane.title if line.lane else ""
    return title if alone else f"{title}: {line.queue}"


def _lane_row(line: LaneLine, now: datetime, *, title: str) -> LineRow:
    words, link = [], ""
    if line.trying_again:
        words.append(f"{line.trying_again:,} waiting to try again")
    if line.parked:
        words.append(f"{line.parked:,} given up")
    if line.queue == UPLOAD_QUEUE:
        link = "failed" if line.trying_again or line.parked else "uploading" if line.running else ""
    return LineRow(
        title=title,
        state=_lane_state(line, now),
        words=", ".join(words),
        count=line.waiting + line.trying_again,
        running=line.running,
        parked=line.parked,
        oldest=line.oldest,
        link=link,
    )


def _lane_state(line: LaneLine, now: datetime) -> Mark:
    if line.lane is not None:
        standing = lane_or_vault_standing(line.lane, now)
        if standing.until is not None and standing.tone == "calm":
            return "settled", "calm", f"begins at {localtime(standing.until):%H:%M}"
        if standing.tone != "ok":
            return standing.icon, standing.tone, standing.word
    if line.running:
        return "uploading", "run", "under way"
    return ("settled", "calm", "waiting") if line.unfinished else ("check", "ok", "nothing waits")


# -- the disk and the sources ------------------------------------------------------------------------------------------


def _disk(disk: figures.Disk | None) -> DiskView | None:
    if disk is None:
        return None
    days = disk.days_left
    tone = "ok"
    if disk.free_bytes < disk.stop_bytes:
        return DiskView(disk, "bad", "The disk is full: objects are refused.", "Make room or move the store.")
    if disk.free_bytes < disk.low_bytes or (days is not None and days < DAYS_LOW):
        tone = "warn"
    if days is None:
        sentence = f"{size_words(disk.free_bytes)} free"
        return DiskView(disk, tone, sentence, "How long it lasts is known after a day of receiving.")
    left = "more than a year left" if days > 365 else f"{count_words(int(days), 'day')} left"
    rate = f"At {size_words(disk.bytes_a_day)} a day, the mean of the last 7 days"
    return DiskView(disk, tone, left, f"{rate}; {size_words(disk.free_bytes)} free.")
