"""/metrics: who may read it, that strict parsers do, what it says, and that nothing of a patient is in it."""

import datetime as dt
import json
import re
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError
from django.test import Client
from django.utils.timezone import now
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_parse
from prometheus_client.parser import text_string_to_metric_families as text_parse

from gateway_project.core.models import Alert, AuditEvent, JobState
from gateway_project.wiring import figures
from gateway_project.wiring.metrics import collect
from gateway_project.wiring.metrics.catalog import METRICS, OTHER_SOURCES, Kind, metrics_markdown
from network.selectors import LiveList
from studies.models import QuarantinedObject, StudyState
from tests.web.factories import day_make, lane_make, revision_make, study_make, upload_make, user_make, vault_make
from tests.web.rollups import hour_of, source_make
from uploads.services.delivery import deliveries_count

pytestmark = pytest.mark.django_db
OPEN = "application/openmetrics-text; version=1.0.0"
DOCS = settings.BASE_DIR / "docs"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def text(**headers: str) -> str:
    answer = Client().get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.content[:300]
    return answer.content.decode()


def samples() -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_parse(text())
        for sample in family.samples
    }


def value(name: str, **labels: str) -> float:
    return samples()[name, tuple(sorted(labels.items()))]


@pytest.fixture
def busy(vault) -> None:
    day_make(vault)
    for number in range(3):
        source_make(f"CT_{number}", [hour_of(now())], objects=10 + number)
    lane_make(name="vault:held", held=True, faults=3)
    Alert.objects.create(key="disk", code="disk-low", words="w")
    QuarantinedObject.objects.create(sha256="0" * 64, size_bytes=17, code="c", reason="r")
    AuditEvent.objects.create(event="Query", actor="user:x", subject="study:1", at=now() - dt.timedelta(seconds=90))
    deliveries_count(now() + dt.timedelta(hours=1))


# -- who ---------------------------------------------------------------------------------------------------------------


def test_anonymous_from_this_machine_alone(client_as) -> None:
    client_as("viewer")
    assert Client().get("/metrics").status_code == 200
    for extra in ({"REMOTE_ADDR": "192.0.2.7"}, {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}):
        answer = Client().get("/metrics", **extra)
        assert answer.status_code in (401, 403)
        assert answer["Content-Type"] == "application/problem+json"
        assert b"gateway_" not in answer.content


@pytest.mark.parametrize(
    ("role", "status"),
    [("viewer", 200), ("operator", 200), ("administrator", 200), ("integration", 200), ("", 403)],
)
def test_from_elsewhere_with_a_role(client_as, role: str, status: int) -> None:
    assert client_as(role).get("/metrics", REMOTE_ADDR="192.0.2.7").status_code == status


def test_nothing_is_written_and_nothing_cached(client_as) -> None:
    client_as("viewer")
    answer = Client().get("/metrics")
    assert answer["Cache-Control"] == "no-store"
    for method in ("post", "put", "delete"):
        assert getattr(Client(), method)("/metrics").status_code in (403, 405)


def test_it_answers_before_set_up_to_this_machine_alone() -> None:
    assert Client().get("/metrics").status_code == 200
    assert Client().get("/metrics", REMOTE_ADDR="192.0.2.7").status_code in (401, 403)


# -- the format --------------------------------------------------------------------------------------------------------


def test_both_formats_hold_before_strict_parsers(busy) -> None:
    for headers, parse, kind in (
        ({}, text_parse, "text/plain"),
        ({"Accept": OPEN}, open_parse, "application/openmetrics-text"),
    ):
        answer = Client().get("/metrics", headers=headers)
        assert answer["Content-Type"].startswith(kind)
        names = {family.name for family in parse(answer.content.decode())}
        assert len(names) == len(list(parse(answer.content.decode()))), "a family stands twice"
    assert answer.content.decode().endswith("# EOF\n")


def test_strange_accept_headers_get_the_text_format(busy) -> None:
    for accept in ("application/json", "image/png", "*/*", "text/html;q=0.1", ";;;,"):
        assert "gateway_build_info" in text(Accept=accept)


