"""Leased jobs: claimed by a conditional UPDATE, fenced by the claim, given back when a worker dies.

Whoever holds a job object from `job_claim` may write to it only through this module.
"""

import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F, Q, QuerySet

from gateway_project.core.errors import JobFault, LeaseLostError
from gateway_project.core.models import JobState, Lane, LeasedJob, Severity
from gateway_project.core.queues import REGISTRY, Queue
from gateway_project.core.selectors import jobs_of
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.core.services.lanes import lane_fault, lane_healed, lane_wait

logger = logging.getLogger(__name__)
Job = TypeVar("Job", bound=LeasedJob)

MAX_CRASHES = 3
CLAIM_CANDIDATES = 20
STILL_SECONDS = 30.0


def job_subject(job: LeasedJob) -> str:
    return f"job:{job.queue}:{job.pk}"


def jobs_ready(queue: Queue, *, now: datetime) -> QuerySet[Any]:
    """Jobs that could be claimed now, best first: due, and in a lane that is neither paused nor held nor open."""
    if not queue.enabled():
        return queue.model_class()._default_manager.none()
    shut = Q(lane__paused=True) | Q(lane__held=True) | Q(lane__open_until__gt=now) | Q(lane__max_parallel=0)
    shut |= Q(lane__waits_until__gt=now)
    return (
        queue.model_class()
        ._default_manager.filter(queue=queue.name, state=JobState.READY, run_after__lte=now)
        .exclude(shut)
        .order_by("priority", "run_after", "pk")
    )


class _LaneFullError(Exception):
    """The lane takes no further job at this moment; not before `waits_until`, if that is known."""

    def __init__(self, lane_id: int, waits_until: datetime | None = None) -> None:
        super().__init__()
        self.lane_id = lane_id
        self.waits_until = waits_until


def job_claim(queue: Queue, *, now: datetime) -> LeasedJob | None:
    """Takes one ready job under a new claim, its attempt counted; None when none is ready.

    Never two claimers of one job: the UPDATE repeats the ready-condition. Never more than the lane's `max_parallel`
    under way, and one only while its circuit is half open: the lane's row is locked while that is decided. However long
    the line of a full lane is, another lane's job is found behind it. Lanes with faults never keep all workers.
    """
    full: set[int] = set()
    broken: set[int] = set()
    while True:
        ready = jobs_ready(queue, now=now).exclude(lane_id__in=full).exclude(pk__in=broken)
        candidates = list(ready.values_list("pk", "lane_id", "lane__faults")[:CLAIM_CANDIDATES])
        if not candidates:
            return None
        for pk, lane_id, faults in candidates:
            if lane_id in full:
                continue
            try:
                job = _claim_one(queue, pk, lane_id, trial=bool(faults), now=now)
            except _LaneFullError as error:
                full.add(_lane_shut(error, now=now))
            except (OperationalError, InterfaceError):
                raise
            except Exception as error:  # noqa: BLE001 - a job that cannot even be begun must not stop those behind it
                broken.add(pk)
                _alert_unclaimable(queue, pk, error)
            else:
                if job is not None:
                    return job


def _lane_shut(error: _LaneFullError, *, now: datetime) -> int:
    if error.waits_until is not None:
        lane_wait(error.lane_id, until=error.waits_until, now=now)
    return error.lane_id


def _claim_one(queue: Queue, pk: int, lane_id: int | None, *, trial: bool = False, now: datetime) -> LeasedJob | None:
    """The job, claimed; None when another worker was faster. Raises _LaneFullError.

    Lane before job before study: the order in which every transition locks, so that none waits for another in a ring.
    """
    model = queue.model_class()
    with transaction.atomic():
        if lane_id is not None:
            _lane_room_check(queue, _lane_locked(lane_id, trial=trial), now=now)
        still_ready = Q(pk=pk, queue=queue.name, lane=lane_id, state=JobState.READY, run_after__lte=now)
        claimed = model._default_manager.filter(still_ready).update(
            state=JobState.RUNNING,
            claim_id=uuid.uuid4(),
            attempts=F("attempts") + 1,
            lease_until=now + timedelta(seconds=queue.lease_seconds()),
            started_at=now,
            ended_at=None,
            progress_done=0,
            progress_total=0,
            progress_at=now,
            error_code="",
            error_words="",
        )
        if not claimed:
            return None
        job = model._default_manager.get(pk=pk)
        queue.changed_function()(job)
    return job


