"""How an object comes to be durable before Success is sent: part file, hash, fsync, rename, fsync of the directory.

    begin -> write_meta, write ... -> commit        -> indexed: store.place, store.sync, commit of the index -> release
             abort, or a crash: nothing was promised   a crash: a durable file without a row, see recovery.py

Each receiver process has one Intake: a directory of numbered batches below `incoming`, locked while the process lives.
Many association threads share it; one PartFile belongs to one thread. The other names of the spool are re-exported.
"""

import hashlib
import logging
import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway_project.core.failpoint import failpoint

from .durable import DIRECTORY_FLAGS, SpoolError, fsync_directory, removed_if_empty, spool_error, write_all
from .recovery import Abandoned, OwnerDirectory, abandoned, file_hash, release_file
from .store import Store

__all__ = ["Abandoned", "Intake", "PartFile", "SpoolError", "SpooledObject", "Store", "abandoned", "file_hash"]

logger = logging.getLogger(__name__)

_PART_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LAST_BATCH = 99_999_999


@dataclass(frozen=True, slots=True)
class SpooledObject:
    """A durable file in the spool. `size_bytes` and `sha256` are the dataset's, as it came over the wire."""

    path: Path
    instance_key: str
    size_bytes: int
    sha256: str
    meta_bytes: int


