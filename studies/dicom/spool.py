"""Where objects come in: batches of slots, and what becomes of them until the index has taken the objects over.

    begin -> write_meta, write ... -> commit      -> indexed: store.place, store.sync, the index's commit -> release
             abort, a crash: nothing was promised    a crash: a durable file without a row, see recovery.py

A slot is an empty file with a random name, made and flushed with others of its batch before anybody needs it. So an
object costs one flush, of its own file: see part_file.py. Each receiver process has one Intake: a directory of numbered
batches below `incoming`, locked while the process lives. Many association threads share it; one PartFile belongs to one
thread. The other names of the spool are re-exported.
"""

import contextlib
import errno
import logging
import os
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from gateway_project.core.failpoint import failpoint

from .durable import DIRECTORY_FLAGS, SpoolError, fsync_directory, removed_if_empty, spool_error
from .part_file import SLOT_SUFFIX, Buffers, PartFile, SpooledObject, direct_writes_work
from .recovery import Abandoned, OwnerDirectory, abandoned, file_hash, release_file
from .store import Store

__all__ = ["Abandoned", "Intake", "PartFile", "SpoolError", "SpooledObject", "Store", "abandoned", "file_hash"]

logger = logging.getLogger(__name__)

_MAKE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SLOT_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_LAST_BATCH = 99_999_999
_FEWEST_SLOTS, _MOST_SLOTS = 4, 64
_HELPERS = 8


