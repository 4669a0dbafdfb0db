"""How fast an upload may send: so many bytes a second in all, whatever number of threads sends."""

import threading
import time
from collections.abc import Callable

STEP_SECONDS = 0.5


class Pace:
    """None is no limit. What was handed to the network is paid for by waiting afterwards; any thread may call it."""

    def __init__(
        self,
        bytes_per_second: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._paid_until = clock()

    def sent(self, size_bytes: int, *, on_step: Callable[[], None]) -> None:
        """Returns when the next bytes may go. `on_step` is called at least twice a second meanwhile; it may raise."""
        if not self._rate:
            return
        with self._lock:
            self._paid_until = until = max(self._paid_until, self._clock()) + size_bytes / self._rate
        while (left := until - self._clock()) > 0:
            on_step()
            self._wait(min(left, STEP_SECONDS))
