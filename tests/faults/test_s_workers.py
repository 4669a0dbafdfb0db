"""S08: the kernel kills a worker for its memory. Its job is given back, parked at the third time; all else flows."""

# ruff: noqa: F811 - the fixtures are imported

import os
import signal
from collections.abc import Iterator

import pytest
from django.db import connections
from django.utils.timezone import now

from gateway_project.core.models import Alert, JobState, Severity
from gateway_project.core.services.jobs import MAX_CRASHES, jobs_expire
from gateway_project.wiring import pipeline
from studies.models import Study
from tests.faults.scripted_vault import scripted_vault
from tests.uploads.conftest import house  # noqa: F401 - the fixture
from tests.uploads.faults import at_failpoints
from tests.uploads.upload_house import House
from uploads.models import UploadJob
from uploads.queue import QUEUE
from uploads.services.vaults import vault_client

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _vault(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Over HTTP, so that it keeps what a worker sent before it was killed."""
    monkeypatch.setattr("uploads.tasks.vault_client", vault_client)
    with scripted_vault(house.vault) as running:
        house.vault_row(base_url=running.url)
        yield


def worker(house: House, killed_at: str = "") -> int:
    """The exit status of a real worker process that does what is ready; SIGKILL meets it at this step."""
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with pytest.MonkeyPatch.context() as patched:
                at_failpoints(patched, lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == killed_at else None)
                house.drain()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def leases_run_out() -> int:
    UploadJob.objects.filter(state=JobState.RUNNING).update(lease_until=now())
    return jobs_expire(QUEUE, now=now())


@pytest.mark.parametrize("step", ["upload.sealed", "upload.staged", "upload.receipted"])
def test_s08_job_whose_worker_is_killed_each_time_is_parked_and_others_flow(house: House, step: str) -> None:
    study = house.settled(1)
    for death in range(1, MAX_CRASHES + 1):
        assert worker(house, step) == -signal.SIGKILL
        job = house.job(study)
        assert (job.state, job.attempts) == (JobState.RUNNING, 1), "nobody else takes it while the lease runs"
        assert house.claim() is None
        received = house.receive(2, [death])  # receiving knows nothing of it
        assert received.instances.count() == death
        assert leases_run_out() == 1
    job = house.job(study)
    assert (job.state, job.crashes, job.error_code) == (JobState.PARKED, MAX_CRASHES, "worker-died")
    alert = Alert.objects.get(healed_at=None)
    assert (alert.code, alert.severity) == ("worker-died", Severity.CRITICAL)
    pipeline.settle_now(received.pk, actor="user:test")
    house.drain()
    assert Study.objects.get(pk=received.pk).state == "uploaded"
    assert house.job(study).state == JobState.PARKED
    assert pipeline.retry(study.pk, actor="user:anna") == 1
    house.drain()
    house.uploaded(study)
    assert not Alert.objects.filter(healed_at=None).exists()


def test_s08_worker_killed_once_costs_a_lease_and_no_attempt(house: House) -> None:
    study = house.settled(1)
    assert worker(house, "upload.sealed") == -signal.SIGKILL
    assert leases_run_out() == 1
    assert (house.job(study).state, house.job(study).attempts) == (JobState.READY, 0)
    house.drain()
    house.uploaded(study)
    assert house.job(study).crashes == 0
