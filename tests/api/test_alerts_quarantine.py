"""Alerts and quarantine: listed page by page, decided once."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from gateway_project.core.models import Alert, AuditEvent
from studies.models import Instance, QuarantinedObject, QuarantineState
from studies.services.receive import ReceiveError
from tests.api.operations import alert_make, quarantined_make
from tests.api.programs import post, problem_of
from tests.studies.conftest import house
from tests.studies.house import House, arrival, content

__all__ = ["house"]

pytestmark = pytest.mark.django_db


def pages(client, address: str, name: str, **query) -> list[list[int]]:
    found, cursor = [], None
    while True:
        body = client.get(address, query | ({"cursor": cursor} if cursor else {})).json()
        found.append([row["id"] for row in body[name]])
        cursor = body["next"]
        if cursor is None:
            return found


def test_alerts_are_filtered_and_paged(as_role, django_assert_max_num_queries) -> None:
    moment = now()
    made = [alert_make(opened_at=moment, severity="critical" if n == 3 else "warning") for n in range(7)]
    healed = alert_make(healed_at=moment, opened_at=moment - timedelta(days=1))
    client = as_role("viewer")
    with django_assert_max_num_queries(4):
        client.get("/api/alerts")
    every = pages(client, "/api/alerts", "alerts", limit=3)
    assert [len(page) for page in every] == [3, 3, 2]
    assert [pk for page in every for pk in page] == [alert.pk for alert in made[::-1]] + [healed.pk]
    assert pages(client, "/api/alerts", "alerts", healed="true") == [[healed.pk]]
    assert pages(client, "/api/alerts", "alerts", severity="critical") == [[made[3].pk]]
    assert len(pages(client, "/api/alerts", "alerts", healed="false", acknowledged="false")[0]) == 7
    assert pages(client, "/api/alerts", "alerts", acknowledged="true") == [[]]
    for query in ("healed=yes", "severity=awful", "limit=201", "acknowledged=1"):
        problem_of(client.get(f"/api/alerts?{query}"), 400, "invalid")


def test_alert_is_acknowledged_once_by_whoever_was_first(as_role) -> None:
    alert = alert_make()
    first = post(as_role("operator"), f"/api/alerts/{alert.pk}/acknowledge").json()
    second = post(as_role("administrator"), f"/api/alerts/{alert.pk}/acknowledge").json()
    assert first == second
    assert first["acknowledgedBy"].startswith("token:operator-")
    assert Alert.objects.get().healed_at is None


def test_quarantine_is_filtered_and_paged(as_role, django_assert_max_num_queries) -> None:
    moment = now()
    made = [quarantined_make(latest_at=moment, code="f01" if n % 2 else "f02") for n in range(5)]
    quarantined_make(state="discarded", source_ae_title="MR_1", latest_at=moment - timedelta(days=1))
    client = as_role("viewer")
    with django_assert_max_num_queries(4):
        client.get("/api/quarantine")
    assert [len(page) for page in pages(client, "/api/quarantine", "objects", limit=4)] == [4, 2]
    assert pages(client, "/api/quarantine", "objects", code="f01") == [[made[3].pk, made[1].pk]]
    assert len(pages(client, "/api/quarantine", "objects", state="discarded", source="MR_1")[0]) == 1
    problem_of(client.get("/api/quarantine?state=lost"), 400, "invalid")


@pytest.fixture
def refused(house: House, monkeypatch: pytest.MonkeyPatch) -> QuarantinedObject:
    """A truncated object in the quarantine of the store that the API opens."""
    monkeypatch.setenv("GATEWAY_STORAGE__ROOT", str(house.store.root))
    with pytest.raises(ReceiveError):
        house.receiver.receive(arrival(), [content(pixels=b"pixels")[:-3]])
    return QuarantinedObject.objects.get()


def test_accepted_object_is_in_its_study_and_a_double_click_is_told_so(as_role, refused, house: House) -> None:
    client, address = as_role("operator"), f"/api/quarantine/{refused.pk}"
    body = post(client, f"{address}/accept").json()
    assert (body["state"], body["studyInstanceUid"]) == ("accepted", "1.2.5")
    assert body["decidedBy"].startswith("token:operator-")
    problem_of(post(client, f"{address}/accept"), 409, "quarantine-decided")
    problem_of(post(client, f"{address}/discard"), 409, "quarantine-decided")
    assert Instance.objects.count() == 1
    assert client.get(address).json() == body
    assert client.get("/api/studies/1.2.5").json()["study"]["patientName"] == "Doe^Jane"
    house.check()


def test_discarded_object_is_gone_and_may_be_discarded_again(as_role, refused, house: House) -> None:
    client, address = as_role("operator"), f"/api/quarantine/{refused.pk}"
    for _click in range(2):
        assert post(client, f"{address}/discard").json()["state"] == QuarantineState.DISCARDED
    assert house.files("quarantine") == set()
    discarded = AuditEvent.objects.filter(subject=f"quarantine:{refused.pk}", detail__action="discarded")
    assert discarded.count() == 1
    problem_of(post(client, f"{address}/accept"), 409, "quarantine-decided")


def test_object_whose_bytes_were_not_kept_cannot_be_accepted(as_role, house, monkeypatch) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__ROOT", str(house.store.root))
    row = quarantined_make(kept=False)
    problem_of(post(as_role("operator"), f"/api/quarantine/{row.pk}/accept"), 409, "quarantine-not-kept")


def test_store_that_cannot_be_opened_is_a_503(as_role, refused, house: House) -> None:
    house.store.root.chmod(0o755)
    answer = post(as_role("operator"), f"/api/quarantine/{refused.pk}/accept")
    problem_of(answer, 503, "store-exposed")
    house.store.root.chmod(0o700)
