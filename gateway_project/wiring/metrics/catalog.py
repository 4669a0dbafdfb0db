"""Every metric that /metrics exports, declared once: the exposition, docs/metrics.md and its test stand on this."""

from dataclasses import dataclass
from enum import Enum

OTHER_SOURCES = "all other sources"  # longer than any AE title, so it is none


class Kind(Enum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Origin(Enum):
    """Where a counter comes from, which says what a restart does to it."""

    DATABASE = "database"
    LISTENERS = "listeners"
    NOW = "now"


@dataclass(frozen=True)
class Metric:
    """`name` as in queries: a counter's ends with `_total`. `help` is free of what differs between machines."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    origin: Origin = Origin.NOW


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, Kind.GAUGE, text, labels)


def _counter(name: str, text: str, *labels: str, origin: Origin = Origin.DATABASE) -> Metric:
    return Metric(name, Kind.COUNTER, text, labels, origin)


METRICS: tuple[Metric, ...] = (
    _gauge("gateway_build_info", "Always 1; the labels say which gateway and which version.", "instance", "version"),
    _gauge("gateway_start_time_seconds", "When the gateway was started, as Unix time."),
    _gauge("gateway_database_up", "1 while the database answers. While it does not, little else is exported."),
    _gauge("gateway_database_answer_seconds", "How long the database took for the shortest question."),
    _gauge("gateway_broker_up", "1 while the task queue's broker answers."),
    _gauge("gateway_broker_answer_seconds", "How long the broker took for a ping."),
    _gauge("gateway_broker_rings", "Rings that wait for a cluster's workers.", "cluster"),
    _counter(
        "gateway_received_objects_total", "Objects received and indexed, by calling AE title.", "source"
    ),
    _counter("gateway_received_bytes_total", "Bytes of their data sets, as they came over the wire.", "source"),
    _gauge("gateway_source_last_object_time_seconds", "When the source's latest object came, as Unix time.", "source"),
    _gauge("gateway_source_silent", "1 while an alert says that it is silent against its usual week.", "source"),
    _gauge("gateway_stored_bytes", "Bytes of it in the store: measured every 5 minutes, and later ones.", "source"),
    _gauge("gateway_sources", "Sources that have ever sent an object."),
    _counter("gateway_studies_settled_total", "Times that a study has settled (its revisions)."),
    _gauge("gateway_studies", "Studies by the state that the pages show.", "state"),
    _gauge("gateway_settling_studies", "Studies of which something is not settled yet."),
    _gauge("gateway_settling_oldest_seconds", "Age of the oldest of them, since its first unsettled object; 0: none."),
    _counter("gateway_uploads_total", "Uploads that have reached their vault."),
    _counter("gateway_uploaded_bytes_total", "Bytes of the objects in them."),
    Metric(
        "gateway_delivery_seconds",
        Kind.HISTOGRAM,
        "Time from a revision's last object to the vault's receipt (a DICOMweb server: to its last confirmation).",
        ("source",),
        Origin.DATABASE,
    ),
    _gauge(
        "gateway_jobs", "Unfinished jobs: waiting, trying_again, running, parked (given up).", "queue", "lane", "state"
    ),
    _gauge("gateway_jobs_oldest_seconds", "Age of the oldest job that waits or is under way.", "queue", "lane"),
    _gauge("gateway_jobs_failed", "Jobs that try again (ready) or were given up (parked), by error code.",
           "queue", "state", "code"),
    _gauge("gateway_lane_open", "1 while jobs may go this way: not held, not paused, circuit closed.", "lane"),
    _gauge("gateway_lane_held", "1 while the lane waits for a person.", "lane"),
    _gauge("gateway_lane_faults", "Faults of the lane in a row; 0 when the last job went well.", "lane"),
    _gauge("gateway_alerts", "Alerts that are open.", "severity"),
    _gauge("gateway_quarantine_objects", "Refused objects that wait for a decision."),
    _gauge("gateway_quarantine_oldest_seconds", "Age of the oldest of them; 0: none."),
    _gauge("gateway_quarantine_bytes", "Bytes that the quarantine keeps."),
    _gauge("gateway_disk_free_bytes", "Free on the store's file system."),
    _gauge("gateway_disk_total_bytes", "Size of the store's file system."),
    _gauge("gateway_disk_stop_bytes", "Free space under which objects are refused (STORAGE.STOP_SPACE_GB)."),
    _gauge("gateway_disk_days_left", "Days until then at the mean rate of the last 7 days; absent while unknown."),
    _gauge("gateway_listeners_up", "1 while the listeners answer."),
    _gauge("gateway_connections_open", "Connections that are open now."),
    _gauge("gateway_associations_open", "Associations that are open now."),
    _gauge("gateway_associations_bytes_per_second", "What they receive together, in the last second or two."),
    _counter("gateway_connections_total", "Connections taken.", origin=Origin.LISTENERS),
    _counter("gateway_associations_total", "Associations accepted.", origin=Origin.LISTENERS),
    _counter("gateway_refusals_total", "Connections and associations refused.", "reason", origin=Origin.LISTENERS),
    _gauge("gateway_audit_unsealed_records", "Audit records that are not chained yet."),
    _gauge("gateway_audit_unsealed_oldest_seconds", "Age of the oldest of them; 0: none."),
    _gauge("gateway_scrape_seconds", "How long it took to collect all this."),
)  # fmt: skip

BY_NAME = {metric.name: metric for metric in METRICS}

ORIGIN_WORDS = {
    Origin.DATABASE: "only grows, also over restarts",
    Origin.LISTENERS: "begins at 0 when the listeners start",
    Origin.NOW: "",
}


def metrics_markdown() -> str:
    """The table of docs/metrics.md between its marks; the same for every machine."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        words = ORIGIN_WORDS[metric.origin]
        kind = f"{metric.kind.value}; {words}" if words else metric.kind.value
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"
