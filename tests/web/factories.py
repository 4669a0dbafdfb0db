"""Rows for the pages: synthetic patients, and studies in every state."""

import hashlib
import itertools
from datetime import date, datetime, time, timedelta
from typing import Any

from django.contrib.auth.models import Group, User
from django.utils.timezone import now

from gateway_project.core.models import JobState, Lane
from network.models import CommitmentRequest, ProcedureStep, ProcedureStepStudy, RemoteAE
from studies.models import Instance, Series, Study, StudyRevision, StudyState
from uploads.models import UploadAttempt, UploadJob, Vault

PASSWORD = "correct horse 17 battery"
ROOT = "1.2.826.0.1.3680043.10.511"
_numbers = itertools.count(1)


def number() -> int:
    return next(_numbers)


def user_make(role: str = "", *, username: str = "", superuser: bool = False) -> User:
    user = User.objects.create_user(username or f"{role or 'nobody'}-{number()}", password=PASSWORD)
    if superuser:
        user.is_superuser = user.is_staff = True
        user.save()
    if role:
        user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


def lane_make(**values: Any) -> Lane:
    return Lane.objects.create(**{"name": f"vault:{number()}", "title": "Vault default", **values})


def vault_make(name: str = "default", **values: Any) -> Vault:
    defaults = {
        "base_url": "http://127.0.0.1:11115",
        "vault_id": "vault-1",
        "recipient_key_id": "Xr9q0m3nLw2uVJ4yQ1cZ8tB6sA5dF7gH0kE3pRoTiUw",
        "recipient_jwk": {"kty": "EC"},
        "receipt_jwk": {"kty": "EC"},
        "token": "MARK-secret-token",
        "lane": values.pop("lane", None) or lane_make(name=f"vault:{name}", title=f"Vault {name}"),
    }
    return Vault.objects.create(name=name, **{**defaults, **values})


def study_make(**values: Any) -> Study:
    n = number()
    moment: datetime = values.get("received_at") or now()
    defaults = {
        "study_instance_uid": f"{ROOT}.{20260000 + n}.{7919 * n}.{n}",
        "key": hashlib.sha256(str(n).encode()).hexdigest()[:32],
        "patient_name": f"Muster{n}^Anna",
        "patient_id": f"P{100000 + n}",
        "patient_birth_date": date(1961, 4, 12),
        "patient_sex": "F",
        "accession_number": f"ACC{2000 + n}",
        "study_date": date(2026, 11, 20),
        "study_time": time(9, 41),
        "study_description": "CT Thorax nativ",
        "source_ae_title": "CT_NORD_1",
        "modalities": "CT",
        "state_since": moment,
        "created_at": moment - timedelta(minutes=3),
        "received_at": moment,
    }
    return Study.objects.create(**{**defaults, **values})


def series_make(study: Study, *, instances: int = 3, size_bytes: int = 524_288, **values: Any) -> Series:
    """A series with its instances, received over the three minutes before the study's latest moment."""
    n = number()
    series = Series.objects.create(
        **{
            "study": study,
            "series_instance_uid": f"{study.study_instance_uid}.{n}",
            "key": f"series{n}",
            "modality": study.modalities.split("\\")[0],
            "series_number": n % 9 + 1,
            "series_description": "Lunge 1,0 mm",
            "instance_count": instances,
            "size_bytes": instances * size_bytes,
            **values,
        }
    )
    step = (study.received_at - study.created_at) / max(instances - 1, 1)
    Instance.objects.bulk_create(
        Instance(
            study=study,
            series=series,
            sop_instance_uid=f"{series.series_instance_uid}.{i}",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            key=f"i{n}-{i}",
            path=f"{study.key}/{series.key}/i{n}-{i}.dcm",
            size_bytes=size_bytes,
            sha256="0" * 64,
            source_ae_title=study.source_ae_title,
            association_id=f"assoc-{n}",
            received_at=study.created_at + i * step,
        )
        for i in range(instances)
    )
    Study.objects.filter(pk=study.pk).update(
        instance_count=study.instance_count + instances,
        series_count=study.series_count + 1,
        size_bytes=study.size_bytes + instances * size_bytes,
    )
    study.refresh_from_db()
    return series


