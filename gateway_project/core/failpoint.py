"""Places where a test may kill this process, so that every step's crash is tried and not imagined."""

import os
import signal


def failpoint(name: str) -> None:
    """Does nothing, unless the environment names this place: then the n-th pass ends the process as a power cut would.

    `GATEWAY_FAILPOINT=name:n` (n from 1). SIGKILL, so that no handler, flush or rollback runs.
    """
    if _ARMED is not None and _ARMED[0] == name:
        _ARMED[1] -= 1
        if _ARMED[1] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _armed(setting: str) -> list | None:  # type: ignore[type-arg]
    if not setting:
        return None
    name, _, count = setting.partition(":")
    return [name, int(count or 1)]


_ARMED = _armed(os.environ.get("GATEWAY_FAILPOINT", ""))
