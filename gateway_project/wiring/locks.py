"""One gateway per data directory: a lock that the kernel gives back when its holder dies, whatever killed it."""

import fcntl
import os
from pathlib import Path


class DirectoryBusyError(Exception):
    """Another process holds this lock."""


def lock_hold(path: Path, *, what: str) -> int:
    """Takes the lock for this process's life; answers its descriptor. Raises DirectoryBusyError when it is held."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DirectoryBusyError(
            f"{what} is already running on {path.parent.parent}. "
            "Stop it, or choose another directory with GATEWAY_DATA_DIR."
        ) from None
    return descriptor
