"""What makes a file durable and keeps it ours: the few calls on the file system that the whole spool is built of."""

# System calls on strings and descriptors: pathlib costs more than the call, and knows no dir_fd.
# ruff: noqa: PTH102, PTH106

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import BinaryIO

from .errors import DicomError

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # non-blocking: not to wait at a pipe for ever

_ADVICE = {
    "disk-full": "The store has no room: free space, inodes or quota on its file system.",
    "spool-io": "The store's file system failed: check the disk, its mount and the system log.",
    "spool-closed": "This receiver is stopping: send the object again.",
    "spool-misused": "The spool was used out of order: a programming error, report it.",
    "file-too-large": "The object is larger than the file system or the process limit allows: raise the limit.",
    "file-truncated": "The file ends before its dataset begins: restore it, or ask the sender to send it again.",
    "object-missing": "The file is not in the store: restore it from a backup, or ask the sender to send it again.",
    "name-invalid": "That is not a name of the store's own making: a programming error, report it.",
    "name-taken": "Another file has that name already: give this one a new instance key.",
    "store-symlink": "A link or a stray file stands in the store where a file or directory of ours belongs: remove it.",
    "store-not-one-filesystem": "The store lies on several file systems: give it one directory that holds no mount.",
    "store-no-hard-links": "The store's file system has no hard links: choose one that has (ext4, xfs, btrfs, NFS).",
    "store-no-locks": "The store's file system has no locks that keep others out: use a local disk, or another mount.",
    "store-exposed": "Others can reach the store: chown its directories to the gateway's user and chmod them to 0700.",
}
_TRANSIENT = frozenset({"disk-full", "spool-io", "spool-closed"})
_CODES = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EFBIG: "file-too-large",
    errno.ELOOP: "store-symlink",
    errno.ENOTDIR: "store-symlink",
    errno.EXDEV: "store-not-one-filesystem",
}


class SpoolError(DicomError):
    """The store could not do what was asked; what it had promised before still holds.

    `permanent` is False where the same bytes may well be kept later: `disk-full`, `spool-io`, `spool-closed`.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        message = f"{_ADVICE[code]} ({detail})" if detail else _ADVICE[code]
        super().__init__(message, code=code, permanent=code not in _TRANSIENT)


def spool_error(exc: OSError, *, step: str, missing: str = "spool-io") -> SpoolError:
    """The SpoolError that stands for an error of the operating system; it names the step and errno, never a path."""
    number = exc.errno or 0
    code = missing if number == errno.ENOENT else _CODES.get(number, "spool-io")
    return SpoolError(code, f"{step}: {errno.errorcode.get(number, 'unknown error')}")


def fsync_directory(path: str | Path) -> None:
    """On return every name made, renamed or removed in this directory so far survives a power cut. OSError if not."""
    fd = os.open(path, DIRECTORY_FLAGS)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Every byte is handed to the operating system, or OSError is raised. Unbuffered; not durable before fsync."""
    written = os.write(fd, data)
    if written < len(data):
        view = memoryview(data)
        while written < len(view):
            written += os.write(fd, view[written:])


def pwrite_all(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """As `write_all`, at this offset of the file."""
    written = os.pwrite(fd, data, offset)
    if written < len(data):
        view = memoryview(data)
        while written < len(view):
            written += os.pwrite(fd, view[written:], offset + written)


def make_directory(path: str) -> bool:
    """The directory exists, 0700 if we made it; True then. What a sibling made meanwhile is accepted. OSError."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return False
    return True


def removed_if_empty(path: str) -> bool:
    """True if the directory is gone on return; one that holds something stays as it is. OSError otherwise."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def linked_first(source: str, target: str) -> bool:
    """`source` also bears the name `target`, unless that was taken: then False, and nothing is changed. OSError."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        return False
    return True


def open_locked(path: str, flags: int) -> int | None:
    """A descriptor that holds the lock of the file at `path`; None if it is missing or another holds it. Never waits.

    The lock lasts as long as the descriptor, and ends with the process however that ends. Raises OSError.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink > 0:  # 0: its last holder removed it before it let go
            return fd
    except BlockingIOError:
        pass
    except OSError:
        os.close(fd)
        raise
    os.close(fd)
    return None


def regular_file(fd: int) -> BinaryIO:
    """A reader of this descriptor, which it takes over, if that is a regular file; else SpoolError `store-symlink`."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SpoolError("store-symlink")
    return os.fdopen(fd, "rb")


def open_regular(path: str | Path, *, directory: int | None = None) -> BinaryIO:
    """The regular file at `path`, for reading; a symbolic link or any other kind is refused. OSError, SpoolError."""
    return regular_file(os.open(path, _READ_FLAGS, dir_fd=directory))
