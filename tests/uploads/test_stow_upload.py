"""Uploads by STOW-RS through the house's own machinery: what the server names is stored, all else is sent again."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.utils.timezone import now

from gateway_project.core.models import AuditEvent, JobState, Lane
from gateway_project.core.services.jobs import jobs_expire
from gateway_project.core.tasks import run_one
from gateway_project.wiring import pipeline
from studies.models import Study
from tests.uploads.faults import Killed
from tests.uploads.stow_server import StowServer, stow_server
from tests.uploads.upload_house import PATIENT, House, staged
from uploads.models import AuthKind, UploadJob, UploadPart, Vault
from uploads.queue import QUEUE
from uploads.selectors import study_uploads, upload_allows_deletion
from uploads.services import stow_upload as stow_module
from uploads.services.stow_vaults import stow_vault_save

pytestmark = pytest.mark.django_db
TOKEN = "MARKED-token"


@pytest.fixture
def server() -> Iterator[StowServer]:
    with stow_server(TOKEN) as running:
        yield running


def vault_row(server: StowServer, **values: Any) -> Vault:
    vault = Vault(name="main", base_url=server.url, **{"auth_kind": AuthKind.BEARER, **values})
    stow_vault_save(vault, secret=TOKEN, actor="user:test")
    return vault


@pytest.fixture
def vault(house: House, server: StowServer) -> Vault:
    return vault_row(server)


def uid(study: int, number: int) -> str:
    return f"1.2.826.0.1.3680043.10.77.{study}.1.{number}"


def refusals(job: UploadJob) -> list[UploadPart]:
    """What the study's page lists."""
    (shown,) = [each for each in study_uploads(job.revision.study_id) if each.pk == job.pk]
    return shown.refusals


def delivered(house: House, server: StowServer, study: Study, *, revision: int = 1) -> UploadJob:
    """Asserts the end of the way: the server has the stored files, once each, and the gateway says so."""
    study.refresh_from_db()
    job = house.job(study, revision)
    assert (study.state, study.reason) == ("uploaded", "")
    assert (job.state, job.error_code, job.receipt, job.receipt_at) == (JobState.DONE, "", "", None)
    for instance in study.instances.filter(current=True):
        assert server.objects[instance.sop_instance_uid] == house.stored(instance)
    parts = job.parts.all()
    assert all(part.confirmed_at and part.sha256 == part.content_sha256 for part in parts)
    assert job.files_done == job.files_total == len(parts)
    return job


def test_study_is_stored_as_its_files_are(house: House, server: StowServer, vault: Vault) -> None:
    study = house.settled(1, (1, 2, 3))
    assert house.drain() == 1
    job = delivered(house, server, study)
    assert [sorted(uids) for uids in server.requests] == [[uid(1, 1), uid(1, 2), uid(1, 3)]]
    assert house.tries(job) == [(1, "done", "")]
    assert job.tries.get().files_sent == 3
    record = AuditEvent.objects.get(subject=f"study:{study.pk}", detail__action="uploaded")
    assert (record.detail["transport"], record.detail["files"]) == ("stow", 3)
    assert staged() == []


def test_requests_keep_to_the_limits(house: House, server: StowServer) -> None:
    vault_row(server, batch_instances=3, batch_bytes=7000)
    house.settled(1, range(1, 6), pixels=2000)
    house.drain()
    assert [len(uids) for uids in server.requests] == [3, 2]


def test_object_larger_than_the_limit_goes_alone(house: House, server: StowServer) -> None:
    vault_row(server, batch_bytes=5000)
    house.receive(1, (1,), pixels=20000)
    study = house.settled(1, (2, 3), pixels=500)
    house.drain()
    assert server.requests == [[uid(1, 1)], [uid(1, 2), uid(1, 3)]]
    delivered(house, server, study)


