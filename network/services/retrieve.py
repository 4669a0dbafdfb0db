"""C-MOVE and C-GET for those who may: the instances are found, the destination is known, and it is recorded."""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from django.db import Error, close_old_connections, transaction

from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.services.audit import audit_record
from network.dimse import statuses
from network.dimse.errors import AssociationError, ConfigurationError
from network.dimse.query.errors import QueryError
from network.dimse.query.ports import FindRequest
from network.dimse.retrieve.counters import SubOperations
from network.dimse.retrieve.models import FIND_MODEL
from network.dimse.retrieve.ports import RetrievePlan, RetrieveRequest
from network.dimse.scu.pool import PeerAddress
from network.models import LocalAE, RemoteAE
from network.selectors.retrieve import Found, instances_named
from network.services.associations import ae_title_shown
from network.services.peers import peer_address, peer_answered, peer_failed, peer_timeouts
from network.services.pools import PoolKeeper
from network.services.query import Places, question_of
from studies.dicom.errors import DicomError
from studies.dicom.recode import alternatives, recode
from studies.dicom.spool import Store
from studies.selectors import store_root

logger = logging.getLogger(__name__)
RECODE_MEMORY_BYTES = 256 << 20
"""A recoded object is made in memory; a larger one is sent as it is stored, or not at all."""


@dataclass(frozen=True)
class StoredFile:
    """One stored instance as it travels: its data set is the end of its file."""

    store: Store
    path: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset_bytes: int

    def open_dataset(self) -> BinaryIO:
        """Raises OSError when the file is not what the index says."""
        try:
            stream = self.store.open(self.path)
        except DicomError as error:
            raise OSError(error.code) from error
        start = stream.seek(0, io.SEEK_END) - self.dataset_bytes
        if start <= 0:
            stream.close()
            raise OSError("object-damaged")
        stream.seek(start)
        return stream

    @property
    def alternatives(self) -> Sequence[str]:
        return alternatives(self.transfer_syntax_uid) if self.dataset_bytes <= RECODE_MEMORY_BYTES else ()

    def recoded(self, transfer_syntax_uid: str) -> "RecodedInstance":
        """Raises OSError when it cannot be made: the object is ugly, or not there."""
        out = io.BytesIO()
        with self.open_dataset() as stream:
            try:
                recode(
                    stream, self.dataset_bytes, from_uid=self.transfer_syntax_uid, to_uid=transfer_syntax_uid, out=out
                )
            except DicomError as error:
                raise OSError(error.code) from error
        return RecodedInstance(self.sop_class_uid, self.sop_instance_uid, transfer_syntax_uid, out.getvalue())


@dataclass(frozen=True)
class RecodedInstance:
    """The same content in another encoding, in memory."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    content: bytes
    alternatives: Sequence[str] = ()

    @property
    def dataset_bytes(self) -> int:
        return len(self.content)

    def open_dataset(self) -> BinaryIO:
        return io.BytesIO(self.content)

    def recoded(self, transfer_syntax_uid: str) -> "RecodedInstance":
        raise OSError("already recoded")


class RetrievalService:
    """network.dimse.retrieve.ports.RetrievePort over index and store; one for each receiver process."""

    def __init__(self, keeper: PoolKeeper) -> None:
        self._places = Places("RETRIEVE.MAX_PARALLEL_PER_PEER")
        self._keeper = keeper

    def plan(self, request: RetrieveRequest, identifier: bytes) -> RetrievePlan:
        """What this peer may have. A refusal is recorded; the end of what was begun is recorded by `ended`."""
        close_old_connections()
        try:
            return self._plan(request, identifier)
        except QueryError as error:
            _record(request, outcome="refused", detail={"code": error.code})
            raise
        except Error:
            close_old_connections()
            raise

    def _plan(self, request: RetrieveRequest, identifier: bytes) -> RetrievePlan:
        if not request.peer.rights.retrieve:
            raise QueryError(
                "this AE may not retrieve: ask the gateway's operator",
                code="retrieve-forbidden",
                status=statuses.NOT_AUTHORIZED,
            )
        address = _destination(request.destination) if request.is_move else None
        question = question_of(
            FindRequest(
                peer=request.peer,
                sop_class_uid=FIND_MODEL[request.sop_class_uid],
                transfer_syntax_uid=request.transfer_syntax_uid,
                relational=request.relational,
            ),
            identifier,
        )
        found = instances_named(question, visible=request.peer.rights.visible, limit=option("RETRIEVE.MAX_INSTANCES"))
        store = Store(store_root())
        plan = RetrievePlan(
            items=[_stored(store, one) for one in found if one.is_here],
            missing=[one.sop_instance_uid for one in found if not one.is_here],
            address=address,
            timeouts=peer_timeouts(),
            pool=self._keeper.pool(),
        )
        self._places.take(request.peer.calling_ae_title)  # last: only `ended` gives it back
        return plan

    def ended(
        self,
        request: RetrieveRequest,
        plan: RetrievePlan,
        done: SubOperations,
        *,
        code: str,
        failure: AssociationError | None = None,
    ) -> None:
        """Recorded in the trail, told in a line, and the destination's row says why it could not be served."""
        self._places.give_back(request.peer.calling_ae_title)
        counts = {"completed": done.completed, "warning": done.warning, "failed": done.failed, "total": done.total}
        logger.info("retrieval ended", extra={**counts, "code": code, "association": request.peer.association_id})
        close_old_connections()
        if request.is_move:
            _destination_note(request.destination, done, failure)
        failed = bool(code and code != "cancelled") or bool(done.failed)
        _record(request, outcome="failure" if failed else "success", detail={**counts, "code": code})


def _stored(store: Store, one: Found) -> StoredFile:
    return StoredFile(store, one.path, one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid, one.size_bytes)


def _destination(ae_title: str) -> PeerAddress:
    """Where a C-MOVE goes: an AE that we know and may call, and never ourselves (a loop). Raises QueryError (A801)."""
    remote = RemoteAE.objects.filter(ae_title=ae_title, enabled=True).exclude(host="").first()
    if remote is None or LocalAE.objects.filter(ae_title=ae_title, enabled=True).exists():
        raise _unknown("move destination unknown: enter it as a remote AE")
    try:
        return peer_address(remote)
    except ConfigurationError as error:
        raise _unknown("move destination cannot be called as it is set") from error


def _destination_note(ae_title: str, done: SubOperations, failure: AssociationError | None) -> None:
    """What the peers' page says of it; that all of ours to it are in use is no fault of its own."""
    if failure is None:
        if done.completed:
            peer_answered(ae_title)
    elif failure.code != "pool-full":
        for remote in RemoteAE.objects.filter(ae_title=ae_title):
            peer_failed(remote, failure)


def _unknown(words: str) -> QueryError:
    return QueryError(words, code="move-destination-unknown", status=statuses.MOVE_DESTINATION_UNKNOWN)


def _record(request: RetrieveRequest, *, outcome: str, detail: dict[str, object]) -> None:
    """One record of the trail (PS3.15 A.5.3.7: instances transferred)."""
    destination = ae_title_shown(request.destination or request.peer.calling_ae_title)
    kind = "C-MOVE" if request.is_move else "C-GET"
    told = {"service": kind, "destination": destination, "address": request.peer.address, **detail}
    with transaction.atomic():
        audit_record(
            AuditEventType.INSTANCES_TRANSFERRED,
            actor=f"ae:{ae_title_shown(request.peer.calling_ae_title)}",
            subject=f"association:{request.peer.association_id[:40]}",
            detail={name: value for name, value in told.items() if value != ""},
            outcome=outcome,
        )
