"""Adapters from the DIMSE port to our services: the only place where DIMSE statuses meet our error codes."""

import logging

from django.db import close_old_connections, connection

from gateway_project.core.logs import correlation_set
from network.dimse import statuses
from network.dimse.ports import AssociationSummary, Peer, StoreRequest, StoreResult, StoreSink
from network.dimse.sinks import RefusingSink
from network.services.associations import ae_title_shown, association_record
from studies.services.indexer import Indexer
from studies.services.receive import Arrival, InstanceReceiver, ReceiveError, Reception

logger = logging.getLogger(__name__)


class StorageHandlers:
    """network.dimse.ports.StorePort over studies' receiving; called in the association's own thread."""

    def __init__(self, receiver: InstanceReceiver, indexer: Indexer) -> None:
        self._receiver = receiver
        self._indexer = indexer

    def association_opened(self, peer: Peer) -> None:
        correlation_set(peer.association_id)
        close_old_connections()
        logger.info("association opened", extra=_who(peer))

    def begin(self, request: StoreRequest) -> StoreSink:
        """The object goes to studies while it arrives; a refusal is answered when all of it has been read."""
        peer = request.peer
        arrival = Arrival(
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax_uid=request.transfer_syntax_uid,
            source_ae_title=ae_title_shown(peer.calling_ae_title),
            receiving_ae_title=ae_title_shown(peer.called_ae_title),
            peer_address=peer.address,
            association_id=peer.association_id,
            context_sop_class_uid=request.abstract_syntax_uid,
        )
        try:
            return _ReceptionSink(self._receiver.begin(arrival), peer)
        except ReceiveError as error:
            return RefusingSink(_refusal(error, peer))

    def association_releasing(self, peer: Peer) -> None:
        """Everything is indexed at once (waiting at most 2 s), so that a query right after the release sees it."""
        self._indexer.flush()

    def association_closed(self, peer: Peer, summary: AssociationSummary) -> None:
        """The end is recorded, when nobody waits for it any more."""
        try:
            association_record(peer, summary)
        finally:
            connection.close()
        logger.info(
            "association closed",
            extra={
                "outcome": summary.outcome,
                "stored": summary.objects_stored,
                "refused": summary.objects_refused,
                "bytes": summary.bytes_received,
                **_who(peer),
            },
        )


def status_of(error: ReceiveError) -> int:
    """A700 out of resources, A900 data set does not match SOP class, C000 cannot understand (PS3.4 table B.2-1)."""
    if error.busy:
        return statuses.OUT_OF_RESOURCES
    return statuses.DATASET_MISMATCH if error.mismatch else statuses.CANNOT_UNDERSTAND


class _ReceptionSink:
    """network.dimse.ports.StoreSink over one of studies' receptions."""

    def __init__(self, reception: Reception, peer: Peer) -> None:
        self._reception = reception
        self._peer = peer
        self.write = reception.write
        self.abort = reception.abort

    def commit(self) -> StoreResult:
        """Success only when the object is durable (PS3.4 B.2.3)."""
        try:
            self._reception.commit()
        except ReceiveError as error:
            return _refusal(error, self._peer)
        return StoreResult(statuses.SUCCESS)


def _refusal(error: ReceiveError, peer: Peer) -> StoreResult:
    logger.warning("object refused", extra={"code": error.code, **_who(peer)})
    return StoreResult(status_of(error), error.code)


def _who(peer: Peer) -> dict[str, object]:
    return {
        "association": peer.association_id,
        "calling": ae_title_shown(peer.calling_ae_title),
        "address": peer.address,
    }
