"""Objects sent to a whole gateway come to stand in its metrics; refusals too."""

import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.dicom_samples import study_files
from tests.gateway_harness import Gateway, wait_until

pytestmark = [pytest.mark.dcmtk, pytest.mark.timeout(180)]


def scraped(gateway: Gateway) -> dict[str, float]:
    """Every sample as it is written, with its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.web_port}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_received_and_refused_are_counted(gateway: Gateway, tmp_path: Path) -> None:
    files = study_files(tmp_path / "study")
    gateway.run()
    assert gateway.storescu(*files).returncode == 0
    assert gateway.storescu(*files, extra=["-aec", "NOBODY"]).returncode != 0
    received = "gateway_received_objects_total{source=JUDGE}"
    wait_until(lambda: scraped(gateway).get(received) == len(files), what="the rollup of what was received")
    wait_until(lambda: scraped(gateway).get("gateway_refusals_total{reason=called-ae-unknown}"), what="the refusal")
    found = scraped(gateway)
    assert found["gateway_database_up"] == found["gateway_listeners_up"] == found["gateway_broker_up"] == 1
    assert (found["gateway_connections_total"], found["gateway_associations_total"]) >= (2, 1)
    assert sum(value for name, value in found.items() if name.startswith("gateway_studies{")) == 1
    assert found["gateway_received_bytes_total{source=JUDGE}"] == gateway.value(
        "SELECT sum(size_bytes) FROM studies_instance"
    )