def test_successes_stay_and_the_refused_are_told_with_their_reason(
    house: House, server: StowServer, vault: Vault
) -> None:
    server.reasons[uid(1, 2)] = 0xC000
    study = house.settled(1, (1, 2, 3))
    house.drain()
    job = house.job(study)
    assert (job.state, job.error_code, job.files_done) == (JobState.PARKED, "stow-not-stored", 2)
    assert "2 of 3 objects stored" in job.error_words
    assert "cannot understand" in job.error_words
    (refused,) = refusals(job)
    assert (refused.instance.sop_instance_uid, refused.result_code) == (uid(1, 2), "C000")
    assert "cannot understand" in refused.result_words
    study.refresh_from_db()
    assert (study.state, study.reason) == ("failed_permanent", job.error_words)

    server.reasons.clear()
    pipeline.retry(study.pk, actor="user:anna")
    house.drain()
    assert server.requests[1:] == [[uid(1, 2)]], "only what was not confirmed"
    job = delivered(house, server, study)
    assert refusals(job) == []


@pytest.mark.parametrize("reason", [0xA700, 0x0110])
def test_reasons_that_pass_are_tried_again(house: House, server: StowServer, vault: Vault, reason: int) -> None:
    server.reasons[uid(1, 1)] = reason
    study = house.settled(1, (1, 2))
    house.drain()
    job = house.job(study)
    assert (job.state, job.error_code) == (JobState.READY, "stow-not-stored")
    server.reasons.clear()
    house.one_later()
    assert server.requests == [[uid(1, 1), uid(1, 2)], [uid(1, 1)]]
    delivered(house, server, study)


def test_instance_that_the_answer_does_not_name_is_not_stored(house: House, server: StowServer, vault: Vault) -> None:
    server.silent_about.add(uid(1, 1))
    study = house.settled(1, (1, 2))
    house.drain()
    job = house.job(study)
    assert (job.state, job.files_done) == (JobState.READY, 1)
    assert "without naming it" in job.error_words
    server.silent_about.clear()
    house.one_later()
    delivered(house, server, study)


def test_warning_is_kept_beside_the_confirmation(house: House, server: StowServer, vault: Vault) -> None:
    server.warnings[uid(1, 1)] = 0xB000
    study = house.settled(1, (1,))
    house.drain()
    part = delivered(house, server, study).parts.get()
    assert part.result_code == "B000"
    assert "coercion" in part.result_words


def test_already_there_is_success_only_for_a_first_content(house: House, server: StowServer, vault: Vault) -> None:
    study = house.settled(1, (1,))
    server.reasons[uid(1, 1)] = 0x0111
    server.objects[uid(1, 1)] = house.stored(study.instances.get())
    house.drain()
    assert delivered(house, server, study).parts.get().result_code == "0111"

    house.settled(1, (1,), extra=7)
    house.drain()
    job = house.job(study, 2)
    assert job.state == JobState.PARKED
    assert "keeps it" in job.error_words


def test_late_and_changed_objects_travel_alone(house: House, server: StowServer, vault: Vault) -> None:
    study = house.settled(1, (1, 2))
    house.drain()
    server.objects.clear()  # to see what comes
    house.settled(1, (2, 3), extra=9)
    house.drain()
    assert server.requests[1:] == [[uid(1, 2), uid(1, 3)]]
    study.refresh_from_db()
    assert study.state == "uploaded"
    newest = study.instances.get(sop_instance_uid=uid(1, 2), current=True)
    assert server.objects[uid(1, 2)] == house.stored(newest)


def test_of_two_contents_in_one_revision_only_the_latest_travels(
    house: House, server: StowServer, vault: Vault
) -> None:
    house.receive(1, (1,))
    study = house.settled(1, (1, 2), extra=9)
    house.drain()
    job = delivered(house, server, study)
    assert (len(server.requests), job.files_total) == (1, 2)


