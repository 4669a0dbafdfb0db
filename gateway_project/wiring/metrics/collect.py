"""Fills the catalog's metrics with the gateway's figures, in a fixed number of queries."""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from django.db import Error as DatabaseError
from django.utils.timezone import now as clock_now
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from gateway_project import __version__
from gateway_project.core.models import Lane
from gateway_project.wiring import figures
from gateway_project.wiring.metrics.catalog import BY_NAME, OTHER_SOURCES, Kind
from gateway_project.wiring.status import STARTED_AT, instance_id
from studies.activity import Totals, quarantine_kept_bytes
from uploads.models import DeliveryTimes
from uploads.selectors.lines import lanes_standing
from uploads.services.delivery import BEYOND, BOUNDS

Labelled = dict[tuple[str, ...], float]


class GatewayCollector(Collector):
    """Everything at one moment. A part whose query fails is left out; while the database is away, only what needs none
    is there."""

    def collect(self) -> Iterable[Family]:
        began, now = time.monotonic(), clock_now()
        answers = figures.answer_figures()
        yield from _answers(answers)
        yield from _live()
        if answers.database is not None:
            for part in PARTS:
                yield from _part(part, now)
        yield _family("gateway_scrape_seconds", time.monotonic() - began)


def _part(part: Callable[[datetime], list[Family]], now: datetime) -> list[Family]:
    try:
        return part(now)
    except DatabaseError:
        return []


def _family(name: str, value: float | Labelled) -> Family:
    """A gauge or counter of the catalog, with one value or with one for each set of labels."""
    metric = BY_NAME[name]
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(name, metric.help, labels=metric.labels)
    for labels, number in value.items() if isinstance(value, dict) else [((), value)]:
        family.add_metric(labels, float(number))
    return family


def _answers(answers: figures.Answers) -> list[Family]:
    families = [
        _family("gateway_build_info", {(instance_id(), __version__): 1}),
        _family("gateway_start_time_seconds", datetime.fromisoformat(STARTED_AT).timestamp()),
        _family("gateway_database_up", answers.database is not None),
        _family("gateway_broker_up", answers.broker is not None),
        _family("gateway_broker_rings", {(name,): number for name, number in answers.rings.items()}),
    ]
    if answers.database is not None:
        families.append(_family("gateway_database_answer_seconds", answers.database))
    if answers.broker is not None:
        families.append(_family("gateway_broker_answer_seconds", answers.broker))
    return families


def _live() -> list[Family]:
    live = figures.live_figures()
    if not live.running:
        return [_family("gateway_listeners_up", 0)]
    return [
        _family("gateway_listeners_up", 1),
        _family("gateway_connections_open", live.connections),
        _family("gateway_associations_open", live.associations),
        _family("gateway_associations_bytes_per_second", live.bytes_per_second),
        _family("gateway_connections_total", live.totals.get("connections", 0)),
        _family("gateway_associations_total", live.totals.get("associations", 0)),
        _family("gateway_refusals_total", {(reason,): number for reason, number in live.refused.items()}),
    ]


def _received(now: datetime) -> list[Family]:
    found = figures.received_figures()
    totals, sources = found.totals, [source for source, _silent in found.by_source]
    objects: Labelled = {(s.calling_ae_title,): float(s.objects_received) for s in sources}
    size: Labelled = {(s.calling_ae_title,): float(s.size_bytes) for s in sources}
    stored: Labelled = {(s.calling_ae_title,): float(s.stored_bytes) for s in sources}
    if totals.sources > len(sources):
        for values, total in ((objects, totals.objects), (size, totals.size_bytes), (stored, totals.stored_bytes)):
            values[(OTHER_SOURCES,)] = max(total - sum(values.values()), 0.0)
    return [
        _family("gateway_received_objects_total", objects),
        _family("gateway_received_bytes_total", size),
        _family("gateway_stored_bytes", stored),
        _family("gateway_sources", totals.sources),
        _family("gateway_studies_settled_total", found.revisions),
        _family(
            "gateway_source_last_object_time_seconds", {(s.calling_ae_title,): s.last_at.timestamp() for s in sources}
        ),
        _family("gateway_source_silent", {(s.calling_ae_title,): float(silent) for s, silent in found.by_source}),
        *_disk(now, totals),
    ]


