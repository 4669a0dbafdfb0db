"""What is asked about vaults and uploads."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Exists, Min, OuterRef, Prefetch, Q, QuerySet, Subquery

from gateway_project.core.models import JobState
from studies.models import Instance
from studies.selectors import study_instances_through
from uploads.models import Transport, UploadAttempt, UploadJob, UploadPart, Vault
from uploads.queue import NAME as QUEUE_NAME

REFUSALS_SHOWN = 10


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
    """The uploads of a study with their attempts, oldest revision first: what the study page shows.

    `refusals`: the first instances that a DICOMweb server did not store, with the reason.
    """
    refused = UploadPart.objects.filter(confirmed_at__isnull=True).exclude(result_words="")
    refusals = refused.select_related("instance").order_by("instance_id")[:REFUSALS_SHOWN]
    return (
        UploadJob.objects.filter(revision__study_id=study_id)
        .select_related("vault", "revision", "vault__lane")
        .defer("commitment", "receipt")  # megabytes each for a large study, and no page shows them
        .prefetch_related(
            Prefetch("tries", queryset=UploadAttempt.objects.order_by("number")),
            Prefetch("parts", queryset=refusals, to_attr="refusals"),
        )
        .order_by("revision__number", "vault_id")
    )


def _earlier(job: UploadJob) -> QuerySet[UploadJob]:
    return UploadJob.objects.filter(
        vault_id=job.vault_id,
        revision__study_id=job.revision.study_id,
        revision__number__lt=job.revision.number,
    )


def earlier_unfinished(job: UploadJob) -> QuerySet[UploadJob]:
    """Uploads of earlier revisions to the same vault that this one has to wait for."""
    return _earlier(job).exclude(state__in=(JobState.DONE, JobState.CANCELLED))


def earlier_parts(job: UploadJob) -> dict[int, UploadPart]:
    """For each instance that a finished upload of an earlier revision brought to the same vault: its file there."""
    parts = UploadPart.objects.filter(
        job__in=_earlier(job).filter(state=JobState.DONE), instance__isnull=False, confirmed_at__isnull=False
    ).select_related("job")
    return {part.instance_id: part for part in parts.order_by("pk") if part.instance_id is not None}


def earlier_upload_ids(job: UploadJob) -> list[str]:
    """The finished uploads of earlier revisions to the same vault, oldest first."""
    done = _earlier(job).filter(state=JobState.DONE)
    return list(done.order_by("revision__number").values_list("upload_id", flat=True))


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
    """The upload that is under way for each of these studies, by study."""
    jobs = UploadJob.objects.filter(state=JobState.RUNNING, revision__study_id__in=study_ids).select_related("revision")
    return {job.revision.study_id: job for job in jobs.order_by("pk")}


def upload_latest_done() -> UploadJob | None:
    """The upload that got its receipt last."""
    return UploadJob.objects.filter(state=JobState.DONE).select_related("revision", "vault").order_by("-pk").first()


def demonstration_exists() -> bool:
    return Vault.objects.filter(demonstration=True, enabled=True).exists()


def deletion_allowed(vault: Vault, *, key_id: str | None = None) -> bool:
    """Whether receipts of this vault may ever allow deletion of what is sealed for this recipient key (default: the
    pinned one): the recipient has opened a canary with it, and the vault is no demonstration.
    """
    return not vault.demonstration and (key_id or vault.recipient_key_id) in vault.proved_keys


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

    A GVE1 vault must have signed a receipt, for what is sealed for a key that was proved to open. A DICOMweb server
    proves nothing later: it counts only where an administrator said so for this vault, and when it has confirmed every
    instance by its name.
    """
    vault = job.vault
    if job.state != JobState.DONE:
        return False
    if vault.transport == Transport.STOW:
        return vault.deletion_allowed and not job.parts.filter(confirmed_at__isnull=True).exists()
    key_id = job.recipient_key_ids.partition(" ")[0]
    return bool(job.receipt and key_id) and deletion_allowed(vault, key_id=key_id)


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


# -- what the page of vaults shows -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """The uploads of one vault that are in one state: how many, and since when the oldest."""

    count: int = 0
    oldest_at: datetime | None = None


@dataclass(frozen=True)
class AttemptPage:
    rows: list[UploadAttempt]
    newer: bool
    older: bool


def vaults_all() -> QuerySet[Vault]:
    """Every vault with its lane, those that are on first, and `receipt_at` and `receipt_id` of its latest receipt."""
    done = UploadJob.objects.filter(vault=OuterRef("pk"), state=JobState.DONE).order_by("-pk")
    receipted = done.filter(receipt_at__isnull=False)
    return (
        Vault.objects.select_related("lane")
        .annotate(
            receipt_at=Subquery(receipted.values("receipt_at")[:1]),
            receipt_id=Subquery(receipted.values("receipt_id")[:1]),
            done_at=Subquery(done.values("ended_at")[:1]),
        )
        .order_by("-enabled", "name")
    )


def uploads_in_line() -> dict[tuple[int, str], Line]:
    """What is not done, by vault and state. One query over the index of states."""
    states = (JobState.READY, JobState.RUNNING, JobState.PARKED)
    rows = UploadJob.objects.filter(queue=QUEUE_NAME, state__in=states).order_by().values_list("vault_id", "state")
    counted = rows.annotate(count=Count("pk"), oldest=Min("created_at"))
    return {(vault, state): Line(count, oldest) for vault, state, count, oldest in counted}


def uploads_under_way(vault: Vault | None = None, *, limit: int = 50) -> list[UploadJob]:
    """Uploads that run now with their study and the attempt that runs: two queries."""
    jobs = UploadJob.objects.filter(queue=QUEUE_NAME, state=JobState.RUNNING)
    if vault is not None:
        jobs = jobs.filter(vault=vault)
    running = UploadAttempt.objects.filter(result="running")
    return list(
        jobs.select_related("vault", "revision__study")
        .defer("commitment", "receipt")
        .prefetch_related(Prefetch("tries", queryset=running))
        .order_by("started_at", "pk")[:limit]
    )


def attempts_page(vault: Vault, *, before: int = 0, after: int = 0, size: int = 20) -> AttemptPage:
    """Attempts of a vault's uploads, latest first, by keyset of their id. One query."""
    attempts = UploadAttempt.objects.filter(job__vault=vault).select_related("job__revision__study")
    attempts = attempts.defer("job__commitment", "job__receipt")
    if after:
        rows = list(attempts.filter(pk__gt=after).order_by("pk")[: size + 1])
        return AttemptPage(rows[:size][::-1], newer=len(rows) > size, older=True)
    if before:
        attempts = attempts.filter(pk__lt=before)
    rows = list(attempts.order_by("-pk")[: size + 1])
    return AttemptPage(rows[:size], newer=bool(before), older=len(rows) > size)
