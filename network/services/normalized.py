"""What normalised requests become: storage commitment and performed procedure steps."""

from typing import Final

from django.db import close_old_connections
from django.utils.timezone import now

from gateway_project.core.failpoint import failpoint
from gateway_project.core.services.bell import ring_periodics
from network.dimse import statuses
from network.dimse.commitment import REQUEST_ACTION, request_read
from network.dimse.normalized.ports import (
    PERFORMED_PROCEDURE_STEP,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    Event,
    NormalizedReply,
    NormalizedRequest,
)
from network.dimse.procedure_step import StepError, change_read, create_read
from network.dimse.query.errors import QueryError
from network.models import CommitmentRequest, ProcedureStep, StepState
from network.queue import STEPS
from network.services.commitment import (
    CommitmentRefusedError,
    commitment_accept,
    commitment_allow,
    commitment_delivered,
    commitment_event,
    commitment_judge,
    commitment_later,
    commitment_refused,
)
from network.services.procedure_steps import step_allow, step_change, step_create, step_refused
from studies.services.indexer import Indexer

_UNRECOGNISED: Final = NormalizedReply(statuses.UNRECOGNISED_OPERATION, comment="this operation is not offered")


class NormalizedServices:
    """network.dimse.normalized.ports.NormalizedPort; one for each receiver process."""

    def __init__(self, indexer: Indexer) -> None:
        self._indexer = indexer

    def serve(self, request: NormalizedRequest, data: bytes) -> NormalizedReply:
        close_old_connections()
        if request.sop_class_uid == STORAGE_COMMITMENT and request.operation == "action":
            return self._commit(request, data)
        if request.sop_class_uid == PERFORMED_PROCEDURE_STEP and request.operation in ("create", "set"):
            return self._step(request, data)
        return _UNRECOGNISED

    # -- performed procedure steps

    def _step(self, request: NormalizedRequest, data: bytes) -> NormalizedReply:
        """Answered when the step is durable; when it ends, its objects are looked for at once."""
        try:
            step_allow(request)
            step = self._kept(request, data)
        except StepError as error:
            step_refused(request, error.code)
            return NormalizedReply(error.status, request.sop_instance_uid, str(error), error.error_id)
        if step.state != StepState.IN_PROGRESS:
            self._indexer.flush()
            ring_periodics([STEPS])
        return NormalizedReply(statuses.SUCCESS, step.sop_instance_uid)

    def _kept(self, request: NormalizedRequest, data: bytes) -> ProcedureStep:
        if request.operation == "create":
            return step_create(request, create_read(data, explicit=request.explicit), data=data, now=now())
        return step_change(request, change_read(data, explicit=request.explicit), data=data, now=now())

    # -- storage commitment

    def _commit(self, request: NormalizedRequest, data: bytes) -> NormalizedReply:
        """Answered when the request is durable; what was stored just now is in the index before it is judged."""
        try:
            row = self._accepted(request, data)
        except CommitmentRefusedError as error:
            commitment_refused(request, error.code)
            return NormalizedReply(error.status, request.sop_instance_uid, str(error))
        except QueryError as error:
            commitment_refused(request, error.code)
            return NormalizedReply(statuses.INVALID_ARGUMENT, request.sop_instance_uid, str(error))

        failpoint("commitment.accepted")

        def event() -> Event | None:
            failpoint("commitment.answered")
            self._indexer.flush()
            if not commitment_judge(row, now=now()):
                return None
            return commitment_event(row, explicit=request.explicit)

        return NormalizedReply(
            statuses.SUCCESS, request.sop_instance_uid, event=event, event_ended=lambda taken: _ended(row, taken=taken)
        )

    def _accepted(self, request: NormalizedRequest, data: bytes) -> CommitmentRequest:
        commitment_allow(request)
        if request.sop_instance_uid != STORAGE_COMMITMENT_INSTANCE:
            raise CommitmentRefusedError(
                "not the well-known instance", code="commit-instance", status=statuses.NO_SUCH_INSTANCE
            )
        if request.type_id != REQUEST_ACTION:
            raise CommitmentRefusedError("no such action", code="commit-action", status=statuses.NO_SUCH_ACTION)
        transaction_uid, references = request_read(data, explicit=request.explicit)
        return commitment_accept(request, transaction_uid=transaction_uid, references=references, now=now())


def _ended(row: CommitmentRequest, *, taken: bool) -> None:
    if not taken or not commitment_delivered(row, how="same association"):
        commitment_later(row, now=now())
