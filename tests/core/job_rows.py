"""Rows of leased jobs for the tests of the job machinery: uploads, worked by a queue of the test's own."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from gateway_project.core.models import Lane
from gateway_project.core.queues import CONTROL_CLUSTER, Queue
from gateway_project.core.services import jobs
from studies.models import Study, StudyRevision
from uploads.models import UploadJob, Vault

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOOKS: dict[str, Callable[[UploadJob], Any]] = {}

QUEUE = Queue(
    name="test",
    cluster=CONTROL_CLUSTER,
    model="uploads.UploadJob",
    run="tests.core.job_rows.run",
    changed="tests.core.job_rows.changed",
    delay=lambda attempts: attempts * 100,
    max_attempts=lambda: 3,
    lease_seconds=lambda: 60,
)


def run(job: UploadJob) -> None:
    HOOKS["run"](job)


def changed(job: UploadJob) -> None:
    HOOKS.get("changed", lambda _job: None)(job)


@contextmanager
def hooked(**hooks: Callable[[UploadJob], Any]) -> Iterator[None]:
    HOOKS.clear()
    HOOKS.update(hooks)
    yield
    HOOKS.clear()


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def lane_row(name: str = "a", **fields: Any) -> Lane:
    return Lane.objects.create(name=name, title=f"Lane {name}", **{"max_parallel": 10} | fields)


def vault_row() -> Vault:
    found = Vault.objects.first()
    if found is not None:
        return found
    return Vault.objects.create(
        name="v",
        base_url="http://127.0.0.1:1/",
        vault_id="v",
        recipient_key_id="k",
        recipient_jwk={},
        receipt_jwk={},
        lane=Lane.objects.create(name="vault:v", title="v"),
    )


def job_rows(number: int, *, lane: Lane | None = None, **fields: Any) -> list[UploadJob]:
    """So many ready jobs, each of a study of its own, in the order in which they are to be claimed."""
    vault, values = vault_row(), {"queue": "test", "run_after": NOW} | fields
    with transaction.atomic():
        studies = [Study(study_instance_uid=f"2.25.{uuid.uuid4().int}", key=uuid.uuid4().hex) for _ in range(number)]
        Study.objects.bulk_create(studies)
        times = {"opened_at": NOW, "received_at": NOW, "settled_at": NOW}
        revisions = [
            StudyRevision(study=s, number=1, reason="quiet", instance_count=1, size_bytes=1, **times) for s in studies
        ]
        StudyRevision.objects.bulk_create(revisions)
        UploadJob.objects.bulk_create([UploadJob(vault=vault, revision=r, lane=lane, **values) for r in revisions])
    return list(UploadJob.objects.filter(revision__in=revisions).order_by("pk"))


def job_row(**fields: Any) -> UploadJob:
    return job_rows(1, **fields)[0]


def fresh(job: UploadJob) -> UploadJob:
    return UploadJob.objects.get(pk=job.pk)


def claim(at: datetime = NOW) -> UploadJob | None:
    return jobs.job_claim(QUEUE, now=at)  # type: ignore[return-value]


def claimed(at: datetime = NOW) -> UploadJob:
    job = claim(at)
    if job is None:
        raise LookupError("no job was claimed")
    return job


def together(*works: Callable[[], None]) -> None:
    """Does all of them at once, each in a thread with a connection of its own; what one raises is raised here."""
    start, failures = threading.Barrier(len(works)), []

    def one(work: Callable[[], None]) -> None:
        try:
            start.wait(10)
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if failures:
        raise failures[0]
    if any(thread.is_alive() for thread in threads):
        pytest.fail("a thread hangs")
