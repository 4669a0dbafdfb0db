"""An upload that is stopped, or whose worker lost its lease: the attempt is given back, and nobody is disturbed."""

import pytest
from django.utils.timezone import now

from gateway_project.core.errors import LeaseLostError
from gateway_project.core.models import AuditEvent, JobState
from gateway_project.core.services.jobs import jobs_expire
from gateway_project.core.tasks import run_one
from tests.uploads.faults import at_failpoints, at_name, raising
from tests.uploads.memory_vault import lane_error
from tests.uploads.upload_house import House
from uploads.models import UploadJob, UploadPart
from uploads.queue import QUEUE
from uploads.services import conveyor, ledger
from uploads.services.upload import Upload

pytestmark = pytest.mark.django_db

# Stopping, losing the lease


def test_a_stop_between_files_gives_the_attempt_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.vault_row()
    study = house.settled(instances=range(1, 4))
    asked: list[bool] = []
    monkeypatch.setattr(conveyor, "stopping", lambda: bool(asked))
    house.vault.after = at_name("put file-00001", lambda: asked.append(True))
    run_one(QUEUE, house.claim())
    job = house.job(study)
    assert (job.state, job.attempts, job.error_code) == (JobState.READY, 0, "")
    assert house.tries(job) == [(1, "interrupted", "")]
    study.refresh_from_db()
    assert study.state == "settled"
    asked.clear()
    house.drain()
    house.uploaded(study)
    assert house.vault.puts().count("file-00001.gve") == 1


def test_a_stop_in_the_middle_of_a_large_file_does_not_wait_for_its_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.vault_row()
    study = house.settled(instances=[1], pixels=200_000)
    asks = [0]

    def stopping() -> bool:
        asks[0] += 1
        return asks[0] > 6

    monkeypatch.setattr(conveyor, "stopping", stopping)
    run_one(QUEUE, house.claim())
    job = house.job(study)
    assert (job.state, job.attempts) == (JobState.READY, 0)
    assert "file-00001.gve" not in house.vault.uploads[job.upload_id]
    monkeypatch.undo()


@pytest.mark.parametrize("call", ["describe", "put key", "put file-00001", "put file-00002", "put map", "commit"])
def test_a_worker_that_lost_its_lease_changes_nothing_any_more(house: House, call: str) -> None:
    """It was stopped for an hour in the middle; another one takes over and finishes; then the first wakes up."""
    house.vault_row()
    study = house.settled(instances=range(1, 4))
    late = house.claim()
    rows: list[object] = []

    def other_worker() -> None:
        UploadJob.objects.update(lease_until=now())
        jobs_expire(QUEUE, now=now())
        house.drain()
        rows.append(state_of_everything())

    house.vault.after = at_name(call, other_worker)
    with pytest.raises(LeaseLostError):
        Upload(late, vault=house.vault, store=house.store).run()
    assert [state_of_everything()] == rows
    house.uploaded(study)
    assert len(house.vault.commits) == 1


def state_of_everything() -> object:
    return [
        list(UploadJob.objects.order_by("pk").values()),
        list(UploadPart.objects.order_by("pk").values()),
        list(AuditEvent.objects.order_by("pk").values_list("pk", flat=True)),
    ]


@pytest.mark.parametrize("call", ["describe", "put file-00001", "put map", "commit"])
def test_a_worker_that_lost_its_lease_does_not_disturb_the_one_at_work(house: House, call: str) -> None:
    """Both go on at the same time, step by step: the names still stand for one content each."""
    house.vault_row()
    study = house.settled(instances=range(1, 4))
    late = house.claim()

    def other_worker() -> None:
        """The other begins, and in the middle of its second file the late one goes on to its own end."""
        UploadJob.objects.update(lease_until=now())
        jobs_expire(QUEUE, now=now())
        house.vault.before = lambda _number, _call: None
        house.vault.after = at_name("put file-00002", raising(lane_error(7)))
        house.drain()

    house.vault.before = at_name(call, other_worker)
    with pytest.raises(LeaseLostError):
        Upload(late, vault=house.vault, store=house.store).run()
    house.drain_later()
    house.uploaded(study)
    assert len(house.vault.uploads) == 1


def test_the_lease_is_renewed_while_a_slow_file_moves(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.vault_row()
    house.settled(instances=[1], pixels=100_000)
    monkeypatch.setattr(ledger, "LEASE_RENEWAL_SECONDS", -1.0)
    seen: list[int] = []
    renewed = ledger.job_progress

    def job_progress(*arguments: object, **values: int) -> None:
        seen.append(values["done"])
        renewed(*arguments, **values)

    monkeypatch.setattr(ledger, "job_progress", job_progress)
    house.drain()
    assert len(set(seen)) > 4, "progress within the file"
    assert seen == sorted(seen)


def test_the_lease_outlives_the_longest_wait_for_an_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_VAULT__HTTP_SECONDS", "500")
    house.vault_row()
    house.settled()
    job = house.claim()
    assert (job.lease_until - job.started_at).total_seconds() > 500


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize(
    "failpoint", ["upload.sealed", "upload.durable", "upload.staged", "upload.sent", "upload.confirmed"]
)
def test_between_any_two_steps_a_lost_lease_ends_the_writing(
    house: House, monkeypatch: pytest.MonkeyPatch, failpoint: str, passes: int
) -> None:
    """The job was taken away and nobody has it yet: not even then a row of the late worker's appears."""
    house.vault_row()
    study = house.settled(instances=range(1, 4))
    late, left, rows = house.claim(), [passes], []

    def lose(name: str) -> None:
        if name == failpoint:
            left[0] -= 1
            if left[0] == 0:
                UploadJob.objects.update(lease_until=now())
                jobs_expire(QUEUE, now=now())
                rows.append(state_of_everything())

    with monkeypatch.context() as patched:
        at_failpoints(patched, lose)
        with pytest.raises(LeaseLostError):
            Upload(late, vault=house.vault, store=house.store).run()
    assert [state_of_everything()] == rows
    house.drain()
    house.uploaded(study)