def _alert_unclaimable(queue: Queue, pk: int, error: Exception) -> None:
    logger.error("job cannot be claimed", extra={"queue": queue.name, "job_pk": pk, "error": type(error).__name__})
    alert_open(
        f"job:{queue.name}:{pk}",
        code="job-unclaimable",
        words=f"A job ({queue.name}) cannot be begun because of a fault in the gateway itself; the log tells what.",
        severity=Severity.CRITICAL,
    )


def _lane_room_check(queue: Queue, lane: Lane, *, now: datetime) -> None:
    if lane.paused or lane.held or (lane.open_until is not None and lane.open_until > now):
        raise _LaneFullError(lane.pk)
    if lane.faults and _trials_in_vain(queue, now=now) >= _trials_most(queue):
        raise _LaneFullError(lane.pk)
    limits = queue.lane_limits(lane, now=now)
    if limits.waits_until is not None and limits.waits_until > now:
        raise _LaneFullError(lane.pk, limits.waits_until)
    room = min(1, limits.max_parallel) if lane.open_until is not None else limits.max_parallel
    if queue.model_class()._default_manager.filter(lane_id=lane.pk, state=JobState.RUNNING).count() >= room:
        raise _LaneFullError(lane.pk)


def _lane_locked(lane_id: int, *, trial: bool) -> Lane:
    """The lane; for a trial together with all others that have faults, so that such claims are decided one by one."""
    wanted = Q(pk=lane_id) | Q(faults__gt=0) if trial else Q(pk=lane_id)
    lanes = Lane.objects.select_for_update(no_key=True).filter(wanted).order_by("pk")
    return next(lane for lane in lanes if lane.pk == lane_id)


def _trials_most(queue: Queue) -> int:
    """One worker of a cluster is never for lanes that do not answer: the others' jobs go on."""
    workers: int = settings.Q_CLUSTER["ALT_CLUSTERS"].get(queue.cluster, {}).get("workers", 1)
    return max(workers - 1, 1)


def _trials_in_vain(queue: Queue, *, now: datetime) -> int:
    """Jobs of the cluster that are under way in lanes with faults, and that nothing has come of yet, or for a while."""
    still = Q(progress_done=0) | Q(progress_at__lt=now - timedelta(seconds=STILL_SECONDS))
    queues = {each.name: each for each in (queue, *REGISTRY.queues.values()) if each.cluster == queue.cluster}
    jobs = jobs_of(queues.values())
    return sum(each.filter(still, state=JobState.RUNNING, lane__faults__gt=0).count() for each in jobs)


def _fenced(job: LeasedJob) -> QuerySet[Any]:
    return type(job)._default_manager.filter(pk=job.pk, state=JobState.RUNNING, claim_id=job.claim_id)


def _transition(queue: Queue, job: LeasedJob, **values: Any) -> None:
    """Writes a transition and what depends on it in one transaction, or raises LeaseLostError and writes nothing.

    The caller's object is left alone, so that after a rollback it still names the claim that it holds.
    """
    with transaction.atomic():
        if not _fenced(job).update(**values):
            raise LeaseLostError("another worker holds this job now")
        queue.changed_function()(type(job)._default_manager.get(pk=job.pk))


def job_progress(queue: Queue, job: LeasedJob, *, done: int, total: int, now: datetime) -> None:
    """Notes progress and renews the lease, which lives only while the work gets on. Raises LeaseLostError."""
    lease_until = now + timedelta(seconds=queue.lease_seconds())
    if not _fenced(job).update(progress_done=done, progress_total=total, progress_at=now, lease_until=lease_until):
        raise LeaseLostError("another worker holds this job now")


def job_note(job: LeasedJob, **values: Any) -> None:
    """Writes fields of the app's own on a job under way, fenced; the object follows. Raises LeaseLostError."""
    if not _fenced(job).update(**values):
        raise LeaseLostError("another worker holds this job now")
    for name, value in values.items():
        setattr(job, name, value)


def job_done(queue: Queue, job: LeasedJob, *, now: datetime, finish: Callable[[], None] | None = None) -> None:
    """Marks the job done together with `finish` (what the work's success writes), in one transaction."""
    with transaction.atomic():
        if job.lane_id is not None and lane_healed(job.lane_id, now=now) > 1:
            _places_restore(queue, job.lane_id)
        if finish is not None:
            finish()
        _transition(
            queue,
            job,
            state=JobState.DONE,
            ended_at=now,
            lease_until=None,
            claim_id=None,
            crashes=0,
            error_code="",
            error_words="",
        )
        alert_heal(job_subject(job))
    job.refresh_from_db()


