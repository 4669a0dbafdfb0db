"""Storage commitment: asked for, judged, and reported until the peer has taken the report (PS3.4 annex J)."""

import hashlib
import io
import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from django.db import IntegrityError, transaction
from django.utils.timezone import now as clock

from gateway_project.core.models import Alert, AuditEventType, JobState, Severity
from gateway_project.core.options import option
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.core.services.audit import audit_record
from gateway_project.core.services.bell import ring
from gateway_project.core.services.jobs import job_subject
from network.dimse import statuses
from network.dimse.commitment import Reference, event_data
from network.dimse.errors import ConfigurationError
from network.dimse.normalized.ports import Event, NormalizedRequest
from network.models import CommitLevel, CommitmentRequest
from network.ports import RECEIPTS
from network.queue import COMMITMENT
from network.selectors.peers import peers_titled
from network.selectors.retrieve import instances_visible
from network.services.associations import ae_title_shown
from studies.dicom.errors import DicomError
from studies.dicom.spool import Store
from studies.models import Instance
from studies.selectors import store_root

logger = logging.getLogger(__name__)
DAMAGED = "instance-damaged:"
_CHUNK = 500


class CommitmentRefusedError(Exception):
    """A request that is not taken; `status` and the words go to the peer."""

    def __init__(self, words: str, *, code: str, status: int) -> None:
        super().__init__(words)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class _Verdict:
    failures: dict[str, int]
    waits: bool


def commitment_allow(request: NormalizedRequest) -> None:
    """Raises CommitmentRefusedError (0124) for who may not ask: before anything that it sends is read."""
    if not request.peer.rights.commit:
        raise _forbidden()


def _forbidden() -> CommitmentRefusedError:
    return CommitmentRefusedError(
        "this AE may not ask for commitment", code="commit-forbidden", status=statuses.NOT_AUTHORIZED
    )


def commitment_accept(
    request: NormalizedRequest, *, transaction_uid: str, references: Sequence[Reference], now: datetime
) -> CommitmentRequest:
    """The request, durable. The same one again is the same row. Raises CommitmentRefusedError."""
    calling = request.peer.calling_ae_title
    remote = peers_titled(calling).filter(enabled=True).first()
    if remote is None:
        raise _forbidden()
    if len(references) > option("COMMIT.MAX_INSTANCES"):
        raise CommitmentRefusedError(
            "too many references at once", code="commit-too-many", status=statuses.RESOURCE_LIMITATION
        )
    pairs = [[one.sop_class_uid, one.sop_instance_uid] for one in references]
    try:
        with transaction.atomic():
            row = CommitmentRequest.objects.create(
                queue=COMMITMENT,
                remote=remote,
                calling_ae_title=calling,
                transaction_uid=transaction_uid,
                association_id=request.peer.association_id[:40],
                level=remote.commit_level,
                deadline_at=now + timedelta(minutes=remote.commit_minutes),
                references=pairs,
                instance_count=len(pairs),
                # the association on which it was asked for may have its report first
                run_after=now + timedelta(seconds=option("COMMIT.RECHECK_SECONDS")),
                created_at=now,
            )
            _record(row, "asked")
            ring(COMMITMENT)
    except IntegrityError:
        return _asked_again(calling, transaction_uid, pairs, now=now)
    return row


def _asked_again(calling: str, transaction_uid: str, pairs: list[list[str]], *, now: datetime) -> CommitmentRequest:
    row = CommitmentRequest.objects.get(calling_ae_title=calling, transaction_uid=transaction_uid)
    if row.references != pairs:
        raise CommitmentRefusedError(
            "this Transaction UID is in use for other objects",
            code="commit-duplicate",
            status=statuses.DUPLICATE_TRANSACTION,
        )
    done = CommitmentRequest.objects.filter(pk=row.pk).exclude(state__in=(JobState.READY, JobState.RUNNING))
    done.update(state=JobState.READY, attempts=0, run_after=now + timedelta(seconds=option("COMMIT.RECHECK_SECONDS")))
    row.refresh_from_db()
    return row


