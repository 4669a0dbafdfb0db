"""Sinks that stand before a port's own: one that survives it, and one that only refuses."""

from collections.abc import Callable
from typing import Final

from network.dimse import statuses
from network.dimse.ports import StoreResult, StoreSink

FAILED: Final = StoreResult(statuses.HANDLER_FAILED, "internal error, try again")


class RefusingSink:
    """Takes a data set for nothing, and answers what it was told to."""

    def __init__(self, result: StoreResult) -> None:
        self._result = result

    def write(self, data: memoryview) -> None:
        """Forgets it."""

    def commit(self) -> StoreResult:
        """The refusal."""
        return self._result

    def abort(self) -> None:
        """Holds nothing."""


class GuardedSink:
    """A port's sink whose exceptions end nothing but its object, with `FAILED`; each is told to `on_failure` once."""

    def __init__(self, sink: StoreSink, on_failure: Callable[[Exception], None]) -> None:
        self._sink = sink
        self._on_failure = on_failure
        self._failed = False
        self._over = False

    def write(self, data: memoryview) -> None:
        """Never raises."""
        if self._failed:
            return
        try:
            self._sink.write(data)
        except Exception as exc:  # noqa: BLE001 - whatever failed, the sender hears it from `commit`
            self._fail(exc)

    def commit(self) -> StoreResult:
        """Never raises."""
        if self._failed:
            return FAILED
        try:
            result = self._sink.commit()
        except Exception as exc:  # noqa: BLE001 - whatever failed, the sender must hear that nothing was kept
            self._fail(exc)
            return FAILED
        self._over = True
        return result

    def abort(self) -> None:
        """Never raises; may be repeated."""
        if self._over:
            return
        self._over = True
        try:
            self._sink.abort()
        except Exception as exc:  # noqa: BLE001 - the object is lost to us either way
            self._on_failure(exc)

    def _fail(self, exc: Exception) -> None:
        self._failed = True
        self._on_failure(exc)