def test_later_revision_waits_for_the_earlier(house: House, server: StowServer, vault: Vault) -> None:
    server.reasons[uid(1, 1)] = 0xC000
    study = house.settled(1, (1,))
    house.drain()
    house.settled(1, (2,))
    house.drain()
    assert house.job(study, 2).error_code == "earlier-revision"
    server.reasons.clear()
    pipeline.retry(study.pk, actor="user:anna")
    house.drain()
    house.drain_later()
    assert server.stored() == [uid(1, 1), uid(1, 2)]


def test_damaged_object_is_never_sent_and_the_others_are(house: House, server: StowServer, vault: Vault) -> None:
    study = house.settled(1, (1, 2, 3), pixels=600_000)
    file = house.file_of(study.instances.get(sop_instance_uid=uid(1, 2)))
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)
    house.drain()
    job = house.job(study)
    assert server.stored() == [uid(1, 1), uid(1, 3)]
    assert (job.state, job.error_code, job.files_done) == (JobState.PARKED, "object-damaged", 2)
    assert "its hash differs" in job.error_words
    assert [part.result_code for part in refusals(job)] == ["object-damaged"]


def test_missing_object_is_told_and_the_others_are_sent(house: House, server: StowServer, vault: Vault) -> None:
    study = house.settled(1, (1, 2))
    house.file_of(study.instances.get(sop_instance_uid=uid(1, 1))).unlink()
    house.drain()
    job = house.job(study)
    assert server.stored() == [uid(1, 2)]
    assert (job.state, job.error_code) == (JobState.PARKED, "object-missing")


def test_refused_request_is_halved_until_the_object_is_found(house: House, server: StowServer, vault: Vault) -> None:
    server.before = lambda _number, uids: 400 if uid(1, 5) in uids else None
    study = house.settled(1, range(1, 9))
    house.drain()
    job = house.job(study)
    assert (job.state, job.error_code, job.files_done) == (JobState.PARKED, "stow-refused", 7)
    assert [part.instance.sop_instance_uid for part in refusals(job)] == [uid(1, 5)]
    assert len(server.requests) <= 7


def test_smaller_requests_follow_one_that_was_too_large(house: House, server: StowServer) -> None:
    vault_row(server, batch_instances=8)
    server.bytes_max = 12_000
    study = house.settled(1, range(1, 25), pixels=2000)
    house.drain()
    delivered(house, server, study)
    assert [len(uids) for uids in server.requests] == [8, 4, 4, 4, 4, 4, 4], "only the first one was refused"


def test_server_that_refuses_everything_is_not_asked_for_each_object(
    house: House, server: StowServer, vault: Vault
) -> None:
    server.before = lambda _number, _uids: 415
    study = house.settled(1, range(1, 41))
    house.drain()
    job = house.job(study)
    assert (job.state, job.error_code) == (JobState.PARKED, "stow-refused")
    assert "every object" in job.error_words
    assert len(server.requests) < 20


def test_server_that_took_some_before_is_told_of_all_the_rest(house: House, server: StowServer, vault: Vault) -> None:
    refused = {uid(1, number) for number in range(2, 10)}
    server.before = lambda _number, uids: 400 if refused & set(uids) else None
    study = house.settled(1, range(1, 10))
    house.drain()
    pipeline.retry(study.pk, actor="user:anna")
    house.drain()
    job = house.job(study)
    assert (job.state, job.error_code, job.files_done) == (JobState.PARKED, "stow-refused", 1)
    assert "1 of 9 objects stored" in job.error_words
    assert len(refusals(job)) == 8


@pytest.mark.parametrize("status", [429, 500, 503])
def test_fault_of_the_server_costs_no_attempt(house: House, server: StowServer, vault: Vault, status: int) -> None:
    server.before = lambda number, _uids: status if number == 1 else None
    study = house.settled(1, (1, 2))
    house.drain()
    job = house.job(study)
    assert (job.state, job.attempts) == (JobState.READY, 0)
    assert Lane.objects.get(pk=vault.lane_id).faults == 1
    house.one_later()
    delivered(house, server, study)