def _places_restore(queue: Queue, lane_id: int) -> None:
    """After an outage, what was tried meanwhile has its old place in the line.

    A lane's fault puts a job at the end, so that one that the peer never takes cannot keep the others. That is also why
    nothing is restored after a single fault: then the fault may have been that job's own.
    """
    waiting = queue.model_class()._default_manager.filter(
        queue=queue.name, lane_id=lane_id, state=JobState.READY, attempts=0
    )
    waiting.exclude(error_code="").update(run_after=F("created_at"))


def job_failed(queue: Queue, job: LeasedJob, fault: JobFault, *, now: datetime) -> None:
    """Ends an attempt: a lane's fault costs none; a permanent one, or the last attempt, parks the job with an alert."""
    words = str(fault)[:400]
    values: dict[str, Any] = {
        "ended_at": now,
        "lease_until": None,
        "claim_id": None,
        "error_code": fault.code,
        "error_words": words,
    }
    most = queue.max_attempts()
    if fault.lane_fault and job.lane_id is not None:
        with transaction.atomic():
            lane_fault(
                job.lane_id,
                code=fault.code,
                words=words,
                now=now,
                hard_stop=fault.hard_stop,
                retry_after_seconds=fault.retry_after_seconds,
            )
            _transition(queue, job, state=JobState.READY, run_after=now, attempts=F("attempts") - 1, **values)
    elif fault.permanent or (most and job.attempts >= most):
        if not fault.permanent:  # its own words speak of another try
            words = f"No more tries after {job.attempts}; the last one: {words}"[:400]
            values["error_words"] = words
        with transaction.atomic():
            _transition(queue, job, state=JobState.PARKED, **values)
            _alert_parked(job, code=fault.code, words=words)
    else:
        wait = max(queue.delay(job.attempts), fault.retry_after_seconds or 0)
        _transition(queue, job, state=JobState.READY, run_after=now + timedelta(seconds=wait), **values)
    job.refresh_from_db()


def job_give_back(queue: Queue, job: LeasedJob, *, now: datetime, until: datetime | None = None) -> None:
    """A graceful stop, or a wait: the attempt does not count and the job is ready again at once, or `until` then."""
    _transition(
        queue,
        job,
        state=JobState.READY,
        run_after=until or now,
        attempts=F("attempts") - 1,
        lease_until=None,
        claim_id=None,
        ended_at=now,
    )
    job.refresh_from_db()


def job_retry(queue: Queue, job: LeasedJob, *, now: datetime) -> bool:
    """A person asks for another try, with fresh attempts; only what waits or was given up. Answers whether it did."""
    with transaction.atomic():
        retried = (
            type(job)
            ._default_manager.filter(pk=job.pk, state__in=(JobState.READY, JobState.PARKED))
            .update(state=JobState.READY, run_after=now, attempts=0, crashes=0, ended_at=None)
        )
        if retried:
            job.refresh_from_db()
            alert_heal(job_subject(job))
            queue.changed_function()(job)
    return bool(retried)


def jobs_expire(queue: Queue, *, now: datetime) -> int:
    """Gives back what dead workers held; a job whose worker died the third time is parked, so that others flow."""
    model = queue.model_class()
    expired = 0
    for job in model._default_manager.filter(queue=queue.name, state=JobState.RUNNING, lease_until__lt=now)[:200]:
        try:
            expired += _expire_one(queue, job, now=now)
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # a sweep: one job's fault must not keep the others; the next sweep tries it again
            logger.exception("job lease not expired", extra={"job": job_subject(job)})
    return expired


def _expire_one(queue: Queue, job: LeasedJob, *, now: datetime) -> int:
    parked = job.crashes + 1 >= MAX_CRASHES
    words = "The worker that did this was ended from outside, or ended itself, before it was done."
    values: dict[str, Any] = {
        "state": JobState.PARKED if parked else JobState.READY,
        "crashes": F("crashes") + 1,
        "attempts": F("attempts") - 1,
        "run_after": now,
        "claim_id": None,
        "lease_until": None,
        "ended_at": now,
        "error_code": "worker-died",
        "error_words": words,
    }
    with transaction.atomic():
        still_expired = type(job)._default_manager.filter(
            pk=job.pk, state=JobState.RUNNING, claim_id=job.claim_id, lease_until__lt=now
        )
        if not still_expired.update(**values):
            return 0
        job.refresh_from_db()
        queue.changed_function()(job)
        if parked:
            _alert_parked(job, code="worker-died", words=words)
    logger.warning("job lease expired", extra={"job": job_subject(job), "crashes": job.crashes, "parked": parked})
    return 1


def _alert_parked(job: LeasedJob, *, code: str, words: str) -> None:
    alert_open(job_subject(job), code=code, words=f"Given up ({job.queue}): {words}", severity=Severity.CRITICAL)
