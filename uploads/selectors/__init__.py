"""What is asked about vaults and uploads."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Exists, OuterRef, Prefetch, Q, QuerySet

from gateway_project.core.models import JobState
from gateway_project.core.options import option
from studies.models import Instance, StudyRevision, StudyState
from studies.selectors import study_instances_through
from uploads.envelope.jose import signer_claimed
from uploads.envelope.keys import thumbprint
from uploads.models import (
    LOST_CODES,
    Transport,
    UploadAttempt,
    UploadJob,
    UploadPart,
    Vault,
)
from uploads.queue import NAME

REFUSALS_SHOWN = 10
ATTEMPTS_SHOWN = 30


@dataclass(frozen=True)
class UploadOutlook:
    """What the uploads of one study say together: counts by state, and the words of the fault that is told first.

    Counted are the uploads to required vaults; those to optional ones only where no vault is required. `words` are
    those of the earliest upload that was given up, else of the earliest that tries again; `optional_words` likewise of
    the uploads that are not counted.
    """

    waiting: int = 0
    trying_again: int = 0
    running: int = 0
    done: int = 0
    parked: int = 0
    required_missing: int = 0
    words: str = ""
    optional_words: str = ""


def vaults_enabled() -> QuerySet[Vault]:
    return Vault.objects.filter(enabled=True).select_related("lane")


def vault_names() -> list[tuple[int, str]]:
    """Every vault there is or was, for a filter."""
    return list(Vault.objects.order_by("name").values_list("pk", "name")[:100])


def studies_of_vault(vault_id: int) -> Q:
    """Studies of which something was, or is to be, uploaded to this vault."""
    return Q(Exists(UploadJob.objects.filter(vault_id=vault_id, revision__study_id=OuterRef("pk"))))


def uploads_outlook(study_id: int) -> UploadOutlook:
    """One query over the jobs of all revisions of a study; cancelled ones do not count."""
    found = UploadJob.objects.filter(revision__study_id=study_id).exclude(state=JobState.CANCELLED)
    jobs = list(
        found.order_by("revision__number", "pk").values_list("vault__required", "state", "error_code", "error_words")
    )
    required = [job for job in jobs if job[0]]
    counted = required or jobs
    kinds = Counter(_kind(state, error_code) for _required, state, error_code, _words in counted)
    return UploadOutlook(
        waiting=kinds["waiting"],
        trying_again=kinds["trying_again"],
        running=kinds["running"],
        done=kinds["done"],
        parked=kinds["parked"],
        required_missing=sum(state != JobState.DONE for _required, state, _code, _words in required),
        words=_worst_words(counted),
        optional_words=_worst_words([job for job in jobs if not job[0]]) if required else "",
    )


def _worst_words(jobs: Iterable[tuple[bool, str, str, str]]) -> str:
    words = {"parked": "", "trying_again": ""}
    for _required, state, error_code, error_words in jobs:
        kind = _kind(state, error_code)
        if kind in words:
            words[kind] = words[kind] or error_words
    return words["parked"] or words["trying_again"]


def _kind(state: str, error_code: str) -> str:
    if state == JobState.READY:
        return "trying_again" if error_code else "waiting"
    return {JobState.RUNNING: "running", JobState.DONE: "done", JobState.PARKED: "parked"}[JobState(state)]


def study_uploads(study_id: int) -> QuerySet[UploadJob]:
    """The uploads of a study, oldest revision first: what the study page shows.

    `latest_tries`: its latest attempts, the last one first; they are numbered from 1, so its number says how many there
    were.

    `refusals`: the first instances that a DICOMweb server did not store, with the reason. `files_gone`: some files of
    it are deleted here.
    """
    refused = UploadPart.objects.filter(confirmed_at__isnull=True).exclude(result_words="")
    gone = Instance.objects.filter(revision=OuterRef("revision_id"), file_deleted_at__isnull=False)
    latest = UploadAttempt.objects.order_by("-number")[:ATTEMPTS_SHOWN]
    refusals = refused.select_related("instance").order_by("instance_id")[:REFUSALS_SHOWN]
    return (
        UploadJob.objects.filter(revision__study_id=study_id)
        .select_related("vault", "revision", "vault__lane")
        .defer("commitment", "receipt")  # megabytes each for a large study, and no page shows them
        .prefetch_related(
            Prefetch("tries", queryset=latest, to_attr="latest_tries"),
            Prefetch("parts", queryset=refusals, to_attr="refusals"),
        )
        .annotate(files_gone=Exists(gone))
        .order_by("revision__number", "vault_id")
    )


def revisions_missed() -> QuerySet[StudyRevision]:
    """Revisions that were dispatched while no vault was set up: no upload stands for them, and none of a later
    revision, which would have brought them along. Cancelled ones do not count.
    """
    standing = UploadJob.objects.filter(
        revision__study_id=OuterRef("study_id"), revision__number__gte=OuterRef("number")
    ).exclude(state=JobState.CANCELLED)
    missed = StudyRevision.objects.filter(~Exists(standing), dispatched_at__isnull=False)
    kept = missed.exclude(study__state__in=(StudyState.PENDING_DELETION, StudyState.DELETED))
    return kept.order_by("dispatched_at", "number")


def studies_misjudged(*, limit: int) -> list[int]:
    """Studies whose state is of before a vault became required, or when it was: uploaded although a required vault has
    not got all, or not uploaded although all of them have.
    """
    unfinished = UploadJob.objects.filter(state__in=(JobState.READY, JobState.RUNNING, JobState.PARKED))
    of_study = UploadJob.objects.filter(revision__study_id=OuterRef("revision__study_id"), vault__required=True)
    missing = unfinished.filter(vault__required=True, revision__study__state=StudyState.UPLOADED)
    waiting = (StudyState.SETTLED, StudyState.UPLOADING, StudyState.FAILED_TRANSIENT, StudyState.FAILED_PERMANENT)
    complete = unfinished.filter(
        Exists(of_study.filter(state=JobState.DONE)),
        ~Exists(of_study.exclude(state__in=(JobState.DONE, JobState.CANCELLED))),
        vault__required=False,
        revision__study__state__in=waiting,
    )
    found: set[int] = set()
    for jobs in (missing, complete):
        found |= set(jobs.values_list("revision__study_id", flat=True)[:limit])
    return sorted(found)[:limit]


def _earlier(job: UploadJob) -> QuerySet[UploadJob]:
    return UploadJob.objects.filter(
        vault_id=job.vault_id,
        revision__study_id=job.revision.study_id,
        revision__number__lt=job.revision.number,
    )


def earlier_unfinished(job: UploadJob) -> QuerySet[UploadJob]:
    """Uploads of earlier revisions to the same vault that this one has to wait for.

    Not for one that the vault has lost: what of it is still here travels in this one, and the rest is named as absent.
    """
    unfinished = _earlier(job).exclude(state__in=(JobState.DONE, JobState.CANCELLED))
    return unfinished.exclude(state=JobState.PARKED, error_code__in=LOST_CODES)


def earlier_parts(job: UploadJob) -> dict[int, UploadPart]:
    """For each instance that a finished upload of an earlier revision brought to the same vault: its file there."""
    found = UploadPart.objects.filter(
        job__in=_earlier(job).filter(state=JobState.DONE), instance__isnull=False, confirmed_at__isnull=False
    )
    # Of the job only its id at the vault: its commitment and receipt are megabytes, and would come once for each part.
    parts = found.select_related("job").only(*(field.name for field in UploadPart._meta.fields), "job__upload_id")
    return {part.instance_id: part for part in parts.order_by("pk") if part.instance_id is not None}


def earlier_upload_ids(job: UploadJob) -> list[str]:
    """The finished uploads of earlier revisions to the same vault, oldest first."""
    done = _earlier(job).filter(state=JobState.DONE)
    return list(done.order_by("revision__number").values_list("upload_id", flat=True))


def upload_study(job: UploadJob) -> list[Instance]:
    """What the upload's documents tell of: the study up to its revision, each series once in memory."""
    return list(study_instances_through(job.revision).select_related(None).prefetch_related("series"))


