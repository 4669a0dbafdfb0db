"""The commitment queue's work, rung for by the core: judges, calls the peer, translates its errors into job faults."""

from datetime import timedelta

from django.db import transaction

from gateway_project.core.clock import database_now
from gateway_project.core.errors import JobFault, JobWaitsError
from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.services.audit import audit_record
from network.dimse.errors import DimseError
from network.dimse.scu import ClientAssociation
from network.dimse.scu.commitment import EXPLICIT_LITTLE, REPORTING, commitment_context, event_report
from network.models import CommitmentRequest
from network.services.commitment import commitment_event, commitment_judge
from network.services.peers import peer_address, peer_answered, peer_failed, peer_timeouts
from network.services.pools import worker_pool


def commitment_run(job: CommitmentRequest) -> None:
    """Reports one judged request to its peer on an association of ours. Raises JobFault, JobWaitsError."""
    now = database_now()
    if not commitment_judge(job, now=now):
        raise JobWaitsError(min(job.deadline_at, now + timedelta(seconds=option("COMMIT.RECHECK_SECONDS"))))
    remote = job.remote
    try:
        address = peer_address(remote)
        worker_pool().run(address, [REPORTING], lambda opened: _report(opened, job), timeouts=peer_timeouts())
    except DimseError as error:
        peer_failed(remote, error)
        raise JobFault(str(error), code=error.code) from error
    peer_answered(remote.ae_title)
    with transaction.atomic():
        audit_record(
            AuditEventType.APPLICATION_ACTIVITY,
            actor="process:commitment",
            subject=f"commitment:{job.pk}",
            detail={"service": "storage commitment", "action": "reported", "how": "association of ours"},
        )


def _report(opened: ClientAssociation, job: CommitmentRequest) -> None:
    """May be repeated: the peer knows the report by its Transaction UID."""
    explicit = commitment_context(opened).transfer_syntax == EXPLICIT_LITTLE
    event_report(opened, commitment_event(job, explicit=explicit))


def commitment_changed(_job: CommitmentRequest) -> None:
    """Nothing is derived from these rows."""
