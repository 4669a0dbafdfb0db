"""pynetdicom's client, without the race in which it loses a response.

Its reactor waits at a checkpoint that send_*() closes, and says that it waits before it does. Closed between its
passing and its saying so, the reactor takes the response for itself ("Received unexpected C-FIND service message"):
seen once in some runs of the whole suite at load 8.
"""

import threading
from functools import wraps
from typing import Any

from pynetdicom.association import Association


class Checkpoint(threading.Event):
    """Passing it and no longer waiting at it are one step, to whoever closes it."""

    def __init__(self, association: Association) -> None:
        super().__init__()
        self._association = association
        self._passing = threading.Lock()
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        while True:
            passed = super().wait(timeout)
            with self._passing:
                if self.is_set():
                    self._association._is_paused = False
                    return True
            if timeout is not None:
                return passed

    def clear(self) -> None:
        with self._passing:
            super().clear()


def reactor_mend() -> None:
    """Every association that this process makes from now on has such a checkpoint."""
    begin = Association.__init__

    @wraps(begin)
    def begun(self: Association, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        self._reactor_checkpoint = Checkpoint(self)

    Association.__init__ = begun  # type: ignore[method-assign]