def commitment_judge(row: CommitmentRequest, *, now: datetime) -> bool:
    """Whether every reference is committed is decided, once; False while some may still become so before the deadline.

    What the peer has neither sent nor may see is not here for it.

    An instance is committed at level *local* when its file is there and, read now, has the hash that it came with; at
    level *vault* when besides every required vault has given its receipt, for which the receipt suffices once the file
    is deleted here.
    """
    if row.judged_at is not None:
        return True
    verdict = _verdict(row)
    if verdict.waits and now < row.deadline_at:
        return False
    failures = [[uid, reason] for uid, reason in verdict.failures.items()]
    with transaction.atomic():
        judged = CommitmentRequest.objects.filter(pk=row.pk, judged_at__isnull=True)
        if judged.update(failures=failures, judged_at=now):
            row.failures, row.judged_at = failures, now
            _record(row, "judged", failed=len(failures))
        else:
            row.refresh_from_db()
    return True


def _unseen(row: CommitmentRequest, found: Collection[Instance]) -> set[int]:
    """Those of these instances that the peer has not sent and may not see: for it they are not here."""
    foreign = {one.pk for one in found if one.source_ae_title != row.calling_ae_title}
    try:
        visible = row.remote.visible()
    except ConfigurationError:
        return foreign  # as in queries: who has conditions that cannot be read sees nothing
    if visible.is_everything:
        return set()
    return foreign - instances_visible(foreign, visible=visible)


def _verdict(row: CommitmentRequest) -> _Verdict:
    failures: dict[str, int] = {}
    waits = False
    store = Store(store_root())
    damaged = _Damaged()
    for at in range(0, len(row.references), _CHUNK):
        wanted = row.references[at : at + _CHUNK]
        uids = {uid for _sop_class, uid in wanted}
        found: dict[str, Instance] = {}
        for instance in Instance.objects.filter(sop_instance_uid__in=uids, current=True).order_by("pk"):
            found[instance.sop_instance_uid] = instance
        unseen = _unseen(row, found.values())
        found = {uid: one for uid, one in found.items() if one.pk not in unseen}
        sealed = RECEIPTS.get().instances_in_vaults([instance.pk for instance in found.values()])
        for sop_class, uid in wanted:  # one that is named as of two classes is committed as neither
            reason, may_come = _reason(store, found.get(uid), sop_class, row.level, sealed, damaged)
            if reason:
                failures[uid] = reason
                waits |= may_come
    damaged.tell()
    return _Verdict(failures, waits)


class _Damaged:
    """Stored objects that are not what was received: each gets an alert, which heals when it is read whole again."""

    def __init__(self) -> None:
        alerts = Alert.objects.filter(key__startswith=DAMAGED, healed_at__isnull=True)
        self._open = set(alerts.values_list("key", flat=True)[:1000])
        self._found: list[Instance] = []

    def note(self, instance: Instance, *, is_whole: bool) -> None:
        key = f"{DAMAGED}{instance.pk}"
        if not is_whole:
            self._found.append(instance)
        elif key in self._open:
            alert_heal(key)

    def tell(self) -> None:
        """One alert each, at most 20: a broken disk must not drown what else is told."""
        for instance in self._found[:20]:
            words = "A stored object is missing or not what was received; commitment to it was refused. Its device may "
            words += "still have it: let it send the object again, and look at the disk."
            link = f"/studies/{instance.study_id}/"
            key = f"{DAMAGED}{instance.pk}"
            alert_open(key, code="object-damaged", words=words, severity=Severity.CRITICAL, link=link)


def _reason(
    store: Store, instance: Instance | None, sop_class_uid: str, level: str, sealed: set[int], damaged: _Damaged
) -> tuple[int, bool]:
    """Why this instance is not committed (0: it is), and whether waiting may help."""
    if instance is None:
        return statuses.NO_SUCH_INSTANCE, level == CommitLevel.VAULT
    if instance.sop_class_uid != sop_class_uid:
        return statuses.CLASS_INSTANCE_CONFLICT, False
    in_vaults = instance.pk in sealed
    if instance.file_deleted_at is not None:
        return (0 if in_vaults else statuses.NO_SUCH_INSTANCE), False
    if level == CommitLevel.VAULT and not in_vaults:
        return statuses.PROCESSING_FAILURE, True
    is_whole = _is_whole(store, instance)
    damaged.note(instance, is_whole=is_whole)
    return (0 if is_whole else statuses.PROCESSING_FAILURE), False


