"""Receiving one object: admitted, streamed, validated, durable - and only then acknowledged."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Protocol

from django.db import DatabaseError
from django.utils.timezone import now as time_now

from gateway_project.core.failpoint import failpoint
from studies.dicom.errors import DatasetError
from studies.dicom.header import Header
from studies.dicom.part10 import ae_title_clean, file_meta
from studies.dicom.scan import DatasetScanner
from studies.dicom.spool import Intake, PartFile, SpooledObject, SpoolError, Store
from studies.dicom.uids import uid_clean
from studies.errors import ReceiveError
from studies.policies import source_policies
from studies.services.admit import Admission, Backlog, busy_error
from studies.services.ingress import Ingress
from studies.services.quarantine import quarantine_take

logger = logging.getLogger(__name__)

__all__ = ["Arrival", "Index", "Indexable", "InstanceReceiver", "ReceiveError", "identity_check", "strictness_check"]

MISMATCHES = frozenset({"instance-uid-differs", "class-uid-differs"})


@dataclass(slots=True)
class Arrival:
    """What is known of an object beside its data set: from the command, the context and the association."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source_ae_title: str
    receiving_ae_title: str
    peer_address: str
    association_id: str
    context_sop_class_uid: str = ""  # what the presentation context was accepted for, where there was one


@dataclass(slots=True)
class Indexable:
    """A durable object that the index does not know yet."""

    spooled: SpooledObject
    header: Header
    arrival: Arrival
    received_at: datetime


class Index(Backlog, Protocol):
    """Where durable objects go: see studies.services.indexer."""

    def add(self, item: Indexable) -> None: ...


class InstanceReceiver:
    """Takes objects in, from many association threads at once."""

    def __init__(self, store: Store, intake: Intake, index: Index) -> None:
        self._store = store
        self._intake = intake
        self._index = index
        self._admission = Admission(store, index)
        self._ingress = Ingress()

    def admit(self, source_ae_title: str = "") -> None:
        """Step 0: refuses while disk, quota or index cannot take more; see `Admission`. Raises ReceiveError (busy)."""
        self._admission.check(source_ae_title)

    def close(self) -> None:
        """What is counted and not yet audited is written. Nothing is received afterwards."""
        self._ingress.close()

    def begin(self, arrival: Arrival) -> "Reception":
        """An object is about to come; end it with `commit` or `abort`. Raises ReceiveError (busy)."""
        self.admit(arrival.source_ae_title)
        try:
            return Reception(self, self._intake.begin(), arrival)
        except SpoolError as error:
            raise busy_error(error) from error

    def receive(self, arrival: Arrival, chunks: Iterable[bytes | memoryview]) -> SpooledObject | None:
        """`begin`, all of the chunks, `commit`; raises what they raise, and then nothing is left but what they keep."""
        reception = self.begin(arrival)
        try:
            for chunk in chunks:
                reception.write(chunk)
            return reception.commit()
        finally:
            reception.abort()

    def _wants_nothing_of(self, header: Header, arrival: Arrival, size_bytes: int) -> bool:
        return self._ingress.filters(header, source=arrival.source_ae_title, size_bytes=size_bytes)

    def _durable(self, spooled: SpooledObject, header: Header, arrival: Arrival) -> None:
        failpoint("receive.durable")
        self._admission.received(arrival.source_ae_title, spooled.size_bytes)
        self._index.add(Indexable(spooled, header, arrival, time_now()))

    def _quarantine(self, part: PartFile, arrival: Arrival, error: DatasetError) -> None:
        """Durable before the sender hears of the refusal; without a database the row follows with the next recovery."""
        try:
            spooled = part.commit()
            quarantine_take(
                self._store,
                spooled.path,
                arrival,
                sha256=spooled.sha256,
                size_bytes=spooled.size_bytes,
                code=error.code,
                reason=str(error),
            )
        except SpoolError as failed:
            raise busy_error(failed) from failed
        except DatabaseError:
            logger.exception("quarantine row not written")
            return
        try:
            self._intake.release(spooled.path)
        except SpoolError as failed:  # it is kept and known; the next recovery removes the name
            logger.warning("refused object not released", extra={"code": failed.code})


