"""Receiving one object: admitted, streamed, validated, durable - and only then acknowledged."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from django.db import DatabaseError
from django.utils.timezone import now as time_now

from gateway_project.core.failpoint import failpoint
from gateway_project.core.options import option
from studies.dicom.errors import DatasetError
from studies.dicom.header import Header
from studies.dicom.part10 import ae_title_clean, file_meta
from studies.dicom.scan import DatasetScanner
from studies.dicom.spool import Intake, PartFile, SpooledObject, SpoolError, Store
from studies.dicom.uids import uid_clean
from studies.services.quarantine import quarantine_record

logger = logging.getLogger(__name__)

GIB = 1 << 30
MISMATCHES = frozenset({"instance-uid-differs", "class-uid-differs"})


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Indexable:
    """A durable object that the index does not know yet."""

    spooled: SpooledObject
    header: Header
    arrival: Arrival
    received_at: datetime


class ReceiveError(Exception):
    """Why an object was not taken in. `busy`: not its fault, the sender may try again later.

    `mismatch`: command and data set do not belong together (PS3.4 B.2.3, A900); otherwise it cannot be understood
    (Cxxx).
    """

    def __init__(self, message: str, *, code: str, busy: bool = False, mismatch: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.busy = busy
        self.mismatch = mismatch


class Index(Protocol):
    """Where durable objects go: see studies.services.indexer."""

    def backlog(self) -> int: ...
    def add(self, item: Indexable) -> None: ...


class InstanceReceiver:
    """Takes objects in, from many association threads at once."""

    def __init__(self, store: Store, intake: Intake, index: Index) -> None:
        self._store = store
        self._intake = intake
        self._index = index

    def admit(self) -> None:
        """Step 0: refuses while the disk or the index could not keep up. Raises ReceiveError (busy)."""
        try:
            free = self._store.free_bytes()
        except SpoolError as error:
            raise _busy(error) from error
        if free < option("STORAGE.STOP_SPACE_GB") * GIB:
            raise ReceiveError("The gateway's disk is full.", code="disk-full", busy=True)
        if self._index.backlog() >= option("STORAGE.INDEX_BACKLOG"):
            raise ReceiveError("The gateway's index is behind.", code="index-behind", busy=True)

    def begin(self, arrival: Arrival) -> "Reception":
        """An object is about to come; end it with `commit` or `abort`. Raises ReceiveError (busy)."""
        self.admit()
        try:
            return Reception(self, self._intake.begin(), arrival)
        except SpoolError as error:
            raise _busy(error) from error

    def receive(self, arrival: Arrival, chunks: Iterable[bytes | memoryview]) -> SpooledObject:
        """`begin`, all of the chunks, `commit`; raises what they raise, and then nothing is left but what they keep."""
        reception = self.begin(arrival)
        try:
            for chunk in chunks:
                reception.write(chunk)
            return reception.commit()
        finally:
            reception.abort()

    def _durable(self, spooled: SpooledObject, header: Header, arrival: Arrival) -> None:
        failpoint("receive.durable")
        self._index.add(Indexable(spooled, header, arrival, time_now()))

    def _quarantine(self, part: PartFile, arrival: Arrival, error: DatasetError) -> None:
        """Durable in quarantine before the sender hears of the refusal; the row may follow with the next recovery."""
        try:
            spooled = part.commit()
            self._store.quarantine(spooled.path, sha256=spooled.sha256)
        except SpoolError as failed:
            raise _busy(failed) from failed
        failpoint("receive.quarantined")
        try:
            quarantine_record(
                arrival, sha256=spooled.sha256, size_bytes=spooled.size_bytes, code=error.code, reason=str(error)
            )
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
        self._scanner = DatasetScanner(arrival.transfer_syntax_uid)
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

    def commit(self) -> SpooledObject:
        """Returns only when the object is readable, whole and durable: the caller may answer Success.

        An object that cannot be understood is kept in quarantine and ReceiveError is raised. One that could not be
        stored leaves nothing behind. After a crash: before the rename nothing is kept, after it the object is adopted.
        """
        if self._busy is not None:
            raise _busy(self._busy) from self._busy
        try:
            header = self._header()
            spooled = self._part.commit()
        except DatasetError as error:
            self._receiver._quarantine(self._part, self._arrival, error)
            raise ReceiveError(str(error), code=error.code, mismatch=error.code in MISMATCHES) from error
        except SpoolError as error:
            raise _busy(error) from error
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
        return header


def identity_check(header: Header, *, sop_class_uid: str, sop_instance_uid: str) -> None:
    """The object says who it is, and it is what was announced (PS3.4 B.2.3: A900 if not). Raises DatasetError."""
    _study, _series, sop_class, sop_instance = header.identity()
    if sop_instance != uid_clean(sop_instance_uid):
        raise DatasetError("instance-uid-differs")
    if sop_class != uid_clean(sop_class_uid):
        raise DatasetError("class-uid-differs")


def _meta(arrival: Arrival) -> bytes:
    return file_meta(
        sop_class_uid=uid_clean(arrival.sop_class_uid),
        sop_instance_uid=uid_clean(arrival.sop_instance_uid),
        transfer_syntax_uid=arrival.transfer_syntax_uid,
        source_ae_title=_ae_title(arrival.source_ae_title),
        receiving_ae_title=_ae_title(arrival.receiving_ae_title),
    )


def _ae_title(title: str) -> str:
    """A title that the file meta may not hold is left out: nobody's object is refused for its sender's name."""
    try:
        return ae_title_clean(title)
    except DatasetError:
        return ""


def _busy(error: SpoolError) -> ReceiveError:
    logger.error("object not stored", extra={"code": error.code})
    return ReceiveError("The gateway could not store the object.", code=error.code, busy=True)
