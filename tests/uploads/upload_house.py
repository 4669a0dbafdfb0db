"""Studies in a real store and a vault in memory: what the tests of uploading stand on."""

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.utils.timezone import now

from gateway_project.core.models import AuditEvent, JobState
from gateway_project.core.services.jobs import job_claim
from gateway_project.core.tasks import run_one
from gateway_project.wiring import pipeline
from studies.dicom.spool import Intake, Store
from studies.models import Instance, Study
from studies.selectors import store_open
from studies.services.index import index_objects
from studies.services.receive import Arrival, Indexable, InstanceReceiver
from tests.studies.datasets import CT, EXPLICIT, element, identity, uid
from tests.uploads.memory_vault import RECIPIENT, SIGNER, MemoryVault
from uploads.envelope.keys import jwk_from_key
from uploads.models import UploadAttempt, UploadJob, Vault
from uploads.queue import QUEUE
from uploads.services.identity import identity_jwk
from uploads.services.vaults import vault_ensure

PATIENT = "Marked^Patient"
YEAR = timedelta(days=365)
_ROOT = "1.2.826.0.1.3680043.10.77"


class _Index:
    """Holds what was received until it is indexed."""

    def __init__(self) -> None:
        self.items: list[Indexable] = []

    def backlog(self) -> int:
        return 0

    def backlog_seconds(self) -> float:
        return 0.0

    def add(self, item: Indexable) -> None:
        self.items.append(item)


def object_bytes(study: int, instance: int, *, pixels: int = 2000, patient: str = PATIENT, extra: int = 0) -> bytes:
    """A small CT object in explicit VR little endian, of pixels that do not compress."""
    values = identity(
        instance=uid(f"{_ROOT}.{study}.1.{instance}"), study=uid(f"{_ROOT}.{study}"), series=uid(f"{_ROOT}.{study}.1")
    )
    elements = [element(tag, "UI", value) for tag, value in values.items() if tag < 0x00100000]
    elements += [element(0x00100010, "PN", patient.encode().ljust(len(patient) + len(patient) % 2))]
    elements += [element(tag, "UI", value) for tag, value in values.items() if tag > 0x00100000]
    elements += [element(0x00200013, "IS", f"{instance:04d}".encode()), element(0x00280010, "US", bytes([extra, 0]))]
    return b"".join(elements) + element(0x7FE00010, "OW", os.urandom(pixels))


class House:
    """One gateway in this process, with one vault in memory that every upload of this test goes to."""

    def __init__(self) -> None:
        self.store: Store = store_open()
        self.vault = MemoryVault(identity_jwk())
        self.sent: dict[tuple[str, int], bytes] = {}

    def vault_row(self, name: str = "main", **values: Any) -> Vault:
        row = vault_ensure(
            name,
            base_url="https://vault.example.org",
            vault_id=self.vault.vault_id,
            recipient_jwk=jwk_from_key(RECIPIENT),
            receipt_jwk=jwk_from_key(SIGNER),
            token="t" * 20,
            actor="user:test",
        )
        if values:
            Vault.objects.filter(pk=row.pk).update(**values)
            row.refresh_from_db()
        return row

    def receive(self, study: int, instances: Iterable[int], **values: Any) -> Study:
        """Receives objects through the spool and indexes them; the same number again is another content."""
        index, intake = _Index(), Intake(self.store, owner="test")
        receiver = InstanceReceiver(self.store, intake, index)
        for number in instances:
            content = object_bytes(study, number, **values)
            sop_instance_uid = f"{_ROOT}.{study}.1.{number}"
            receiver.receive(Arrival(CT, sop_instance_uid, EXPLICIT, "CT1", "GATEWAY", "127.0.0.1", "a1"), [content])
        index_objects(self.store, index.items)
        for item in index.items:
            intake.release(item.spooled.path)
        intake.close()
        found = Study.objects.get(study_instance_uid=f"{_ROOT}.{study}")
        for instance in found.instances.filter(file_deleted_at=None):
            self.sent.setdefault((instance.sop_instance_uid, instance.version), self.stored(instance))
        return found

    def stored(self, instance: Instance) -> bytes:
        with self.store.open(instance.path) as stream:
            return stream.read()

    def file_of(self, instance: Instance) -> Path:
        return Path(self.store.root) / instance.path

    def settled(self, study: int = 1, instances: Iterable[int] = (1, 2), **values: Any) -> Study:
        """Received, settled, dispatched."""
        found = self.receive(study, instances, **values)
        pipeline.settle_now(found.pk, actor="user:test")
        found.refresh_from_db()
        return found

    def claim(self, *, at: datetime | None = None) -> UploadJob | None:
        return job_claim(QUEUE, now=at or now())  # type: ignore[return-value]

    def drain(self, *, at: datetime | None = None, limit: int = 20) -> int:
        """Does what is ready at that time, as a worker would."""
        for number in range(limit):
            job = self.claim(at=at)
            if job is None:
                return number
            run_one(QUEUE, job)
        raise AssertionError(f"{limit} jobs and no end")

    def one_later(self) -> None:
        """Does one job that will be ready within a year."""
        job = self.claim(at=now() + YEAR)
        if job is None:
            raise LookupError("no job is ready")
        run_one(QUEUE, job)

    def drain_later(self) -> int:
        """Does what will be ready within a year: every circuit has closed, every wait is over."""
        return self.drain(at=now() + YEAR)

    def job(self, study: Study, revision: int = 1, vault: str = "main") -> UploadJob:
        return UploadJob.objects.get(revision__study=study, revision__number=revision, vault__name=vault)

    def tries(self, job: UploadJob) -> list[tuple[int, str, str]]:
        rows = UploadAttempt.objects.filter(job=job).order_by("number")
        return list(rows.values_list("number", "result", "error_code"))

    def uploaded(self, study: Study, revision: int = 1) -> None:
        """Asserts the end of the way: what the vault gives back is the study, once, and the gateway says so."""
        study.refresh_from_db()
        job = self.job(study, revision)
        assert (study.state, study.reason) == ("uploaded", "")
        assert (job.state, job.error_code, job.error_words) == (JobState.DONE, "", "")
        assert job.receipt == self.vault.commits[job.upload_id].receipt
        assert job.receipt_id
        assert job.receipt_at is not None
        uids = {i.sop_instance_uid for i in study.instances.filter(revision__number__lte=revision)}
        expected = {key: content for key, content in self.sent.items() if key[0] in uids}
        assert self.vault.opened(job.upload_id) == expected
        assert job.parts.filter(confirmed_at__isnull=True).count() == 0
        assert job.files_done == job.files_total == job.parts.filter(instance__isnull=False).count()
        assert staged() == []
        records = AuditEvent.objects.filter(subject=f"study:{study.pk}", detail__action="uploaded")
        assert [r.detail["receipt_id"] for r in records if r.detail["upload_id"] == job.upload_id] == [job.receipt_id]


def staged() -> list[str]:
    """What lies below the staging folder."""
    from django.conf import settings

    root = Path(settings.DATA_DIR) / "uploads"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))