def test_no_series_stands_twice_and_histograms_are_cumulative(busy) -> None:
    lines = [line for line in text().splitlines() if line and not line.startswith("#")]
    series = [line.rsplit(" ", 1)[0] for line in lines]
    assert len(series) == len(set(series))
    buckets: dict[str, list[float]] = {}
    for line in lines:
        found = re.fullmatch(r'gateway_delivery_seconds_bucket\{le="[^"]+",source="([^"]+)"\} (\S+)', line)
        if found:
            buckets.setdefault(found[1], []).append(float(found[2]))
    assert buckets
    for source, counts in buckets.items():
        assert counts == sorted(counts)
        assert counts[-1] == value("gateway_delivery_seconds_count", source=source)


def test_everything_exported_is_in_the_catalogue_and_the_other_way_round(busy, monkeypatch) -> None:
    monkeypatch.setattr(
        figures,
        "associations_live",
        lambda: LiveList(True, [], {"connections": 5, "associations": 4}, {"too-many-connections": 1}),
    )
    source_make("OLD", [hour_of(now()) - dt.timedelta(days=9)])
    declared = {metric.name: metric for metric in METRICS}
    exported = {}
    for line in text().splitlines():
        if found := re.fullmatch(r"# TYPE (\S+) (\S+)", line):
            exported[found[1]] = found[2]
    assert exported == {name: metric.kind.value for name, metric in declared.items()}
    for name, labels in samples():
        base = re.sub(r"_(bucket|count|sum)$", "", name) if name not in declared else name
        assert {key for key, _text in labels} - {"le"} == set(declared[base].labels), name


# -- what it says ------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_database(busy) -> None:
    assert value("gateway_database_up") == value("gateway_broker_up") == value("gateway_listeners_up") == 1
    assert value("gateway_received_objects_total", source="CT_2") == 12
    assert value("gateway_sources") == 3
    assert value("gateway_studies", state="failed_permanent") == 1
    assert value("gateway_settling_studies") == 1
    assert 170 < value("gateway_settling_oldest_seconds") < 400
    assert value("gateway_jobs", queue="upload", lane="vault:default", state="parked") == 1
    assert value("gateway_jobs", queue="upload", lane="vault:default", state="trying_again") == 1
    assert value("gateway_jobs_failed", queue="upload", state="parked", code="object-damaged") == 1
    assert value("gateway_jobs_oldest_seconds", queue="upload", lane="vault:default") > 1000
    assert (value("gateway_lane_open", lane="vault:held"), value("gateway_lane_held", lane="vault:held")) == (0, 1)
    assert value("gateway_lane_open", lane="vault:default") == 1
    assert value("gateway_alerts", severity="warning") == 1
    assert value("gateway_quarantine_objects") == 1
    assert value("gateway_quarantine_bytes") == 17
    assert value("gateway_audit_unsealed_records") == 1
    assert 80 < value("gateway_audit_unsealed_oldest_seconds") < 200
    assert value("gateway_uploads_total") == 7
    assert value("gateway_disk_free_bytes") > 0


def test_silent_source_is_one(busy) -> None:
    Alert.objects.create(key="source-silent:CT_1", code="source-silent", words="w")
    assert value("gateway_source_silent", source="CT_1") == 1
    assert value("gateway_source_silent", source="CT_2") == 0


def test_sources_beyond_the_bound_are_counted_together_and_never_fall(monkeypatch) -> None:
    monkeypatch.setattr(figures, "SOURCES_MOST", 2)
    for number in range(5):
        source_make(f"CT_{number}", [hour_of(now())], objects=10)
    found = samples()
    shown = {
        dict(labels)["source"]: each
        for (name, labels), each in found.items()
        if name == "gateway_received_objects_total"
    }
    assert shown == {"CT_0": 10, "CT_1": 10, OTHER_SOURCES: 30}
    source_make("CT_NEW", [hour_of(now()) + dt.timedelta(hours=1)], objects=5)  # the latest takes no place of another
    assert value("gateway_received_objects_total", source="CT_0") == 10
    assert value("gateway_received_objects_total", source=OTHER_SOURCES) == 35


