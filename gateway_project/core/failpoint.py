"""Places where a test may kill this process, so that every step's crash is tried and not imagined."""

import os
import signal
from itertools import count


def failpoint(name: str) -> None:
    """Does nothing, unless the environment names this place: then the n-th pass ends the process as a power cut would.

    `GATEWAY_FAILPOINT=name:n` (n from 1). SIGKILL, so that no handler, flush or rollback runs.
    """
    if _ARMED is not None and _ARMED[0] == name and next(_ARMED[1]) <= 1:
        os.kill(os.getpid(), signal.SIGKILL)


def _armed(setting: str) -> tuple[str, "count[int]"] | None:
    """The place, and the passes that are left: one step of a counter each, which threads may share."""
    if not setting:
        return None
    name, _, passes = setting.partition(":")
    return name, count(int(passes or 1), -1)


_ARMED = _armed(os.environ.get("GATEWAY_FAILPOINT", ""))
