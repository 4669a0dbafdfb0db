"""Studies: listed, filtered, paged, looked at, retried, settled."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.utils.timezone import now

from gateway_project.core.models import AuditEvent, JobState
from gateway_project.wiring.api.pages import cursor_make
from network.models import ProcedureStep, ProcedureStepStudy
from studies.models import Instance, Study
from tests.api.programs import post, problem_of
from tests.web.factories import attempt_make, revision_make, series_make, study_make, upload_make, uploaded_study_make
from uploads.models import UploadJob

pytestmark = pytest.mark.django_db


def uids(answer) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [study["studyInstanceUid"] for study in answer.json()["studies"]]


def test_list_is_the_50_latest_and_pages_lead_through_all(as_role, django_assert_max_num_queries) -> None:
    start = now()
    made = [study_make(received_at=start - timedelta(minutes=i // 2)).study_instance_uid for i in range(120)]
    client, seen, cursor = as_role("viewer"), [], None
    while True:
        with django_assert_max_num_queries(6):
            answer = client.get("/api/studies", {"cursor": cursor} if cursor else {})
        seen.append(uids(answer))
        cursor = answer.json()["next"]
        if cursor is None:
            break
    assert [len(page) for page in seen] == [50, 50, 20]
    assert sorted(uid for page in seen for uid in page) == sorted(made)


def test_study_that_comes_meanwhile_repeats_and_skips_nothing(as_role) -> None:
    start = now()
    made = [study_make(received_at=start - timedelta(minutes=i)).study_instance_uid for i in range(4)]
    client = as_role("viewer")
    first = client.get("/api/studies?limit=2")
    study_make(received_at=start + timedelta(minutes=1))
    second = client.get("/api/studies", {"limit": 2, "cursor": first.json()["next"]})
    assert uids(first) + uids(second) == made
    assert second.json()["next"] is None


def test_empty_list(as_role) -> None:
    assert as_role("viewer").get("/api/studies").json() == {"studies": [], "next": None}


def test_filters_choose_and_combine(as_role) -> None:
    old = datetime(2026, 1, 2, tzinfo=UTC)
    ct = study_make(state="uploaded", source_ae_title="CT_1", modalities="PT\\CT", study_date=date(2026, 11, 1))
    mr = study_make(state="settled", source_ae_title="MR_1", modalities="MR", study_date=date(2026, 11, 9))
    xa = study_make(state="failed_permanent", modalities="XCT", study_date=None, received_at=old)
    client = as_role("integration")
    cases = {
        "state=uploaded": [ct],
        "state=uploaded&state=settled": [ct, mr],
        "source=MR_1": [mr],
        "source=mr_1": [],
        "modality=CT": [ct],
        "modality=PT": [ct],
        "studyDateFrom=2026-11-02": [mr],
        "studyDateTo=2026-11-01": [ct],
        "studyDateFrom=2026-11-01&studyDateTo=2026-11-09": [ct, mr],
        "studyDateFrom=2026-11-09&studyDateTo=2026-11-01": [],
        "since=2026-02-01T00:00:00Z": [ct, mr],
        "since=2026-01-02T01:00:00%2B01:00": [ct, mr, xa],
        "state=uploaded&modality=MR": [],
    }
    for query, expected in cases.items():
        answer = client.get(f"/api/studies?{query}")
        assert sorted(uids(answer)) == sorted(study.study_instance_uid for study in expected), query


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ("limit=0", "limit", "min_value"),
        ("limit=51", "limit", "max_value"),
        ("limit=abc", "limit", "invalid"),
        ("limit=1e3", "limit", "invalid"),
        ("limit=", "limit", "invalid"),
        ("limit=1&limit=2", "limit", "invalid"),
        ("state=lost", "state", "invalid_choice"),
        ("since=yesterday", "since", "invalid"),
        ("studyDateFrom=20261101", "studyDateFrom", "invalid"),
        ("source=AAAAAAAAAAAAAAAAA", "source", "max_length"),
        ("source=%00", "source", "null_characters_not_allowed"),
        ("cursor=x", "cursor", "invalid"),
        ("cursor=../..", "cursor", "invalid"),
        ("patientId=P1", "patientId", "unknown"),
        ("format=xml", "format", "unknown"),
    ],
)
def test_bad_filters_are_named_and_never_passed_over(as_role, query: str, field: str, code: str) -> None:
    body = problem_of(as_role("viewer").get(f"/api/studies?{query}"), 400, "invalid")
    assert list(body["errors"]) == [field]
    assert code in str(body["errors"])


@pytest.mark.parametrize(
    ("since", "found"),
    [("2026-11-25t10:00:00z", 1), ("2026-11-25T11:00:00.5+01:00", 0), ("2026-11-25T09:59:60Z", 1),
     ("0001-01-01T00:00:00+23:59", 1), ("9999-12-31T23:59:59-23:59", 0)],
)  # fmt: skip
def test_since_takes_whatever_rfc_3339_allows(as_role, since: str, found: int) -> None:
    study_make(received_at=datetime(2026, 11, 25, 10, tzinfo=UTC))
    assert len(uids(as_role("viewer").get("/api/studies", {"since": since}))) == found


@pytest.mark.parametrize(
    "since",
    ["2026-11-25", "2026-11-25T10:00:00", "2026-11-25 10:00:00Z", "2026-11-25T24:00:00Z", "2026-02-30T10:00:00Z"],
)
def test_since_without_offset_or_out_of_the_calendar_is_refused(as_role, since: str) -> None:
    problem_of(as_role("viewer").get("/api/studies", {"since": since}), 400, "invalid")


@pytest.mark.parametrize(
    "cursor",
    [cursor_make("a", "1", "1"), cursor_make("s", "1"), cursor_make("s", "-1", "1"), cursor_make("s", "9" * 18, "1"),
     cursor_make("s", "1", "9" * 19), cursor_make("s", "x", "1"), "w7w"],
)  # fmt: skip
def test_cursor_of_another_list_or_out_of_bounds_is_refused(as_role, cursor: str) -> None:
    problem_of(as_role("viewer").get("/api/studies", {"cursor": cursor}), 400, "invalid")


def test_search_by_patient_travels_in_the_body(as_role) -> None:
    anna = study_make(patient_name="Muster^Anna", patient_id="P1", accession_number="A1")
    study_make(patient_name="Muster^Bert", patient_id="P2", accession_number="A2")
    client = as_role("integration")
    bodies = [
        {"patientName": "anna muster"},
        {"patientName": "Muster^Anna"},
        {"patientId": "p1"},
        {"accessionNumber": "A1"},
        {"query": "Anna"},
        {"query": anna.study_instance_uid},
        {"patientName": "muster", "patientId": "P1", "state": ["receiving"], "modality": "CT"},
    ]
    for body in bodies:
        assert uids(post(client, "/api/studies/search", body)) == [anna.study_instance_uid], body
    assert uids(post(client, "/api/studies/search", {"patientName": "anna", "patientId": "P2"})) == []
    assert len(uids(post(client, "/api/studies/search"))) == 2
    assert uids(post(client, "/api/studies/search", {"query": "' OR 1=1 --"})) == []
    assert uids(post(client, "/api/studies/search", {"patientName": "%"})) == []


def test_search_pages_too(as_role) -> None:
    made = [study_make(patient_name="Muster^Anna").study_instance_uid for _ in range(3)]
    client = as_role("viewer")
    first = post(client, "/api/studies/search", {"patientName": "anna", "limit": 2})
    second = post(client, "/api/studies/search", {"patientName": "anna", "limit": 2, "cursor": first.json()["next"]})
    assert sorted(uids(first) + uids(second)) == sorted(made)


def test_whole_number_may_be_written_with_a_point(as_role) -> None:
    assert uids(post(as_role("viewer"), "/api/studies/search", {"limit": 5.0})) == []


@pytest.mark.parametrize(
    "body", [{"limit": "5"}, {"limit": True}, {"limit": 1.5}, {"patientId": 5}, {"state": "settled"}, {"state": [1]},
             {"since": 5}, {"patientName": None}, {"patientBirthDate": "1.2.1990"}, {"query": "a" * 201}],
)  # fmt: skip
def test_body_of_another_type_is_refused(as_role, body: dict) -> None:
    problem_of(post(as_role("viewer"), "/api/studies/search", body), 400, "invalid")


# -- one study ---------------------------------------------------------------------------------------------------------


def test_detail_is_bounded_and_its_queries_do_not_grow(as_role, vault, django_assert_max_num_queries) -> None:
    study = study_make(state="uploaded")
    series_make(study, instances=60)
    study.instances.update(flags="uid-odd,vr-wrong")
    job = upload_make(revision_make(study), vault)
    for _ in range(60):
        attempt_make(job, "failed")
    client, address = as_role("integration"), f"/api/studies/{study.study_instance_uid}"
    with django_assert_max_num_queries(11):
        body = client.get(address).json()
    assert (len(body["instances"]), len(body["attempts"])) == (50, 50)
    assert body["study"]["instanceCount"] == 60
    assert body["canRetry"] is False
    assert body["uploads"][0]["receiptId"]
    assert body["attempts"][0]["number"] >= body["attempts"][-1]["number"]
    assert (body["instances"][0]["revision"], body["instances"][0]["flags"]) == (1, ["uid-odd", "vr-wrong"])
    body = client.get(address, {"maxInstances": 500, "maxAttempts": 1}).json()
    assert (len(body["instances"]), len(body["attempts"])) == (60, 1)
    for query in ("maxInstances=0", "maxInstances=501", "maxAttempts=0", "maxAttempts=201"):
        problem_of(client.get(f"{address}?{query}"), 400, "invalid")


def test_detail_tells_the_procedure_steps_of_the_study_and_no_others(as_role) -> None:
    study = study_make()
    for uid, named in (("1.2.1", study.study_instance_uid), ("1.2.2", "1.2.99")):
        step = ProcedureStep.objects.create(
            sop_instance_uid=uid, calling_ae_title="CT_1", started_at=now(), state="completed", instance_count=3,
            patient_name="Marked^Patient",
        )  # fmt: skip
        ProcedureStepStudy.objects.create(step=step, study_instance_uid=named)
    [told] = as_role("viewer").get(f"/api/studies/{study.study_instance_uid}").json()["procedureSteps"]
    assert (told["sopInstanceUid"], told["state"], told["instanceCount"], told["hereCount"]) == (
        "1.2.1",
        "completed",
        3,
        0,
    )
    assert "patientName" not in told


def test_attempts_have_bounds_of_their_own(as_role, vault) -> None:
    study = uploaded_study_make(vault)
    client, address = as_role("viewer"), f"/api/studies/{study.study_instance_uid}/attempts"
    [attempt] = client.get(address).json()["attempts"]
    assert (attempt["vault"], attempt["result"], attempt["number"]) == ("default", "done", 1)
    for query in ("limit=0", "limit=201"):
        problem_of(client.get(f"{address}?{query}"), 400, "invalid")


def test_instances_page_by_an_index(as_role, django_assert_max_num_queries) -> None:
    study = study_make()
    series_make(study, instances=25)
    known = study.instances.first()
    Instance.objects.filter(pk=known.pk).update(current=False)
    known.pk, known.version, known.key, known.current = None, 2, "again", True
    known.save()
    client, address, cursor, seen = as_role("viewer"), f"/api/studies/{study.study_instance_uid}/instances", None, []
    while True:
        with django_assert_max_num_queries(5):
            body = client.get(address, {"limit": 10} | ({"cursor": cursor} if cursor else {})).json()
        seen += [(row["sopInstanceUid"], row["version"]) for row in body["instances"]]
        cursor = body["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 26
    assert body["instances"][0]["revision"] is None


# -- actions -----------------------------------------------------------------------------------------------------------


def failed_study(vault) -> Study:
    study = study_make(state="failed_permanent")
    series_make(study)
    job = upload_make(revision_make(study), vault, JobState.PARKED, error_code="object-damaged", error_words="Damaged.")
    attempt_make(job, "failed")
    return study


def test_retry_makes_what_was_given_up_ready_and_a_double_click_changes_no_more(as_role, vault) -> None:
    study = failed_study(vault)
    client, address = as_role("integration"), f"/api/studies/{study.study_instance_uid}/retry"
    for _click in range(2):
        assert post(client, address).json() == {"retried": 1, "state": "failed_transient"}
    job = UploadJob.objects.get()
    assert (job.state, job.tries.count()) == (JobState.READY, 1)
    assert job.run_after <= now()
    event = AuditEvent.objects.filter(subject=f"study:{study.pk}", detail__action="retry").latest("pk")
    assert event.actor.startswith("token:integration-")


@pytest.mark.parametrize("state", ["receiving", "settled", "uploading", "uploaded", "pending_deletion", "deleted"])
def test_retry_only_from_the_failed_states(as_role, state: str) -> None:
    study = study_make(state=state)
    problem_of(post(as_role("operator"), f"/api/studies/{study.study_instance_uid}/retry"), 409, "not-failed")


def test_settle_freezes_what_is_there_and_may_be_repeated(as_role, vault) -> None:
    study = study_make(open_since=now())
    series_make(study, instances=3)
    client, address = as_role("integration"), f"/api/studies/{study.study_instance_uid}/settle"
    first, second = post(client, address).json(), post(client, address).json()
    assert first == {"settled": True, "revision": 1, "instanceCount": 3, "state": "settled"}
    assert second == {"settled": False, "revision": None, "instanceCount": 0, "state": "settled"}
    revision = study.revisions.get()
    assert revision.actor.startswith("token:")
    assert revision.upload_jobs.count() == 1