def upload_instances(job: UploadJob) -> QuerySet[Instance]:
    """What travels in this upload, in a fixed order: the revision's instances, and those of earlier revisions that no
    finished upload has brought to this vault (it was set up since, or that upload was cancelled) and we still have.
    """
    brought = UploadPart.objects.filter(
        instance=OuterRef("pk"), job__in=_earlier(job).filter(state=JobState.DONE), confirmed_at__isnull=False
    )
    return study_instances_through(job.revision).filter(
        Q(revision_id=job.revision_id) | (Q(file_deleted_at__isnull=True) & ~Exists(brought))
    )


def uploads_running(study_ids: Collection[int]) -> dict[int, UploadJob]:
    """The upload that is under way for each of these studies, with the attempt that is, by study."""
    jobs = UploadJob.objects.filter(state=JobState.RUNNING, revision__study_id__in=study_ids).select_related("revision")
    running = Prefetch("tries", queryset=UploadAttempt.objects.filter(result="running"))
    jobs = jobs.defer("commitment", "receipt").prefetch_related(running)
    return {job.revision.study_id: job for job in jobs.order_by("pk")}


def upload_rate(job: UploadJob, *, now: datetime) -> float | None:
    """Bytes a second of the attempt under way, on average; None until it has moved something. Asks nothing of a job
    that came with its attempts.
    """
    tries = job.latest_tries if hasattr(job, "latest_tries") else job.tries.all()
    for attempt in tries:
        if attempt.result == "running" and attempt.bytes_sent:
            return attempt.bytes_sent / max((now - attempt.started_at).total_seconds(), 1.0)
    return None


def study_attempts(study_id: int, *, limit: int) -> list[UploadAttempt]:
    """The latest attempts of all uploads of a study, the latest first."""
    attempts = UploadAttempt.objects.filter(job__revision__study_id=study_id)
    told = attempts.select_related("job__vault", "job__revision").defer("job__commitment", "job__receipt")
    return list(told.order_by("-started_at", "-pk")[:limit])