class Reception:
    """One object on its way in, in constant memory; belongs to one thread.

    All of it is written whatever the validation says, so that quarantine holds what was sent; `commit` tells.
    """

    __slots__ = ("_arrival", "_busy", "_part", "_problem", "_receiver", "_scanner")

    def __init__(self, receiver: InstanceReceiver, part: PartFile, arrival: Arrival) -> None:
        self._receiver = receiver
        self._part = part
        self._arrival = arrival
        self._scanner = DatasetScanner(arrival.transfer_syntax_uid, keep=receiver._ingress.keep())
        self._problem: DatasetError | None = None
        self._busy: SpoolError | None = None
        try:
            part.write_meta(_meta(arrival))
        except DatasetError as error:
            self._problem = error
        except SpoolError as error:
            self._busy = error

    def write(self, data: bytes | memoryview) -> None:
        """The next bytes of the data set are hashed, written and scanned. What is wrong is told by `commit`."""
        if self._busy is not None:
            return
        try:
            self._part.write(data)
        except SpoolError as error:
            self._busy = error
            return
        if self._problem is None:
            try:
                self._scanner.feed(data)
            except DatasetError as error:
                self._problem = error

    def commit(self) -> SpooledObject | None:
        """Returns only when the object is readable, whole and durable: the caller may answer Success.

        None: an ingress filter wants nothing of it, and nothing is kept; the caller answers Success all the same.
        An object that cannot be understood is kept in quarantine and ReceiveError is raised. One that could not be
        stored leaves nothing behind. After a crash an object is adopted if its mark was written; else nothing is kept.
        """
        if self._busy is not None:
            raise busy_error(self._busy) from self._busy
        try:
            header = self._header()
            if self._receiver._wants_nothing_of(header, self._arrival, self._part.size_bytes):
                return None
            spooled = self._part.commit()
        except DatasetError as error:
            self._receiver._quarantine(self._part, self._arrival, error)
            raise ReceiveError(str(error), code=error.code, mismatch=error.code in MISMATCHES) from error
        except SpoolError as error:
            raise busy_error(error) from error
        self._receiver._durable(spooled, header, self._arrival)
        return spooled

    def abort(self) -> None:
        """Nothing is left of it, unless it was committed. Never raises; may be repeated."""
        self._part.abort()

    def _header(self) -> Header:
        if self._problem is not None:
            raise self._problem
        header, arrival = self._scanner.finish(), self._arrival
        if arrival.context_sop_class_uid not in ("", uid_clean(arrival.sop_class_uid)):
            raise DatasetError("class-uid-differs")
        identity_check(header, sop_class_uid=arrival.sop_class_uid, sop_instance_uid=arrival.sop_instance_uid)
        strictness_check(header, arrival.source_ae_title)
        return header


def identity_check(header: Header, *, sop_class_uid: str, sop_instance_uid: str) -> None:
    """The object says who it is, and it is what was announced (PS3.4 B.2.3: A900 if not). Raises DatasetError."""
    _study, _series, sop_class, sop_instance = header.identity()
    if sop_instance != uid_clean(sop_instance_uid):
        raise DatasetError("instance-uid-differs")
    if sop_class != uid_clean(sop_class_uid):
        raise DatasetError("class-uid-differs")


def strictness_check(header: Header, source_ae_title: str) -> None:
    """What is flagged is refused where the policy of its source is strict. Raises DatasetError "source-strict".

    Only what has just come is judged: recovery takes in what it finds, for it may have been acknowledged before.
    """
    if header.flags and source_policies().strict_for(source_ae_title):
        raise DatasetError("source-strict", ", ".join(header.flags))


def _meta(arrival: Arrival) -> bytes:
    return file_meta(
        sop_class_uid=uid_clean(arrival.sop_class_uid),
        sop_instance_uid=uid_clean(arrival.sop_instance_uid),
        transfer_syntax_uid=arrival.transfer_syntax_uid,
        source_ae_title=_ae_title(arrival.source_ae_title),
        receiving_ae_title=_ae_title(arrival.receiving_ae_title),
    )


@lru_cache(maxsize=256)
def _ae_title(title: str) -> str:
    """A title that the file meta may not hold is left out: nobody's object is refused for its sender's name."""
    try:
        return ae_title_clean(title)
    except DatasetError:
        return ""
