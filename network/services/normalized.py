"""What normalised requests become: storage commitment here, performed procedure steps in a service of their own."""

from typing import Final

from django.db import close_old_connections
from django.utils.timezone import now

from network.dimse import statuses
from network.dimse.commitment import REQUEST_ACTION, request_read
from network.dimse.normalized.ports import (
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    Event,
    NormalizedReply,
    NormalizedRequest,
)
from network.dimse.query.errors import QueryError
from network.models import CommitmentRequest
from network.services.commitment import (
    CommitmentRefusedError,
    commitment_accept,
    commitment_delivered,
    commitment_event,
    commitment_judge,
    commitment_later,
    commitment_refused,
)
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
        return _UNRECOGNISED

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

        def event() -> Event | None:
            self._indexer.flush()
            if not commitment_judge(row, now=now()):
                return None
            return commitment_event(row, explicit=request.explicit)

        return NormalizedReply(
            statuses.SUCCESS, request.sop_instance_uid, event=event, event_ended=lambda taken: _ended(row, taken=taken)
        )

    def _accepted(self, request: NormalizedRequest, data: bytes) -> CommitmentRequest:
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