def revision_make(study: Study, **values: Any) -> StudyRevision:
    """Settles what is there: all unstamped instances go into the next revision."""
    settled = values.pop("settled_at", study.received_at + timedelta(seconds=600))
    revision = StudyRevision.objects.create(
        **{
            "study": study,
            "number": study.revisions.count() + 1,
            "reason": "quiet",
            "actor": "process:settling",
            "instance_count": study.instance_count,
            "size_bytes": study.size_bytes,
            "opened_at": study.created_at,
            "received_at": study.received_at,
            "settled_at": settled,
            "dispatched_at": settled,
            **values,
        }
    )
    study.instances.filter(revision=None).update(revision=revision)
    return revision


def upload_make(revision: StudyRevision, vault: Vault, state: str = JobState.DONE, **values: Any) -> UploadJob:
    defaults: dict[str, Any] = {
        "queue": "upload",
        "lane": vault.lane,
        "state": state,
        "attempts": 1,
        "files_total": revision.instance_count,
        "progress_total": revision.size_bytes,
        "created_at": revision.settled_at,
    }
    if state == JobState.DONE:
        defaults |= {
            "receipt_id": hashlib.sha256(str(number()).encode()).hexdigest()[:32],
            "receipt_at": revision.settled_at + timedelta(seconds=42),
            "ended_at": revision.settled_at + timedelta(seconds=43),
            "progress_done": revision.size_bytes,
        }
    return UploadJob.objects.create(vault=vault, revision=revision, **{**defaults, **values})


def attempt_make(job: UploadJob, result: str = "done", **values: Any) -> UploadAttempt:
    started = values.pop("started_at", job.revision.settled_at + timedelta(seconds=2))
    return UploadAttempt.objects.create(
        **{
            "job": job,
            "claim_id": f"00000000-0000-4000-8000-{number():012d}",
            "number": job.tries.count() + 1,
            "started_at": started,
            "ended_at": None if result == "running" else started + timedelta(seconds=38),
            "result": result,
            "files_sent": job.files_total if result == "done" else 3,
            "bytes_sent": job.progress_total // 2,
            **values,
        }
    )


def step_make(study: Study, **values: Any) -> ProcedureStep:
    """A procedure step in progress for the study."""
    n = number()
    step = ProcedureStep.objects.create(
        **{
            "sop_instance_uid": f"{study.study_instance_uid}.88.{n}",
            "calling_ae_title": study.source_ae_title,
            "step_id": f"PPS{n}",
            "modality": study.modalities.split("\\")[0],
            "station_name": "Room 4",
            "accession_number": study.accession_number,
            "patient_name": study.patient_name,
            "patient_id": study.patient_id,
            "started_at": study.created_at - timedelta(minutes=4),
            "created_at": study.created_at - timedelta(minutes=4),
            **values,
        }
    )
    ProcedureStepStudy.objects.create(step=step, study_instance_uid=study.study_instance_uid)
    return step


def commitment_make(remote: RemoteAE, **values: Any) -> CommitmentRequest:
    """A request for one object that is not here, decided."""
    defaults = {
        "queue": "commitment",
        "state": JobState.DONE,
        "calling_ae_title": remote.ae_title,
        "transaction_uid": f"{ROOT}.5.{number()}",
        "level": "local",
        "deadline_at": now(),
        "references": [["1.2", "1.2.3"]],
        "instance_count": 1,
        "failures": [["1.2.3", 0x0112]],
        "judged_at": now(),
    }
    return CommitmentRequest.objects.create(remote=remote, **{**defaults, **values})


def uploaded_study_make(vault: Vault, **values: Any) -> Study:
    study = study_make(**{"state": StudyState.UPLOADED, **values})
    series_make(study)
    attempt_make(upload_make(revision_make(study), vault))
    return study