def _delivered(_now: datetime) -> list[Family]:
    by_source, totals = figures.delivery_figures()
    metric = BY_NAME["gateway_delivery_seconds"]
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for times in by_source:
        family.add_metric((times.source_ae_title,), buckets=_buckets(times), sum_value=times.seconds)
    return [
        family,
        _family("gateway_uploads_total", totals["uploads"]),
        _family("gateway_uploaded_bytes_total", totals["size_bytes"]),
    ]


def _buckets(times: DeliveryTimes) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them; the last one is the number of uploads."""
    below, buckets = 0, []
    for bound in BOUNDS:
        below += int(times.counts.get(str(bound), 0))
        buckets.append((f"{float(bound)}", float(below)))
    return [*buckets, (BEYOND, float(times.uploads))]


def _queues(now: datetime) -> list[Family]:
    found, waiting = figures.queue_figures(lanes_standing()), figures.waiting_figures()
    jobs: Labelled = {}
    oldest: Labelled = {}
    for line in found.lines:
        place = (line.queue, line.lane.name if line.lane else "")
        for state in ("waiting", "trying_again", "running", "parked"):
            jobs[(*place, state)] = getattr(line, state)
        oldest[place] = figures.Line(line.unfinished, line.oldest).age_seconds(now)
    return [
        _family("gateway_settling_studies", waiting.settling.count),
        _family("gateway_settling_oldest_seconds", waiting.settling.age_seconds(now)),
        _family("gateway_quarantine_objects", waiting.quarantine.count),
        _family("gateway_quarantine_oldest_seconds", waiting.quarantine.age_seconds(now)),
        _family("gateway_jobs", jobs),
        _family("gateway_jobs_oldest_seconds", oldest),
        *_lanes(found.lanes),
    ]


def _lanes(lanes: Sequence[Lane]) -> list[Family]:
    return [
        _family("gateway_lane_open", {(lane.name,): lane.circuit_closed and not lane.paused for lane in lanes}),
        _family("gateway_lane_held", {(lane.name,): lane.held for lane in lanes}),
        _family("gateway_lane_faults", {(lane.name,): lane.faults for lane in lanes}),
    ]


def _failed(_now: datetime) -> list[Family]:
    return [
        _family("gateway_jobs_failed", figures.failure_figures()),
        _family("gateway_studies", {(state,): number for state, number in figures.state_figures().items()}),
    ]


def _troubles(now: datetime) -> list[Family]:
    audit = figures.audit_figures()
    unsealed = figures.Line(audit.records, audit.oldest)
    return [
        _family("gateway_alerts", {(severity,): number for severity, number in figures.alert_figures().items()}),
        _family("gateway_quarantine_bytes", quarantine_kept_bytes()),
        _family("gateway_audit_unsealed_records", unsealed.count),
        _family("gateway_audit_unsealed_oldest_seconds", unsealed.age_seconds(now)),
    ]


def _disk(now: datetime, totals: Totals) -> list[Family]:
    disk = figures.disk_figures(now, stored_bytes=totals.stored_bytes, first_at=totals.first_at)
    if disk is None:
        return []
    families = [
        _family("gateway_disk_free_bytes", disk.free_bytes),
        _family("gateway_disk_total_bytes", disk.total_bytes),
        _family("gateway_disk_stop_bytes", disk.stop_bytes),
    ]
    if disk.days_left is not None:
        families.append(_family("gateway_disk_days_left", disk.days_left))
    return families


PARTS = (_received, _delivered, _queues, _failed, _troubles)