class _Batch:
    """One numbered directory. Guarded by the intake's lock, but for `path`, `fd` and `direct`, which change no more."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.begun = 0
        self.parts = 0
        self.names: set[str] = set()
        self.slots: list[str] = []
        self.slots_made = 0
        self.finished = False
        self.failed = False
        self.direct = False
        self.fd = os.open(path, DIRECTORY_FLAGS)

    def slots_add(self, made: list[str]) -> None:
        """These may be used."""
        self.slots += made
        self.slots_made += len(made)

    def slots_make(self, count: int) -> list[str]:
        """Up to `count` slots, at least one, durable; needs no lock. OSError."""
        made: list[str] = []
        try:
            self._make(count, made)
            self.flush()
        except OSError:
            for key in made:
                self.slot_remove(key)
            raise
        return made

    def _make(self, count: int, made: list[str]) -> None:
        """Up to `count` files; fewer where the disk takes no more of them."""
        for _ in range(count):
            key = secrets.token_hex(16)
            try:
                os.close(os.open(key + SLOT_SUFFIX, _MAKE_FLAGS, 0o600, dir_fd=self.fd))
            except OSError:
                if made:
                    return
                raise
            made.append(key)

    def slot_remove(self, key: str) -> None:
        """The slot is gone; one that cannot be removed is left to recovery."""
        try:
            os.unlink(key + SLOT_SUFFIX, dir_fd=self.fd)
        except OSError as exc:
            logger.warning("spool.slot.not_removed", extra={"errno": exc.errno})

    def slots_drop(self) -> None:
        """The slots that nobody needed are gone."""
        while self.slots:
            self.slot_remove(self.slots.pop())

    def flush(self) -> None:
        """Names made in the directory before this call survive a power cut. OSError.

        After a failed flush the directory takes no more objects: the kernel reports an error only once, so a second
        flush might succeed wrongly.
        """
        if self.failed:
            raise OSError("an earlier flush of this batch's directory failed")
        try:
            os.fsync(self.fd)
        except OSError:
            self.failed = True
            raise

    def stale(self, exc: OSError) -> None:
        """A descriptor that went stale (a network file system) stays so: what comes next gets a batch of its own."""
        self.failed = self.failed or exc.errno == errno.ESTALE

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
        self._buffers = Buffers()
        self._helpers = ThreadPoolExecutor(_HELPERS, thread_name_prefix="spool")
        self._making_slots = False
        self._direct: bool | None = None
        self._directory = OwnerDirectory.create(store, owner)
        self.owner = self._directory.owner

    def begin(self) -> PartFile:
        """A new, empty part file with a random key; SpoolError `disk-full`, `spool-io`, `spool-closed`.

        End each with `commit` or `abort`, or use it in a `with`.
        """
        with self._mutex:
            batch = self._batch_for_next()
            key = batch.slots.pop()
            batch.begun += 1
            batch.parts += 1
            self._make_slots_ahead(batch)
        fd, on_end = -1, partial(self._ended, batch)
        try:
            fd = os.open(key + SLOT_SUFFIX, _SLOT_FLAGS, dir_fd=batch.fd)
            part = PartFile(batch, key, fd, buffers=self._buffers, helpers=self._helpers, on_end=on_end)
        except OSError as exc:
            if fd >= 0:
                os.close(fd)
            batch.stale(exc)
            batch.slot_remove(key)
            on_end(None)
            raise spool_error(exc, step="beginning an object") from exc
        failpoint("spool.begun")
        return part

    def _batch_for_next(self) -> _Batch:
        """The current batch, with a slot for the caller; called under the mutex."""
        if self._closed:
            raise SpoolError("spool-closed")
        batch = self._current
        if batch is None or batch.begun >= self._batch_objects or batch.failed:
            fresh = self._new_batch()
            self._current = fresh
            if batch is not None:
                self._finish(batch)
            batch = fresh
        if not batch.slots:
            try:
                batch.slots_add(batch.slots_make(min(_FEWEST_SLOTS, self._batch_objects - batch.slots_made)))
            except OSError as exc:
                batch.stale(exc)
                raise spool_error(exc, step="making slots") from exc
        return batch

    def _make_slots_ahead(self, batch: _Batch) -> None:
        """Called under the mutex: a helper makes more before the last one is taken, so that no sender waits for it."""
        few = len(batch.slots) < _MOST_SLOTS // 2 and batch.slots_made < self._batch_objects
        if few and not self._making_slots and batch.begun > 1:
            self._making_slots = True
            batch.parts += 1  # holds it open
            count = min(max(_FEWEST_SLOTS, batch.begun), _MOST_SLOTS, self._batch_objects - batch.slots_made)
            with contextlib.suppress(RuntimeError):  # no more threads now: it is queued all the same
                self._helpers.submit(self._slots_ahead, batch, count)

    def _slots_ahead(self, batch: _Batch, count: int) -> None:
        try:
            made = batch.slots_make(count)
        except OSError as exc:  # whoever needs the next slot meets it again, and tells its sender
            logger.warning("spool.slots.not_made", extra={"errno": exc.errno})
            made = []
        with self._mutex:
            self._making_slots = False
            batch.slots_add(made)
            if batch.finished:
                batch.slots_drop()
        self._ended(batch, None)

    def _new_batch(self) -> _Batch:
        self._number += 1
        if self._number > _LAST_BATCH:
            raise SpoolError("spool-closed", "all batch numbers are used: start this receiver again")
        number = f"{self._number:08d}"
        path = f"{self._directory.path}/{number}"
        batch = None
        try:
            os.mkdir(path, 0o700)  # noqa: PTH102
            fsync_directory(self._directory.path)
            batch = _Batch(path)
            if self._direct is None:
                self._direct = direct_writes_work(batch.fd, secrets.token_hex(16) + SLOT_SUFFIX)
            batch.direct = self._direct
        except OSError as exc:
            if batch is not None:
                batch.close()
            with contextlib.suppress(OSError):
                removed_if_empty(path)
            raise spool_error(exc, step="beginning a batch") from exc
        self._batches[number] = batch
        return batch

    def _finish(self, batch: _Batch) -> None:
        """No more objects; called under the mutex."""
        batch.finished = True
        batch.slots_drop()
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

    def release(self, path: Path | str) -> None:
        """The incoming name is gone, and the mark; call it only after the index has committed. May be repeated.

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
        self._helpers.shutdown()
        with self._mutex:
            empty = not self._batches
        self._directory.leave(empty=empty)
