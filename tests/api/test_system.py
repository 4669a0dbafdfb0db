"""Health, status, diagnostics, connections."""

from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.utils.timezone import now

from gateway_project.core.models import Lease
from gateway_project.core.services.alerts import alert_open
from network.models import AssociationOutcome, AssociationRecord, LocalAE
from network.selectors import LiveList
from tests.api.programs import problem_of, program
from tests.web.factories import lane_make, study_make, vault_make

pytestmark = pytest.mark.django_db


def test_health_is_the_same_with_and_without_the_prefix(as_role) -> None:
    as_role()
    plain, prefixed = Client().get("/health").json(), Client().get("/api/health").json()
    assert set(plain) == set(prefixed) == {"status", "instanceId", "startupTime", "utcNow"}
    problem_of(program().get("/api/health"), 401, "not-authenticated")
    assert program("integration").get("/api/health").status_code == 200
    problem_of(Client().post("/api/health"), 405, "method-not-allowed")


def test_status_tells_what_stands_where(as_role, django_assert_max_num_queries) -> None:
    LocalAE.objects.create(name="ct", ae_title="CT_IN", host="0.0.0.0", port=11200)
    LocalAE.objects.create(name="off", ae_title="OFF", host="0.0.0.0", port=11201, enabled=False)
    vault_make("good")
    vault_make("bad", lane=lane_make(name="vault:bad", held=True))
    study_make(state="uploaded", size_bytes=1000)
    study_make(state="uploaded", size_bytes=500)
    study_make(state="receiving", size_bytes=7)
    alert_open("disk", code="disk-low", words="Low.")
    Lease.objects.create(name="ticker", holder="me", until=now() + timedelta(seconds=30))
    client = as_role("integration")
    with django_assert_max_num_queries(14):
        body = client.get("/api/status").json()
    assert body["dicom"]["listening"] is False
    assert [(end["name"], end["aeTitle"], end["port"]) for end in body["dicom"]["endpoints"]] == [
        ("ct", "CT_IN", 11200)
    ]
    assert [(vault["name"], vault["ready"], vault["laneState"]) for vault in body["vaults"]] == [
        ("bad", False, "held"),
        ("good", True, "flowing"),
    ]
    assert body["studies"] == [
        {"state": "receiving", "count": 1, "totalSizeBytes": 7},
        {"state": "uploaded", "count": 2, "totalSizeBytes": 1500},
    ]
    assert body["alerts"] == {"open": 1, "unacknowledged": 1}
    assert body["workers"] == {"running": True, "uploadEnabled": True}
    assert body["storage"]["freeBytes"] > 0
    assert body["storage"]["stopped"] is False


def test_status_of_an_empty_gateway(as_role, monkeypatch) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__LOW_SPACE_GB", "1000000")
    monkeypatch.setenv("GATEWAY_STORAGE__STOP_SPACE_GB", "1000000")
    body = as_role("viewer").get("/api/status").json()
    assert (body["studies"], body["vaults"], body["workers"]["running"]) == ([], [], False)
    assert (body["storage"]["low"], body["storage"]["stopped"]) == (True, True)


def test_status_when_the_disk_cannot_be_read(as_role, monkeypatch) -> None:
    def gone(_path: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("gateway_project.wiring.api.system.shutil.disk_usage", gone)
    body = as_role("viewer").get("/api/status").json()
    assert body["storage"] == {"totalBytes": None, "freeBytes": None, "low": True, "stopped": True}


def test_diagnostics_name_versions_and_uptime(as_role) -> None:
    body = as_role("operator").get("/api/system/diagnostics").json()
    assert body["database"].startswith(("sqlite 3.", "postgresql "))
    assert body["workingSetMb"] > 1
    assert body["uptimeSeconds"] >= 0
    assert datetime.fromisoformat(body["startupTime"]) <= now()


def record(n: int, **values) -> AssociationRecord:
    moment = now() - timedelta(minutes=n)
    return AssociationRecord.objects.create(
        association_id=f"a-{n}",
        calling_ae_title="CT_NORD_1",
        peer_address="10.0.0.7",
        outcome=AssociationOutcome.RELEASED,
        objects_stored=n,
        opened_at=moment,
        closed_at=moment,
        **values,
    )


def test_connections_tell_the_ended_when_nobody_listens(as_role, monkeypatch, django_assert_max_num_queries) -> None:
    monkeypatch.setenv("GATEWAY_DICOM__CONNECTION_HISTORY", "5")
    for n in range(8):
        record(n)
    client = as_role("integration")
    with django_assert_max_num_queries(5):
        body = client.get("/api/connections").json()
    assert (body["listening"], body["active"]) == (False, [])
    assert [row["associationId"] for row in body["history"]] == [f"a-{n}" for n in range(5)]


def test_connections_tell_the_living(as_role, monkeypatch) -> None:
    from network.dimse.live import LiveAssociation

    living = LiveAssociation(
        connection=1, receiver=0, address="10.0.0.7", port=41000, connected_at=now(), calling_ae_title="CT_NORD_1",
        objects_stored=12, bytes_received=6_000_000, bytes_per_second=1.5e6,
    )  # fmt: skip
    monkeypatch.setattr(
        "gateway_project.wiring.api.connections.associations_live",
        lambda: LiveList(running=True, associations=[living]),
    )
    [row] = as_role("viewer").get("/api/connections").json()["active"]
    assert (row["callingAeTitle"], row["bytesPerSecond"], row["connectedAt"][-1]) == ("CT_NORD_1", 1.5e6, "Z")
