"""One gateway per data directory: a lock that the kernel gives back when its holder dies, whatever killed it."""

import errno
import fcntl
import os
from pathlib import Path


class LockError(Exception):
    """The lock could not be taken; the words say what to do."""


class DirectoryBusyError(LockError):
    """Another process holds this lock."""


class LocksRefusedError(LockError):
    """The file system gives no lock, so nobody can tell whether a gateway runs there already."""


def lock_hold(path: Path, *, what: str) -> int:
    """Takes the lock for this process's life; answers its descriptor. Raises DirectoryBusyError, LocksRefusedError."""
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
    except OSError as error:
        os.close(descriptor)
        reason = errno.errorcode.get(error.errno or 0, "error")
        raise LocksRefusedError(
            f"The file system of {path.parent.parent} grants no lock ({reason}), so two gateways might use it at once. "
            "Choose a directory on a local disk with GATEWAY_DATA_DIR, or mount it with working locks."
        ) from error
    return descriptor
