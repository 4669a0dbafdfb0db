"""Vaults and lanes, uploads under way: seen without secrets, paused, resumed."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from gateway_project.core.models import AuditEvent, JobState, Lane
from tests.api.programs import post
from tests.web.factories import attempt_make, lane_make, revision_make, series_make, study_make, upload_make, vault_make

pytestmark = pytest.mark.django_db


def test_vaults_show_no_secret(as_role) -> None:
    vault_make("main", proxy="MARK-secret-proxy", ca="MARK-ca", auth_user="MARK-user")
    answer = as_role("viewer").get("/api/vaults")
    assert [vault["name"] for vault in answer.json()["vaults"]] == ["main"]
    assert "MARK" not in answer.content.decode()


def test_lanes_tell_their_state_and_jobs(as_role, django_assert_max_num_queries) -> None:
    later = now() + timedelta(minutes=5)
    states = {
        "held": {"held": True, "open_until": later},
        "paused": {"paused": True},
        "resting": {"open_until": later, "faults": 2, "fault_words": "503"},
        "waiting": {"waits_until": later},
        "flowing": {"open_until": now() - timedelta(minutes=1)},
    }
    for state, values in states.items():
        vault = vault_make(state, lane=lane_make(name=f"vault:{state}", **values))
        for job_state in (JobState.READY, JobState.READY, JobState.PARKED, JobState.DONE):
            study = study_make()
            series_make(study, instances=1)
            upload_make(revision_make(study), vault, job_state)
    client = as_role("viewer")
    with django_assert_max_num_queries(5):
        lanes = client.get("/api/lanes").json()["lanes"]
    assert {lane["name"].partition(":")[2]: lane["state"] for lane in lanes} == {state: state for state in states}
    assert {(lane["jobsWaiting"], lane["jobsRunning"], lane["jobsGivenUp"]) for lane in lanes} == {(2, 0, 1)}
    assert client.get(f"/api/lanes/{lanes[0]['id']}").json() == lanes[0]


def test_pause_and_resume_may_be_clicked_twice(as_role, vault) -> None:
    client, lane = as_role("operator"), vault.lane
    for _click in range(2):
        assert post(client, f"/api/lanes/{lane.pk}/pause").json()["state"] == "paused"
    events = AuditEvent.objects.filter(subject=f"lane:{lane.name}", detail__action="pause")
    assert events.count() == 1
    assert events.get().actor.startswith("token:operator-")
    for _click in range(2):
        assert post(client, f"/api/lanes/{lane.pk}/resume").json()["state"] == "flowing"


def test_resume_lifts_a_hold(as_role, vault) -> None:
    Lane.objects.filter(pk=vault.lane.pk).update(held=True, faults=3, open_until=now() + timedelta(hours=1))
    assert post(as_role("operator"), f"/api/lanes/{vault.lane.pk}/resume").json()["state"] == "flowing"


def test_uploads_under_way_have_bytes_rate_and_time_left(as_role, vault, django_assert_max_num_queries) -> None:
    for n in range(3):
        study = study_make(state="uploading")
        series_make(study, instances=2)
        job = upload_make(revision_make(study), vault, JobState.RUNNING, progress_total=3000, progress_done=1000)
        if n:
            attempt_make(job, "running", started_at=now() - timedelta(seconds=10), bytes_sent=1000)
    study = study_make()
    series_make(study, instances=1)
    upload_make(revision_make(study), vault, JobState.DONE)
    client = as_role("integration")
    with django_assert_max_num_queries(5):
        uploads = client.get("/api/uploads").json()["uploads"]
    assert [upload["bytesPerSecond"] is None for upload in uploads] == [True, False, False]
    assert 80 <= uploads[1]["bytesPerSecond"] <= 100
    assert uploads[1]["secondsLeft"] == pytest.approx(2000 / uploads[1]["bytesPerSecond"])
    assert (uploads[1]["progressDone"], uploads[1]["progressTotal"]) == (1000, 3000)
    assert len(client.get("/api/uploads?limit=2").json()["uploads"]) == 2
    assert client.get("/api/uploads?limit=201").status_code == 400
