"""One object on its way in: gathered in a buffer, hashed, written past the page cache, marked whole, flushed once."""

import errno
import fcntl
import hashlib
import logging
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from gateway_project.core.failpoint import failpoint

from .durable import SpoolError, pwrite_all, spool_error
from .mark import MARK_BYTES, mark_make

logger = logging.getLogger(__name__)

BUFFER_BYTES: Final = 256 * 1024
BLOCK_BYTES: Final = 4096
"""What a direct write is a multiple of: no disk in use has larger blocks."""
SLOT_SUFFIX: Final = ".slot"
OBJECT_SUFFIX: Final = ".dcm"


@dataclass(frozen=True, slots=True)
class SpooledObject:
    """A durable file in the spool. `size_bytes` and `sha256` are the data set's, as it came over the wire."""

    location: str
    instance_key: str
    size_bytes: int
    sha256: str
    meta_bytes: int

    @property
    def path(self) -> Path:
        return Path(self.location)


class Buffers:
    """Page-aligned memory for objects on their way in, used again and again: first touches are dear. Thread-safe."""

    def __init__(self) -> None:
        self._free: deque[mmap.mmap] = deque(maxlen=64)

    def take(self) -> mmap.mmap:
        try:
            return self._free.pop()
        except IndexError:
            return mmap.mmap(-1, BUFFER_BYTES)

    def give(self, buffer: mmap.mmap) -> None:
        """Nobody uses it any more."""
        self._free.append(buffer)


class _Write:
    """One buffer's way to the disk: done once, by whichever thread comes first."""

    def __init__(self, fd: int, data: memoryview, offset: int) -> None:
        self._where = fd, data, offset
        self._first = threading.Lock()
        self._done: Future[None] = Future()

    def __call__(self) -> None:
        if not self._first.acquire(blocking=False):
            return
        try:
            pwrite_all(self._where[0], self._where[1], self._where[2])
        except BaseException as exc:  # noqa: BLE001 - told by `result`
            self._done.set_exception(exc)
        else:
            self._done.set_result(None)

    def result(self) -> None:
        """On return it is written, and nobody uses buffer and descriptor any more. Raises what the writing raised."""
        self._done.result()


class Batch(Protocol):
    """What a part file needs of the directory in which its slot lies."""

    path: str
    fd: int
    direct: bool

    def flush(self) -> None:
        """Names made in the directory before this call survive a power cut. OSError."""