class _Batch:
    """One numbered directory. `begun`, `parts`, `names` and `finished` are guarded by the intake's lock."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.begun = 0
        self.parts = 0
        self.names: set[str] = set()
        self.finished = False
        self.failed = False
        self.fd = os.open(path, DIRECTORY_FLAGS)
        self._flushing = threading.Lock()
        self._flushes_begun = 0
        self._flushes_done = 0

    def flush(self) -> None:
        """Names made in the directory before this call survive a power cut. OSError, and then for all who wait here.

        One flush at a time, and one that began after my rename serves me too. After a failed flush the directory takes
        no more objects: the kernel reports an error only once, so a second flush might succeed wrongly.
        """
        ticket = self._flushes_begun + 1
        with self._flushing:
            if self._flushes_done >= ticket:
                return
            if self.failed:
                raise OSError("an earlier flush of this batch's directory failed")
            self._flushes_begun += 1
            try:
                os.fsync(self.fd)
            except OSError:
                self.failed = True
                raise
            self._flushes_done = self._flushes_begun

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Intake:
    """The part of the store into which this process receives. Thread-safe; a new batch makes all threads wait.

    `owner` is the process's name; its directory gets a random suffix, so that each life has a new one.
    """

    def __init__(self, store: Store, *, owner: str, batch_objects: int = 512) -> None:
        """The directory exists, durable, its lock held. SpoolError if not."""
        self._store = store
        self._batch_objects = batch_objects
        self._mutex = threading.Lock()
        self._batches: dict[str, _Batch] = {}
        self._current: _Batch | None = None
        self._number = 0
        self._closed = False
        self._directory = OwnerDirectory.create(store, owner)
        self.owner = self._directory.owner

    def begin(self) -> "PartFile":
        """A new, empty part file with a random key; SpoolError `disk-full`, `spool-io`, `spool-closed`.

        End each with `commit` or `abort`, or use it in a `with`.
        """
        with self._mutex:
            batch = self._batch_for_next()
            batch.begun += 1
            batch.parts += 1
        key = secrets.token_hex(16)
        try:
            fd = os.open(f"{key}.part", _PART_FLAGS, 0o600, dir_fd=batch.fd)
        except OSError as exc:
            self._ended(batch, None)
            raise spool_error(exc, step="beginning an object") from exc
        failpoint("spool.begun")
        return PartFile(self, batch, key, fd)

    def _batch_for_next(self) -> _Batch:
        if self._closed:
            raise SpoolError("spool-closed")
        current = self._current
        if current is not None and current.begun < self._batch_objects and not current.failed:
            return current
        fresh = self._new_batch()
        self._current = fresh
        if current is not None:
            self._finish(current)
        return fresh

    def _new_batch(self) -> _Batch:
        self._number += 1
        if self._number > _LAST_BATCH:
            raise SpoolError("spool-closed", "all batch numbers are used: start this receiver again")
        number = f"{self._number:08d}"
        path = f"{self._directory.path}/{number}"
        try:
            os.mkdir(path, 0o700)  # noqa: PTH102
            fsync_directory(self._directory.path)
            batch = _Batch(path)
        except OSError as exc:
            raise spool_error(exc, step="beginning a batch") from exc
        self._batches[number] = batch
        return batch

    def _finish(self, batch: _Batch) -> None:
        """No more objects; called under the mutex."""
        batch.finished = True
        if batch.parts == 0:
            batch.close()
        self._remove_if_done(batch)

    def _remove_if_done(self, batch: _Batch) -> None:
        """Called under the mutex; two calls of the file system for each batch."""
        if not batch.finished or batch.parts or batch.names:
            return
        self._batches.pop(batch.path.rpartition("/")[2], None)
        try:
            gone = removed_if_empty(batch.path)
        except OSError:
            logger.exception("spool.batch.not_removed", extra={"owner": self.owner})
            return
        if not gone:
            logger.warning("spool.batch.not_empty", extra={"owner": self.owner})

    def _ended(self, batch: _Batch, durable_name: str | None) -> None:
        """One part of the batch is committed under that name, or is gone."""
        with self._mutex:
            batch.parts -= 1
            if durable_name is not None:
                batch.names.add(durable_name)
            if batch.finished and batch.parts == 0:
                batch.close()
            self._remove_if_done(batch)

    def release(self, path: Path) -> None:
        """The incoming name is gone; call it only after the index has committed. May be repeated.

        An emptied batch that takes no more objects goes with it. A crash before: the file is found by recovery, which
        sees by its key that it is indexed. SpoolError `name-invalid` for a path that is not this intake's.
        """
        name = str(path)
        owner, number, leaf = self._store.incoming_parts(name)
        if owner != self.owner:
            raise SpoolError("name-invalid", "an object of another intake")
        release_file(name)
        failpoint("spool.released")
        with self._mutex:
            batch = self._batches.get(number)
            if batch is not None:
                batch.names.discard(leaf)
                self._remove_if_done(batch)

    def close(self) -> None:
        """Nothing more is begun, empty directories are gone, the lock is given up. End all associations before.

        What is not released yet stays and is recovered. May be repeated.
        """
        with self._mutex:
            self._closed = True
            if self._current is not None:
                current, self._current = self._current, None
                self._finish(current)
            empty = not self._batches
        self._directory.leave(empty=empty)


class PartFile:
    """One object on its way in, used by one thread. Whatever fails removes the part; nothing was promised for it."""

    __slots__ = ("_batch", "_digest", "_fd", "_intake", "_leaf", "instance_key", "meta_bytes", "size_bytes")

    def __init__(self, intake: Intake, batch: _Batch, instance_key: str, fd: int) -> None:
        self._intake = intake
        self._batch = batch
        self._fd = fd
        self._leaf = f"{instance_key}.part"
        self._digest = hashlib.sha256()
        self.instance_key = instance_key
        self.size_bytes = 0
        self.meta_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.abort()

    def write_meta(self, data: bytes) -> None:
        """Preamble and file meta are written, before the dataset; they count neither in the hash nor in the size."""
        if self.size_bytes:
            raise SpoolError("spool-misused", "the file meta comes before the dataset")
        self._write(data)
        self.meta_bytes += len(data)

    def write(self, data: bytes | memoryview) -> None:
        """These bytes of the dataset are hashed and written, not yet durable. SpoolError `disk-full` and others."""
        self._write(data)
        self._digest.update(data)
        self.size_bytes += len(data)

    def _write(self, data: bytes | memoryview) -> None:
        if not self._leaf:
            raise SpoolError("spool-misused", "this object is committed or aborted")
        try:
            write_all(self._fd, data)
        except OSError as exc:
            self.abort()
            raise spool_error(exc, step="writing an object") from exc

    def commit(self) -> SpooledObject:
        """The object is whole and durable under its own name: Success may be sent (PS3.4 B.2.3).

        SpoolError if any step failed; then the object is gone, and a failed fsync is not tried again, because the
        kernel may have dropped the bytes it could not write.
        """
        if not self._leaf:
            raise SpoolError("spool-misused", "this object is committed or aborted")
        name, batch = f"{self.instance_key}.dcm", self._batch
        try:
            failpoint("spool.written")
            os.fsync(self._fd)
            failpoint("spool.fsynced")
            self._close()
            os.rename(self._leaf, name, src_dir_fd=batch.fd, dst_dir_fd=batch.fd)
            self._leaf = name
            failpoint("spool.renamed")
            batch.flush()
        except OSError as exc:
            self.abort()
            raise spool_error(exc, step="making an object durable") from exc
        failpoint("spool.durable")
        spooled = SpooledObject(
            path=Path(f"{batch.path}/{name}"),
            instance_key=self.instance_key,
            size_bytes=self.size_bytes,
            sha256=self._digest.hexdigest(),
            meta_bytes=self.meta_bytes,
        )
        self._leaf = ""
        self._intake._ended(batch, name)
        return spooled

    def abort(self) -> None:
        """The part is gone, or a warning says why not; nothing happens after `commit`. Never raises."""
        leaf, self._leaf = self._leaf, ""
        if not leaf:
            return
        for step in (self._close, lambda: os.unlink(leaf, dir_fd=self._batch.fd)):
            try:
                step()
            except OSError as exc:
                logger.warning("spool.part.not_removed", extra={"owner": self._intake.owner, "errno": exc.errno})
        self._intake._ended(self._batch, None)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