def lane_uploads() -> dict[int, dict[str, int]]:
    """For each lane, how many uploads are in each state; those that are done or cancelled are not counted."""
    states = (JobState.READY, JobState.RUNNING, JobState.PARKED)
    jobs = UploadJob.objects.filter(queue=NAME, state__in=states).order_by().values_list("lane_id", "state")
    counted: dict[int, dict[str, int]] = {}
    for lane_id, state, number in jobs.annotate(number=Count("pk")):
        counted.setdefault(lane_id, {})[state] = number
    return counted


def upload_latest_done() -> UploadJob | None:
    """The upload that got its receipt last."""
    done = UploadJob.objects.filter(state=JobState.DONE, ended_at__isnull=False).select_related("revision", "vault")
    return done.defer("commitment", "receipt").order_by("-ended_at").first()


def demonstration_exists() -> bool:
    return Vault.objects.filter(demonstration=True, enabled=True).exists()


def deletion_allowed(vault: Vault, *, key_id: str | None = None) -> bool:
    """Whether receipts of this vault may ever allow deletion of what is sealed for this key (default: for all that are
    pinned, the recovery key too): its holder has opened a canary with it, and the vault is no demonstration.
    """
    key_ids = [key_id] if key_id else pinned_key_ids(vault)
    return not vault.demonstration and all(each in vault.proved_keys for each in key_ids)


def pinned_key_ids(vault: Vault) -> list[str]:
    """Whom studies are sealed for now, the recipient first."""
    return [vault.recipient_key_id, *([thumbprint(vault.recovery_jwk)] if vault.recovery_jwk else [])]


# -- STOW: any DICOMweb server -----------------------------------------------------------------------------------------


def stow_instances(job: UploadJob) -> QuerySet[Instance]:
    """What travels by STOW in this upload: of an object that came with several contents only the latest by then.

    A server keeps one content under a UID, so a superseded one could only be taken for the one that replaced it.
    """
    later = Instance.objects.filter(
        study_id=OuterRef("study_id"),
        sop_instance_uid=OuterRef("sop_instance_uid"),
        version__gt=OuterRef("version"),
        revision__number__lte=job.revision.number,
    )
    return upload_instances(job).filter(~Exists(later))


def upload_allows_deletion(job: UploadJob) -> bool:
    """Whether what this upload brought to its vault may be deleted here, as far as this vault is concerned.

    A GVE1 vault must have signed a receipt, for what is sealed for keys that were all proved to open. A DICOMweb server
    proves nothing later: it counts only where an administrator said so for this vault, and when it has confirmed every
    instance by its name.
    """
    vault = job.vault
    if job.state != JobState.DONE:
        return False
    if vault.transport == Transport.STOW:
        return vault.deletion_allowed and not job.parts.filter(confirmed_at__isnull=True).exists()
    key_ids = job.recipient_key_ids.split()
    return bool(job.receipt and key_ids) and all(deletion_allowed(vault, key_id=key_id) for key_id in key_ids)


def gateway_id_at(vault: Vault) -> str:
    """What this gateway is called at that vault, which does not follow INSTANCE.ID: its operator registered it so."""
    return vault.gateway_id or str(option("INSTANCE.ID"))


def receipt_key(vault: Vault, receipt: str) -> dict[str, str]:
    """The key that a receipt of this vault is verified with later on: that of its signer, if it is or was pinned."""
    kept: dict[str, str] = vault.earlier_receipt_keys.get(signer_claimed(receipt), vault.receipt_jwk)
    return kept


# -- the chain of custody ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coverage:
    """How many of a study's instances one vault has: signed for in receipts, or with STOW confirmed by name."""

    vault: Vault
    instances: int


def study_coverage(study_id: int) -> list[Coverage]:
    """For each vault that a finished upload of this study went to, in the order of their names. Two queries."""
    done = UploadPart.objects.filter(
        job__revision__study_id=study_id,
        job__state=JobState.DONE,
        instance__isnull=False,
        confirmed_at__isnull=False,
    )
    counted = dict(done.order_by().values_list("job__vault").annotate(number=Count("instance", distinct=True)))
    return [Coverage(vault, counted[vault.pk]) for vault in Vault.objects.filter(pk__in=counted).order_by("name")]


def instances_in_vaults(instance_ids: Collection[int]) -> set[int]:
    """Those of these instances that every required vault has: signed for in a verified receipt, or with STOW confirmed
    by name. Without a required vault: none. Two queries.
    """
    required = set(vaults_enabled().filter(required=True).values_list("pk", flat=True))
    if not required:
        return set()
    parts = UploadPart.objects.filter(
        instance_id__in=instance_ids,
        confirmed_at__isnull=False,
        job__state=JobState.DONE,
        job__vault_id__in=required,
    )
    held: dict[int, set[int]] = {}
    for instance_id, vault_id in parts.values_list("instance_id", "job__vault_id"):
        held.setdefault(instance_id or 0, set()).add(vault_id)
    return {instance_id for instance_id, vaults in held.items() if vaults == required}
