"""The indexer: one thread per receiver process that turns durable objects into rows, many at a time."""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable

from django.db import DatabaseError, close_old_connections, connection

from gateway_project.core.failpoint import failpoint
from gateway_project.core.models import Severity
from gateway_project.core.services.alerts import alert_heal, alert_open
from studies.dicom.spool import Intake, SpoolError, Store
from studies.services.index import TRANSIENT, index_objects
from studies.services.receive import Indexable

logger = logging.getLogger(__name__)

BATCH_OBJECTS = 500
BATCH_SECONDS = 0.2
RETRY_SECONDS = 1.0
ALERT = "indexer"


class Indexer:
    """`add` never waits. A batch begins 0.2 s after its first object, at 500 objects, or at once when someone flushes.

    When the database or the store fails the objects wait (they are durable), and the backlog grows until receiving
    refuses. What fails for its own sake keeps its incoming name, with an alert, until the next recovery.
    """

    def __init__(self, store: Store, intake: Intake) -> None:
        self._store = store
        self._intake = intake
        self._waiting: deque[tuple[float, Indexable]] = deque()  # each with when it was added, by the monotonic clock
        self._oldest = 0.0  # of the batch under way
        self._under_way = 0
        self._added = 0
        self._trouble = False
        self._changed = threading.Condition()
        self._hurry = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def backlog(self) -> int:
        return len(self._waiting) + self._under_way

    def backlog_seconds(self) -> float:
        """How long the first of the objects that wait has been waiting; 0 when none does."""
        with self._changed:
            if self._under_way:
                return time.monotonic() - self._oldest
            return time.monotonic() - self._waiting[0][0] if self._waiting else 0.0

    def add(self, item: Indexable) -> None:
        with self._changed:
            self._waiting.append((time.monotonic(), item))
            self._added += 1
            if len(self._waiting) in (1, BATCH_OBJECTS):
                self._changed.notify_all()

    def flush(self, *, timeout_seconds: float = 2.0) -> bool:
        """Has everything added so far indexed at once; waits at most `timeout_seconds`, answers whether it is done.

        What others add meanwhile is not waited for.
        """
        with self._changed:
            mine = self._added
            if self._done() < mine:
                self._hurry = True
                self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done() >= mine, timeout_seconds)

    def _done(self) -> int:
        """How many of those added are dealt with; they are taken in the order in which they came."""
        return self._added - self.backlog()

    def stop(self, *, timeout_seconds: float = 10.0) -> None:
        """Indexes what waits, then ends. What cannot be done in time is done by the next start's recovery."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            while self._wait():
                self._work()
        finally:
            connection.close()

    def _wait(self) -> bool:
        """Waits for a batch; False when asked to stop and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            ripe_at = time.monotonic() + BATCH_SECONDS
            self._changed.wait_for(
                lambda: self._hurry or self._stopping or len(self._waiting) >= BATCH_OBJECTS,
                max(0.0, ripe_at - time.monotonic()),
            )
            return bool(self._waiting)

    def _work(self) -> None:
        with self._changed:
            batch = [self._waiting.popleft() for _ in range(min(BATCH_OBJECTS, len(self._waiting)))]
            self._under_way, self._oldest = len(batch), batch[0][0]
        failpoint("index.begin")
        rest = self._index([item for _since, item in batch])
        with self._changed:
            if rest:
                self._waiting.extendleft(reversed(batch))
            self._under_way = 0
            if not self._waiting:
                self._hurry = False
            self._changed.notify_all()
            if rest and not self._stopping:
                self._changed.wait_for(lambda: self._stopping, RETRY_SECONDS)
            elif rest:
                self._waiting.clear()  # durable where they are: the next start recovers them

    def _index(self, batch: list[Indexable]) -> list[Indexable]:
        """Answers what must be tried again: all or nothing.

        What fails for its own sake keeps its incoming name, for recovery.
        """
        close_old_connections()
        try:
            failed = index_objects(self._store, batch).failed
            self._healed()
        except TRANSIENT as error:
            logger.warning("index cannot write", extra={"error": type(error).__name__, "waiting": len(batch)})
            return batch
        except SpoolError as error:
            logger.warning("index cannot place", extra={"error": error.code, "waiting": len(batch)})
            self._troubled(
                code=error.code, words="The store fails while objects are indexed: they wait. Check its disk."
            )
            return batch
        except Exception:  # the outermost loop of the indexer: they are durable, and recovery tries them again
            logger.exception("index failed", extra={"objects": len(batch)})
            self._troubled(
                code="index-failed",
                words=f"{len(batch)} objects could not be indexed. They are kept; the next restart tries them again.",
            )
            return []
        self._release(item for item in batch if item.spooled.location not in failed)
        failpoint("index.released")
        return []

    def _release(self, items: Iterable[Indexable]) -> None:
        for item in items:
            try:
                self._intake.release(item.spooled.location)
            except SpoolError as error:  # it is indexed; the next recovery sees that by its key
                logger.warning("object not released", extra={"error": error.code})

    def _troubled(self, *, code: str, words: str) -> None:
        try:
            alert_open(ALERT, code=code, words=words, severity=Severity.CRITICAL)
            self._trouble = True
        except DatabaseError:
            logger.exception("alert not written")

    def _healed(self) -> None:
        if self._trouble:
            self._trouble = False
            alert_heal(ALERT)
