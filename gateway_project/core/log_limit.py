"""A flood of one event costs a bounded number of lines, and the number left out is told."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway_project.core.log_format import record_event
from gateway_project.core.packages import package_is_ours

EVENTS_PER_WINDOW = 20
WINDOW_SECONDS = 10.0
KEYS_MAX = 1_000
OVERFLOW_KEY = ("*", "more kinds of events than are counted apart")

Key = tuple[str, str]


@dataclass
class _Window:
    begun: float
    passed: int = 0
    suppressed: int = 0


class EventLimit:
    """Lets `limit` events of a key pass in each window and counts the others; bounded memory.

    Not locked: the handler calls it under its own lock, which survives forks and signal handlers.
    """

    def __init__(
        self,
        *,
        limit: int = EVENTS_PER_WINDOW,
        window_seconds: float = WINDOW_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._window_seconds = window_seconds
        self._monotonic = monotonic
        self._windows: dict[Key, _Window] = {}
        self._next_sweep = monotonic() + window_seconds

    def admit(self, key: Key) -> bool:
        """True when this event may be written."""
        now = self._monotonic()
        if key not in self._windows and len(self._windows) >= KEYS_MAX:
            key = OVERFLOW_KEY
        window = self._windows.setdefault(key, _Window(begun=now))
        if window.passed < self._limit:
            window.passed += 1
            return True
        window.suppressed += 1
        return False

    def ended(self, *, all_windows: bool = False) -> list[tuple[Key, int]]:
        """What was left out in the windows that are over (or in all), told once; call it before `admit`."""
        now = self._monotonic()
        if now < self._next_sweep and not all_windows:
            return []
        windows = list(self._windows.items())
        over = [key for key, one in windows if all_windows or now - one.begun >= self._window_seconds]
        told = [(key, one.suppressed) for key in over if (one := self._windows.pop(key, None)) and one.suppressed]
        begun = [one.begun for one in list(self._windows.values())]
        self._next_sweep = min(begun, default=now) + self._window_seconds
        return told


class LimitedHandler(logging.Handler):
    """A handler that limits its lines for each (logger, event), and never raises into, or prints for, the caller.

    After a flood one line tells how many were left out: with the next event of any kind, or when the handler closes.
    """

    def __init__(self, level: int | str = logging.NOTSET, *, limit: EventLimit | None = None) -> None:
        super().__init__(level)
        self.limit = limit or EventLimit()
        self.failures = 0

    def handle(self, record: logging.LogRecord) -> bool:
        self.acquire()
        try:
            ended, admitted = self.limit.ended(), self.limit.admit(record_key(record))
        finally:
            self.release()
        self._tell(ended)
        return super().handle(record) if admitted else False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Counted; logging's own would print the record's arguments to stderr."""
        self.failures += 1

    def close(self) -> None:
        self._tell(self.limit.ended(all_windows=True))
        super().close()

    def _tell(self, ended: list[tuple[Key, int]]) -> None:
        for (name, event), count in ended:
            summary = logging.LogRecord(__name__, logging.WARNING, __file__, 0, "log events suppressed", None, None)
            summary.__dict__.update(suppressed_logger=name, suppressed_event=event, suppressed=count)
            super().handle(summary)


def record_key(record: logging.LogRecord) -> Key:
    """(logger, event); for a stranger's withheld text the place in its code stands for the event."""
    if package_is_ours(record.name):
        return record.name, record_event(record)
    return record.name, f"{record.module}:{record.lineno}"
