"""What is set for one calling AE title: read from the table once in two seconds, by every process on its own."""

import logging
import threading
import time
from dataclasses import dataclass, field

from django.db import DatabaseError

from studies.models import ANY_SOURCE, SourcePolicy, Strictness

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0


@dataclass(frozen=True)
class SourcePolicies:
    """Every row of SourcePolicy at one moment. `quiet` and `most_open`: seconds, of those sources that have them."""

    strict: dict[str, bool] = field(default_factory=dict)
    quiet: dict[str, float] = field(default_factory=dict)
    most_open: dict[str, float] = field(default_factory=dict)

    def strict_for(self, source: str) -> bool:
        """Whether flagged objects of this calling AE title are refused; the row "*" speaks for all without one."""
        return self.strict.get(source, self.strict.get(ANY_SOURCE, False))


class _Cache:
    """The last reading. Safe for threads: one reads anew, the others go on with what is known."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: SourcePolicies | None = None
        self._next_poll = 0.0

    def get(self) -> SourcePolicies:
        known = self._known
        if known is not None and (time.monotonic() < self._next_poll or not self._lock.acquire(blocking=False)):
            return known
        if known is None:
            self._lock.acquire()
        try:
            known = self._known = _read()
        except DatabaseError:
            if known is None:
                raise
            logger.warning("source policies unreadable, the last known are used")
        finally:
            self._next_poll = time.monotonic() + POLL_SECONDS
            self._lock.release()
        return known

    def forget(self) -> None:
        self._known = None


def _read() -> SourcePolicies:
    rows = list(SourcePolicy.objects.all())
    return SourcePolicies(
        strict={row.calling_ae_title: row.strictness == Strictness.STRICT for row in rows},
        quiet={row.calling_ae_title: row.quiet_seconds for row in rows if row.quiet_seconds is not None},
        most_open={row.calling_ae_title: row.max_open_seconds for row in rows if row.max_open_seconds is not None},
    )


_CACHE = _Cache()


def source_policies() -> SourcePolicies:
    """Every source's policy, at most two seconds old; the last known while the table cannot be read.

    Raises DatabaseError only when it could never be read yet.
    """
    return _CACHE.get()


def source_policies_forget() -> None:
    """The next reading asks the table, in this process."""
    _CACHE.forget()