DAY = [
    # name, description, modalities, source, state, minutes ago, reason
    ("Lindqvist^Maja", "CT Thorax mit KM", "CT", "CT_NORD_1", StudyState.RECEIVING, 1, ""),
    ("Okafor^Daniel^^Dr.", "MR Knie rechts", "MR", "MR_SUED_2", StudyState.UPLOADING, 14, ""),
    ("Moreau^Céline", "Mammographie beidseits", "MG", "MAMMO_1", StudyState.SETTLED, 16, "Waiting for its upload."),
    ("Nakamura^Yuki", "CT Schädel nativ, Notfall", "CT", "CT_NORD_1", StudyState.FAILED_TRANSIENT, 21,
     "The vault answered 503: it is overloaded. The upload goes on where it stopped."),
    ("Petrov^Ivan", "Röntgen Thorax p.a.", "DX", "DX_AMB_3", StudyState.UPLOADED, 33, ""),
    ("Hofer^Elisabeth", "Sonographie Abdomen", "US", "US_4", StudyState.UPLOADED, 47, ""),
    ("Fontaine^Luc", "PET-CT Ganzkörper", "PT\\CT", "PETCT", StudyState.FAILED_PERMANENT, 58,
     "A stored object is not what was received (its hash differs). The upload waits for a person."),
    ("Andersson^Karin", "MR Schädel", "MR", "MR_SUED_2", StudyState.UPLOADED, 75, ""),
    ("Rossi^Giulia", "CT Abdomen", "CT", "CT_NORD_1", StudyState.UPLOADED, 92, ""),
    ("Baumann^Peter", "Röntgen Hand links", "DX", "DX_AMB_3", StudyState.UPLOADED, 110, ""),
    ("Nowak^Zofia", "Angiographie", "XA", "ANGIO", StudyState.UPLOADED, 131, ""),
    ("Schmid^Ursula", "CT Becken", "CT", "CT_NORD_1", StudyState.DELETED, 155, ""),
]  # fmt: skip
SIZES = {"CT": (240, 526_000), "MR": (180, 264_000), "MG": (4, 27_000_000), "DX": (2, 9_400_000), "US": (24, 921_000)}


def day_make(vault: Vault, *, healthy: bool = False) -> list[Study]:
    """A working day: a study in every state; with `healthy` only those that are in the vault."""
    made = []
    for name, description, modalities, source, state, minutes, reason in DAY:
        if healthy and state not in (StudyState.UPLOADED, StudyState.DELETED):
            continue
        moment = now() - timedelta(minutes=minutes)
        study = study_make(
            patient_name=name, study_description=description, modalities=modalities, source_ae_title=source,
            state=state, reason=reason, received_at=moment, state_since=moment + timedelta(seconds=30),
            open_since=moment - timedelta(minutes=3) if state == StudyState.RECEIVING else None,
        )  # fmt: skip
        count, size_bytes = SIZES.get(modalities.split("\\")[0], (60, 800_000))
        series_make(study, instances=min(count, 24), size_bytes=size_bytes * max(count // 24, 1))
        if state != StudyState.RECEIVING:
            _deliver(study, vault)
        made.append(study)
    return made


def _deliver(study: Study, vault: Vault) -> None:
    revision = revision_make(study, settled_at=study.received_at + timedelta(seconds=20), reason="quiet")
    if study.state == StudyState.UPLOADING:
        job = upload_make(revision, vault, JobState.RUNNING, progress_done=int(revision.size_bytes * 0.62))
        attempt_make(job, "running", started_at=now() - timedelta(seconds=24))
    elif study.state == StudyState.SETTLED:
        upload_make(revision, vault, JobState.READY, attempts=0)
    elif study.state == StudyState.FAILED_TRANSIENT:
        job = upload_make(
            revision, vault, JobState.READY, attempts=2, error_code="vault-503", error_words=study.reason,
            run_after=now() + timedelta(minutes=4),
        )  # fmt: skip
        attempt_make(job, "failed", error_words=study.reason)
        attempt_make(job, "failed", error_words=study.reason, started_at=revision.settled_at + timedelta(seconds=100))
    elif study.state == StudyState.FAILED_PERMANENT:
        job = upload_make(revision, vault, JobState.PARKED, error_code="object-damaged", error_words=study.reason)
        attempt_make(job, "failed", error_words=study.reason)
    else:
        attempt_make(upload_make(revision, vault))
