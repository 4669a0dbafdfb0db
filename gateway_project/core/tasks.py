"""What the clusters' workers are rung for: drain a queue, do what is due."""

import logging
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial

from django.conf import settings
from django.db import close_old_connections
from django.utils.module_loading import import_string

from gateway_project.core.clock import database_now
from gateway_project.core.errors import JobFault, JobWaitsError, LaneWaitsError, LeaseLostError, StopAskedError
from gateway_project.core.log_files import directory_probe
from gateway_project.core.logs import correlation_new
from gateway_project.core.machine import machine_key, machine_words
from gateway_project.core.models import AlertNotice, JobState, LeasedJob, Severity
from gateway_project.core.processes import stopping
from gateway_project.core.queues import REGISTRY, Queue
from gateway_project.core.services import jobs, notices
from gateway_project.core.services.alerts import alert_heal, alert_open
from gateway_project.core.services.audit import audit_seal_due, audit_verify_part
from gateway_project.core.services.bell import ring
from gateway_project.core.services.lanes import lane_wait

logger = logging.getLogger(__name__)
ALERT_AUDIT = "audit:chain"
ALERT_LOGS = "logs"


def drain(queue_name: str) -> int:
    """Claims and does jobs of one queue; answers how many.

    Ends when none is ready, when a stop is asked, or when the drain's minute is over: then it rings again.
    """
    queue = REGISTRY.queues[queue_name]
    deadline = time.monotonic() + settings.DRAIN_SECONDS
    done = 0
    while not stopping():
        job = jobs.job_claim(queue, now=database_now())
        if job is None:
            return done
        going_on = run_one(queue, job)
        done += 1
        if not going_on:
            return done
        if time.monotonic() > deadline:
            ring(queue_name)
            return done
    return done


def run_one(queue: Queue, job: LeasedJob) -> bool:
    """Does one claimed job and writes how it ended. Never raises: whatever goes wrong becomes the job's own fault.

    Work that returns without having called `job_done` is done. Answers False when the work asked to stop.
    """
    correlation_new()
    going_on = True
    logger.info("job started", extra={"job": jobs.job_subject(job), "attempt": job.attempts})
    try:
        queue.run_function()(job)
    except LeaseLostError:
        logger.warning("job lease lost", extra={"job": jobs.job_subject(job)})
    except LaneWaitsError as waits:
        _write(partial(_lane_closed, queue, job, waits), job)
    except JobWaitsError as waits:
        _write(partial(jobs.job_give_back, queue, job, now=database_now(), until=waits.until), job)
    except StopAskedError:
        going_on = False
        _write(partial(jobs.job_give_back, queue, job, now=database_now()), job)
    except JobFault as fault:
        logger.warning(
            "job failed", extra={"job": jobs.job_subject(job), "code": fault.code, "lane_fault": fault.lane_fault}
        )
        _write(partial(jobs.job_failed, queue, job, fault, now=database_now()), job)
    except Exception:  # the outermost loop of a worker: an error of ours is logged whole, and the job waits its turn
        logger.exception("job raised", extra={"job": jobs.job_subject(job)})
        ours = JobFault("Something in the gateway itself went wrong; the log tells what.", code="internal")
        _write(partial(jobs.job_failed, queue, job, ours, now=database_now()), job)
    else:
        if job.state == JobState.RUNNING:
            _write(partial(jobs.job_done, queue, job, now=database_now()), job)
        logger.info("job ended", extra={"job": jobs.job_subject(job)})
    close_old_connections()
    return going_on


def _lane_closed(queue: Queue, job: LeasedJob, waits: LaneWaitsError) -> None:
    jobs.job_give_back(queue, job, now=database_now())
    if job.lane_id is not None:
        lane_wait(job.lane_id, until=waits.until, now=database_now())


def _write(write: Callable[[], None], job: LeasedJob) -> None:
    try:
        write()
    except LeaseLostError:
        logger.warning("job lease lost", extra={"job": jobs.job_subject(job)})
    except Exception:  # the end could not be written: the lease runs out and the job is given back
        logger.exception("job end not written", extra={"job": jobs.job_subject(job)})


def tick(names: list[str]) -> None:
    """Does the periodic work of these names, each apart from the others' failures."""
    for name in names:
        try:
            import_string(REGISTRY.periodics[name].function)(database_now())
        except Exception:  # the outermost loop of a sweep: log, go on with the next
            logger.exception("periodic work raised", extra={"periodic": name})
    close_old_connections()


def leases_expire(now: datetime) -> None:
    """Gives back the jobs of dead workers and rings for them."""
    for queue in REGISTRY.queues.values():
        if jobs.jobs_expire(queue, now=now):
            ring(queue.name)


def audit_seal(now: datetime) -> None:
    """Chains the audit records written since the last time."""
    while audit_seal_due() == 500 and not stopping():
        continue


def logs_watch(_now: datetime) -> None:
    """Opens an alert while log lines are lost, heals it when they can be written. Nothing else stops for their sake."""
    reason = directory_probe(settings.DATA_DIR / "logs")
    if not reason:
        alert_heal(machine_key(ALERT_LOGS))
        return
    words = (
        f"The log directory cannot be written to ({reason}), so log lines are lost; receiving and sending go on. "
        "Make room there, or mend its mount and rights."
    )
    alert_open(machine_key(ALERT_LOGS), code="logs-unwritable", words=machine_words(words))


def audit_check(now: datetime) -> None:
    """Raises the alarm when the part of the audit trail whose turn it is was changed; only a person heals that."""
    broken = audit_verify_part(now)
    if broken is not None:
        words = f"The audit trail was changed: link {broken} does not hold. Keep the database as it is; find out who."
        alert_open(ALERT_AUDIT, code="audit-chain-broken", words=words, severity=Severity.CRITICAL)


def notices_write(now: datetime) -> None:
    """Writes the messages about alerts that are due; the queue of their own sends them."""
    notices.notices_write(now)


def notice_run(notice: AlertNotice) -> None:
    """Sends one message about alerts."""
    notices.notice_send(notice, now=database_now())


def notice_changed(_notice: AlertNotice) -> None:
    """Nothing is derived from a message's state."""