class PartFile:
    """One object on its way in, used by one thread. Whatever fails removes the part; nothing was promised for it.

    Memory is constant: two buffers. What fits into it goes to the page cache; more than that is written directly, so
    that a large study does not drive the index out of memory, and its first and last block alone stay cached.
    """

    __slots__ = (
        "_batch",
        "_buffer",
        "_buffers",
        "_digest",
        "_fd",
        "_filled",
        "_head",
        "_helpers",
        "_leaf",
        "_leaving",
        "_meta",
        "_on_end",
        "_view",
        "_written",
        "instance_key",
        "meta_bytes",
        "size_bytes",
    )

    def __init__(
        self,
        batch: Batch,
        instance_key: str,
        fd: int,
        *,
        buffers: Buffers,
        helpers: Executor,
        on_end: Callable[[str | None], None],
    ) -> None:
        """`helpers` write while this thread goes on. `on_end` hears once of the end: the name under which the object is
        durable, or None.
        """
        self._batch = batch
        self._buffers = buffers
        self._helpers = helpers
        self._on_end = on_end
        self._leaving: tuple[_Write, mmap.mmap, memoryview] | None = None  # a full buffer on its way to the disk
        self._fd = fd
        self._leaf = instance_key + SLOT_SUFFIX
        self._digest = hashlib.sha256()
        self._buffer = buffers.take()
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._written = 0  # bytes of the file that have left the buffer
        self._head = bytearray()  # the first block, when it has
        self._meta = b""
        self.instance_key = instance_key
        self.size_bytes = 0
        self.meta_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.abort()

    def write_meta(self, data: bytes) -> None:
        """Preamble and file meta are written, before the dataset; they count neither in the hash nor in the size."""
        if self.size_bytes or self.meta_bytes or len(data) > BUFFER_BYTES:
            raise SpoolError("spool-misused", "the file meta comes once, before the dataset")
        self._check_open()
        self._view[: len(data)] = data
        self._meta = data
        self._filled = self.meta_bytes = len(data)

    def write(self, data: bytes | memoryview) -> None:
        """These bytes of the dataset are taken, not yet durable. SpoolError `disk-full` and others."""
        self._check_open()
        size, filled = len(data), self._filled
        self.size_bytes += size
        if filled + size < BUFFER_BYTES:
            self._view[filled : filled + size] = data
            self._filled = filled + size
            return
        rest = memoryview(data)
        while rest:
            piece = rest[: BUFFER_BYTES - self._filled]
            self._view[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            rest = rest[len(piece) :]
            if self._filled == BUFFER_BYTES:
                self._spill()

    def _check_open(self) -> None:
        if not self._leaf:
            raise SpoolError("spool-misused", "this object is committed or aborted")

    def _hash(self) -> None:
        """What the buffer holds of the data set."""
        self._digest.update(self._view[0 if self._written else self.meta_bytes : self._filled])

    def _spill(self) -> None:
        """A full buffer leaves for the disk, while this thread hashes it and goes on with another; one at a time."""
        try:
            self._await_write()
            if not self._written:
                self._head += self._view[:BLOCK_BYTES]
                self._direct(on=True)
            fresh = self._buffers.take()  # before this one leaves: there is memory for both, or for neither
        except OSError as exc:
            self.abort()
            raise spool_error(exc, step="writing an object") from exc
        write = _Write(self._fd, self._view, self._written)
        self._leaving = (write, self._buffer, self._view)
        try:
            self._helpers.submit(write)
        except RuntimeError:  # no more threads, or they end: perhaps it was queued all the same
            write()
        self._hash()
        self._written += BUFFER_BYTES
        self._filled = 0
        self._buffer = fresh
        self._view = memoryview(fresh)
        failpoint("spool.spilled")

    def _await_write(self) -> None:
        """What has left is written; OSError if it could not be."""
        if self._leaving is None:
            return
        (write, buffer, view), self._leaving = self._leaving, None
        try:
            write.result()
        finally:
            view.release()
            self._buffers.give(buffer)

    def _direct(self, *, on: bool) -> None:
        if self._batch.direct:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, os.O_DIRECT if on else 0)

    def commit(self) -> SpooledObject:
        """The object is whole and durable, and says so itself: Success may be sent (PS3.4 B.2.3).

        After a crash the file is found in its slot, with its mark (`mark.py`). One without file meta has no room for a
        mark: it gets another name that says it, and that is flushed. SpoolError if any step failed; then the object is
        gone, and a failed flush is not tried again: the kernel may have dropped what it could not write.
        """
        self._check_open()
        marked = self.meta_bytes >= MARK_BYTES
        self._hash()
        try:
            failpoint("spool.written")
            self._write_rest(marked=marked)
            os.fdatasync(self._fd)
            failpoint("spool.fsynced")
            self._check_named()
            self._close()
            if not marked:
                self._name()
        except OSError as exc:
            self.abort()
            raise spool_error(exc, step="making an object durable") from exc
        failpoint("spool.durable")
        spooled = SpooledObject(
            location=f"{self._batch.path}/{self._leaf}",
            instance_key=self.instance_key,
            size_bytes=self.size_bytes,
            sha256=self._digest.hexdigest(),
            meta_bytes=self.meta_bytes,
        )
        name, self._leaf = self._leaf, ""
        self._over(name)
        return spooled

    def _check_named(self) -> None:
        """OSError if the file has no name any more: on a file system that lost our lock, a sibling took us for dead."""
        if not os.fstat(self._fd).st_nlink:
            raise OSError(errno.ESTALE, "the file was removed while it was written")

    def _name(self) -> None:
        """Durably no slot any more."""
        name, batch = self.instance_key + OBJECT_SUFFIX, self._batch
        os.rename(self._leaf, name, src_dir_fd=batch.fd, dst_dir_fd=batch.fd)
        self._leaf = name
        batch.flush()

    def _write_rest(self, *, marked: bool) -> None:
        """The buffer's rest, and the mark: in one write if nothing has left before."""
        mark = b""
        if marked:
            digest = self._digest.digest()
            mark = mark_make(self.instance_key, meta=self._meta, size_bytes=self.size_bytes, digest=digest)
        if not self._written:
            self._view[: len(mark)] = mark
            pwrite_all(self._fd, self._view[: self._filled], 0)
            return
        self._await_write()
        self._direct(on=False)
        pwrite_all(self._fd, self._view[: self._filled], self._written)
        if mark:
            self._head[:MARK_BYTES] = mark
            pwrite_all(self._fd, self._head, 0)

    def abort(self) -> None:
        """The part is gone, or a warning says why not; nothing happens after `commit`. Never raises."""
        leaf, self._leaf = self._leaf, ""
        if not leaf:
            return
        for step in (self._await_write, self._close, lambda: os.unlink(leaf, dir_fd=self._batch.fd)):
            try:
                step()
            except OSError as exc:
                logger.warning("spool.part.not_removed", extra={"errno": exc.errno})
        self._over(None)

    def _over(self, durable_name: str | None) -> None:
        self._view.release()
        self._buffers.give(self._buffer)
        self._on_end(durable_name)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def direct_writes_work(directory_fd: int, leaf: str) -> bool:
    """Whether this directory's file system takes writes past the page cache; `leaf` names a file made for the trial.

    OSError when nothing can be written there at all.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(leaf, flags, 0o600, dir_fd=directory_fd)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
        with mmap.mmap(-1, BLOCK_BYTES) as block:
            return os.pwrite(fd, block, 0) == BLOCK_BYTES
    except OSError as exc:
        if exc.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY):
            return False
        raise
    finally:
        os.close(fd)
        os.unlink(leaf, dir_fd=directory_fd)