def test_hostile_ae_title_is_escaped_in_its_label() -> None:
    evil = '"} 1\\\n<b>x'
    source_make(evil, [hour_of(now())])
    assert value("gateway_received_objects_total", source=evil) == 40
    assert any(
        sample.labels.get("source") == evil for family in open_parse(text(Accept=OPEN)) for sample in family.samples
    )


def test_no_patient_is_in_it(vault) -> None:
    study = study_make(
        patient_name="MARKPATIENT^Eva", patient_id="MARKPATIENT-1", accession_number="MARKPATIENT2",
        study_description="MARKPATIENT", state=StudyState.FAILED_PERMANENT, reason="MARKPATIENT",
    )  # fmt: skip
    upload_make(revision_make(study), vault, JobState.PARKED, error_code="x", error_words="MARKPATIENT")
    everything = text()
    assert "MARKPATIENT" not in everything
    assert study.study_instance_uid not in everything


def test_without_listeners_their_figures_are_absent(monkeypatch) -> None:
    monkeypatch.setattr(figures, "associations_live", lambda: LiveList(running=False))
    assert value("gateway_listeners_up") == 0
    assert not [name for name, _labels in samples() if name.startswith("gateway_associations")]


def test_without_a_database_it_says_so_and_does_not_fail(monkeypatch) -> None:
    monkeypatch.setattr(figures, "_timed_database", lambda: None)
    found = samples()
    assert found["gateway_database_up", ()] == 0
    assert ("gateway_sources", ()) not in found


def test_a_part_that_fails_is_left_out(monkeypatch) -> None:
    def fails(_now: object) -> None:
        raise DatabaseError

    monkeypatch.setattr(collect, "PARTS", (fails, *collect.PARTS[1:]))
    found = samples()
    assert ("gateway_sources", ()) not in found
    assert ("gateway_settling_studies", ()) in found


def test_it_costs_the_same_queries_whatever_there_is(vault, django_assert_max_num_queries) -> None:
    user_make("administrator", username="first", superuser=True)
    with django_assert_max_num_queries(17) as few:
        text()
    day_make(vault)
    for number in range(30):
        source_make(f"MR_{number}", [hour_of(now())])
        vault_make(f"v{number}")
    with django_assert_max_num_queries(len(few.captured_queries)):
        text()


# -- what the documentation says ---------------------------------------------------------------------------------------


def test_page_of_metrics_is_made_from_the_catalogue() -> None:
    out = StringIO()
    call_command("metriclist", stdout=out)
    assert out.getvalue() == metrics_markdown()
    assert metrics_markdown() in (DOCS / "metrics.md").read_text(), "put `manage.py metriclist` into docs/metrics.md"


def test_dashboard_asks_only_for_what_is_exported() -> None:
    dashboard = json.loads((DOCS / "grafana" / "gateway.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    known = {metric.name for metric in METRICS}
    for metric in METRICS:
        if metric.kind is Kind.HISTOGRAM:
            known |= {metric.name + part for part in ("_bucket", "_count", "_sum")}
    named = {name for query in queries for name in re.findall(r"gateway_[a-z_]+", query)}
    assert len(queries) >= 15
    assert named <= known
    labels = {label for query in queries for label in re.findall(r"(?:by|without) \(([^)]*)\)", query)}
    declared = {"le"} | {label for metric in METRICS for label in metric.labels}
    assert {part.strip() for label in labels for part in label.split(",")} <= declared


def test_alerting_rules_of_the_page_name_what_is_exported() -> None:
    page = (DOCS / "metrics.md").read_text()
    known = {metric.name for metric in METRICS}
    for name in re.findall(r"gateway_[a-z_]+", page.split("## Alerting rules")[1].split("## ")[0]):
        assert name in known or re.sub(r"_(bucket|count|sum)$", "", name) in known, name
