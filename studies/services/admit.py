"""Step 0 of receiving: whether there is room for one more object, on the disk, in the quotas and in the index."""

import logging
import threading
import time
from collections import defaultdict
from typing import Protocol

from django.db import DatabaseError

from gateway_project.core.options import option
from studies import selectors
from studies.dicom.spool import SpoolError, Store
from studies.errors import ReceiveError
from studies.options import GB

logger = logging.getLogger(__name__)

FREE_SECONDS = 0.2
USAGE_SECONDS = 15.0
WAIT_STEP_SECONDS = 0.02


class Backlog(Protocol):
    """How far behind the index is."""

    def backlog(self) -> int:
        """Objects that wait."""
        ...

    def backlog_seconds(self) -> float:
        """How long the first of them has been waiting; 0 when none does."""
        ...


class Admission:
    """Refuses while the disk, a quota or the index cannot take more, and admits again by itself when they can.

    Safe for many threads. The free space and the limits are asked for five times a second, the stored bytes every 15 s
    (what this process has received since is added), so that an object costs no system call and no query here.
    """

    def __init__(self, store: Store, index: Backlog) -> None:
        self._store = store
        self._index = index
        self._free = 0
        self._limits: _Limits | None = None
        self._asked_until = 0.0
        self._usage = _Usage()

    def check(self, source: str) -> None:
        """Returns when one more object of this calling AE title may come; raises ReceiveError (busy) when not.

        While the index is behind this waits up to STORAGE.BACKPRESSURE_SECONDS: a slower sender suffers less than a
        refused one. Several threads may go over a bound by one object each.
        """
        limits = self._limits_now()
        if self._free < limits.stop_bytes:
            raise ReceiveError("The gateway's disk is full.", code="disk-full", busy=True)
        if limits.quota_bytes or limits.source_quota_bytes:
            self._check_quotas(source, limits)
        if self._behind(limits):
            self._wait_for_index()

    def received(self, source: str, size_bytes: int) -> None:
        """Counts what was stored until the stored bytes are asked for again."""
        self._usage.add(source, size_bytes)

    def _limits_now(self) -> "_Limits":
        """The limits, and with them the free space, not older than 0.2 s."""
        limits = self._limits
        if limits is None or time.monotonic() >= self._asked_until:
            try:
                self._free = self._store.free_bytes()
            except SpoolError as error:
                raise busy_error(error) from error
            limits = self._limits = _Limits()
            self._asked_until = time.monotonic() + FREE_SECONDS
        return limits

    def _check_quotas(self, source: str, limits: "_Limits") -> None:
        total, own = self._usage.of(source)
        if limits.quota_bytes and total >= limits.quota_bytes:
            raise ReceiveError("The gateway's storage quota is used up.", code="quota-full", busy=True)
        if limits.source_quota_bytes and own >= limits.source_quota_bytes:
            raise ReceiveError("This sender's storage quota is used up.", code="source-quota-full", busy=True)

    def _behind(self, limits: "_Limits") -> bool:
        return (
            self._index.backlog() >= limits.backlog_objects or self._index.backlog_seconds() >= limits.backlog_seconds
        )

    def _wait_for_index(self) -> None:
        deadline = time.monotonic() + option("STORAGE.BACKPRESSURE_SECONDS")
        while time.monotonic() < deadline:
            time.sleep(WAIT_STEP_SECONDS)
            if not self._behind(_Limits()):
                return
        raise ReceiveError("The gateway's index is behind.", code="index-behind", busy=True)


class _Limits:
    """What the options say at one moment."""

    __slots__ = ("backlog_objects", "backlog_seconds", "quota_bytes", "source_quota_bytes", "stop_bytes")

    def __init__(self) -> None:
        self.stop_bytes: float = option("STORAGE.STOP_SPACE_GB") * GB
        self.quota_bytes: float = option("STORAGE.QUOTA_GB") * GB
        self.source_quota_bytes: float = option("STORAGE.QUOTA_PER_SOURCE_GB") * GB
        self.backlog_objects: int = option("STORAGE.INDEX_BACKLOG")
        self.backlog_seconds: float = option("STORAGE.INDEX_BACKLOG_SECONDS")


class _Usage:
    """Stored bytes in all and by calling AE title: as the index says, and what has come since."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._measured: dict[str, int] = {}
        self._since: dict[str, int] = defaultdict(int)
        self._next = 0.0

    def add(self, source: str, size_bytes: int) -> None:
        with self._lock:
            self._since[source] += size_bytes

    def of(self, source: str) -> tuple[int, int]:
        """In all, and of this source. While the database cannot be asked the last known numbers rule."""
        with self._lock:
            if time.monotonic() >= self._next:
                self._measure()
            total = sum(self._measured.values()) + sum(self._since.values())
            return total, self._measured.get(source, 0) + self._since.get(source, 0)

    def _measure(self) -> None:
        try:
            self._measured = selectors.stored_bytes_by_source()
            self._since.clear()
        except DatabaseError as error:
            logger.warning("stored bytes not measured", extra={"error": type(error).__name__})
        self._next = time.monotonic() + USAGE_SECONDS


def busy_error(error: SpoolError) -> ReceiveError:
    """The store could not do it now: for the sender a reason to try again later."""
    logger.error("object not stored", extra={"code": error.code})
    return ReceiveError("The gateway could not store the object.", code=error.code, busy=True)