def _is_whole(store: Store, instance: Instance) -> bool:
    """Read now, the data set has the hash that it came with."""
    try:
        with store.open(instance.path) as stream:
            offset = os.fstat(stream.fileno()).st_size - instance.size_bytes
            stream.seek(max(offset, 0))
            return (
                offset > 0 and hashlib.file_digest(cast("io.FileIO", stream), "sha256").hexdigest() == instance.sha256
            )
    except (DicomError, OSError) as error:
        logger.warning(
            "instance not readable for commitment", extra={"instance": instance.pk, "error": type(error).__name__}
        )
        return False


def commitment_event(row: CommitmentRequest, *, explicit: bool) -> Event:
    """The report of a judged request: type 1 when all is committed, 2 when some is not (PS3.4 J.3.3)."""
    failed: dict[str, int] = dict(row.failures or [])
    references = [Reference(sop_class, uid) for sop_class, uid in row.references]
    return event_data(
        row.transaction_uid,
        [one for one in references if one.sop_instance_uid not in failed],
        [(one, failed[one.sop_instance_uid]) for one in references if one.sop_instance_uid in failed],
        explicit=explicit,
    )


def commitment_delivered(row: CommitmentRequest, *, how: str) -> bool:
    """The peer has taken the report on the association of its request; False when a worker holds the job already."""
    with transaction.atomic():
        waiting = CommitmentRequest.objects.filter(pk=row.pk, state=JobState.READY)
        if not waiting.update(state=JobState.DONE, ended_at=clock(), error_code="", error_words=""):
            return False
        _record(row, "reported", how=how)
    return True


def commitment_later(row: CommitmentRequest, *, now: datetime) -> None:
    """The association of the request is no way for the report: a worker calls the peer, at once if it is judged."""
    wait = timedelta() if row.judged_at is not None else timedelta(seconds=option("COMMIT.RECHECK_SECONDS"))
    with transaction.atomic():
        CommitmentRequest.objects.filter(pk=row.pk, state=JobState.READY).update(run_after=now + wait)
        ring(COMMITMENT)


def commitment_report_again(row: CommitmentRequest, *, actor: str, now: datetime) -> bool:
    """A person wants the peer called again, with the same report if it was decided. False while one is under way."""
    with transaction.atomic():
        resting = CommitmentRequest.objects.filter(pk=row.pk).exclude(state=JobState.RUNNING)
        if not resting.update(state=JobState.READY, run_after=now, attempts=0, crashes=0, ended_at=None):
            return False
        alert_heal(job_subject(row))
        audit_record(
            AuditEventType.APPLICATION_ACTIVITY,
            actor=actor,
            subject=f"commitment:{row.pk}",
            detail={"service": "storage commitment", "action": "report again"},
        )
        ring(COMMITMENT)
    return True


def commitment_refused(request: NormalizedRequest, code: str) -> None:
    """Recorded: who asked for what it may not have."""
    with transaction.atomic():
        audit_record(
            AuditEventType.SECURITY_ALERT if code == "commit-forbidden" else AuditEventType.APPLICATION_ACTIVITY,
            actor=f"ae:{ae_title_shown(request.peer.calling_ae_title)}",
            subject=f"association:{request.peer.association_id[:40]}",
            detail={"service": "storage commitment", "code": code, "address": request.peer.address},
            outcome="refused",
        )


def _record(row: CommitmentRequest, action: str, **detail: object) -> None:
    audit_record(
        AuditEventType.APPLICATION_ACTIVITY,
        actor=f"ae:{row.calling_ae_title}",
        subject=f"commitment:{row.pk}",
        detail={"service": "storage commitment", "action": action, "instances": row.instance_count, **detail},
    )