def test_wrong_token_holds_the_lane_for_a_person(house: House, server: StowServer, vault: Vault) -> None:
    server.token = "another"
    study = house.settled(1, (1,))
    house.drain()
    lane = Lane.objects.get(pk=vault.lane_id)
    assert (lane.held, lane.fault_code) == (True, "unauthorized")
    assert server.objects == {}
    server.token = TOKEN
    pipeline.retry(study.pk, actor="user:anna")
    house.drain()
    delivered(house, server, study)


def test_lost_answer_means_sending_again(house: House, server: StowServer, vault: Vault) -> None:
    """Stored and not heard of: the same objects again are the same objects."""
    server.after = lambda number: number != 1
    study = house.settled(1, (1, 2))
    house.drain()
    assert house.job(study).error_code == "connection-lost"
    assert server.stored() == [uid(1, 1), uid(1, 2)]
    house.one_later()
    assert server.requests[0] == server.requests[1]
    delivered(house, server, study)


@pytest.mark.parametrize("failpoint", ["stow.answered", "stow.confirmed", "stow.done"])
@pytest.mark.parametrize("passes", [1, 2])
def test_killed_worker_costs_at_most_one_request_again(
    house: House, server: StowServer, monkeypatch: pytest.MonkeyPatch, failpoint: str, passes: int
) -> None:
    vault_row(server, batch_instances=2)
    study = house.settled(1, range(1, 6))
    left = [passes]

    def die(name: str) -> None:
        left[0] -= name == failpoint
        if not left[0]:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(stow_module, "failpoint", die)
        if failpoint == "stow.done" and passes == 2:
            house.drain()
        else:
            with pytest.raises(Killed):
                house.drain()
    UploadJob.objects.filter(state=JobState.RUNNING).update(lease_until=now())
    jobs_expire(QUEUE, now=now())
    house.drain_later()
    delivered(house, server, study)
    assert sum(map(len, server.requests)) <= 5 + 2


def test_lost_lease_changes_nothing(house: House, server: StowServer, vault: Vault) -> None:
    study = house.settled(1, (1,))
    job = house.claim()
    UploadJob.objects.update(claim_id="00000000-0000-4000-8000-000000000001")
    run_one(QUEUE, job)
    assert server.requests == []
    assert UploadPart.objects.filter(job__revision__study=study).count() == 0


def test_deletion_needs_an_administrators_word(house: House, server: StowServer, vault: Vault) -> None:
    study = house.settled(1, (1,))
    house.drain()
    job = house.job(study)
    assert not upload_allows_deletion(job)
    Vault.objects.update(deletion_allowed=True)
    job = UploadJob.objects.get(pk=job.pk)
    assert upload_allows_deletion(job)
    job.parts.update(confirmed_at=None)
    assert not upload_allows_deletion(job)


def test_demonstration_and_unfinished_uploads_never_allow_deletion(house: House) -> None:
    sealed_for = house.vault_row()
    study = house.settled(1, (1,))
    assert not upload_allows_deletion(house.job(study))
    house.drain()
    assert not upload_allows_deletion(house.job(study))  # nobody has shown yet that the recipient can open it
    Vault.objects.update(proved_keys={sealed_for.recipient_key_id: "2026-01-01"})
    assert upload_allows_deletion(house.job(study)), house.job(study).error_code
    Vault.objects.update(demonstration=True)
    assert not upload_allows_deletion(house.job(study))


def test_no_patient_and_no_token_in_logs_and_rows(
    house: House, server: StowServer, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.reasons[uid(1, 1)] = 0xC000
    house.settled(1, (1, 2))
    house.drain()
    rows = str([list(model.objects.values()) for model in (UploadJob, UploadPart, AuditEvent, Lane, Vault)])
    logged = " ".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    for secret in (PATIENT, TOKEN):
        assert secret not in rows + logged
    assert uid(1, 1) not in logged
