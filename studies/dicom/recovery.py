"""Who owns a directory of the spool, and what is done about one whose owner is dead.

An owner is one process's life. Its directory is born with its lock already held: it is made under a name that nobody
looks at, locked, and only then renamed. So a free lock always means that the owner is gone, and recovery never waits,
never touches what a living sibling holds, and never looks at the indexed objects.

| found in a dead owner's directory | what it is | what is done |
|---|---|---|
| `.slot`, empty or beginning with zeros | never used, never acknowledged, or indexed and about to go | removed |
| any other `.slot`, `.dcm` | whole and flushed, perhaps acknowledged, perhaps indexed | for the caller to judge |
| anything else | not ours | left, counted and reported |
"""

# System calls on strings and descriptors: pathlib costs more than the call, and knows no dir_fd.
# ruff: noqa: PTH104, PTH108

import hashlib
import logging
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from .durable import (
    SpoolError,
    fsync_directory,
    make_directory,
    open_locked,
    open_regular,
    removed_if_empty,
    spool_error,
)
from .mark import MARK_BYTES, NO_MARK, Mark, mark_read
from .part_file import OBJECT_SUFFIX, SLOT_SUFFIX
from .store import BATCH, KEY, OWNER, Store

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")
_OWNER = re.compile(OWNER)
_UNBORN = re.compile(rf"\.new-{OWNER}")
_BATCH = re.compile(BATCH)
_SLOT = re.compile(rf"{KEY}\{SLOT_SUFFIX}")
_OBJECT = re.compile(rf"{KEY}(?:\{SLOT_SUFFIX}|\{OBJECT_SUFFIX})")

_UNMARK_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK = "lock"
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT
_NOTE = re.compile(rf"({KEY}|batch) ([0-9]{{1,4}})")
_NOTE_BYTES = 128
_CLAIM_TRIES = 16
_CHUNK_BYTES = 1 << 20


class OwnerDirectory:
    """A directory below `incoming` whose lock this process holds until `leave`, or until its end."""

    def __init__(self, path: str, lock: int) -> None:
        self.path = path
        self.owner = path.rpartition("/")[2]
        self._lock = lock

    @classmethod
    def create(cls, store: Store, name: str) -> Self:
        """A new directory `<name>-<16 hex digits>`, durable and locked; SpoolError if the file system fails.

        The lock goes with a fork: a child that does not exec keeps it. Start receivers by exec, or before their intake.
        """
        if _NAME.fullmatch(name) is None:
            raise SpoolError("name-invalid", "an owner's name: 1 to 48 letters, digits, - and _")
        try:
            for _ in range(_CLAIM_TRIES):
                path = f"{store.incoming}/{name}-{secrets.token_hex(8)}"
                lock = _born_locked(path)
                if lock is not None:
                    fsync_directory(path)
                    fsync_directory(store.incoming)
                    return cls(path, lock)
        except OSError as exc:
            raise spool_error(exc, step="making a receiver's directory") from exc
        raise SpoolError("spool-io", "a receiver's new directory keeps vanishing")

    @classmethod
    def claim(cls, path: str) -> Self | None:
        """The directory with its lock, if its owner is dead; None if it lives or another recovers it. Never waits."""
        try:
            lock = open_locked(f"{path}/{_LOCK}", _LOCK_FLAGS)  # a power cut may have lost the lock file alone
        except OSError as exc:
            raise spool_error(exc, step="locking a dead receiver's directory") from exc
        return None if lock is None else cls(path, lock)

    def note(self) -> str:
        """What its last holder noted and did not live to take away; "" if nothing can be read."""
        try:
            return os.pread(self._lock, _NOTE_BYTES, 0).decode("ascii", "replace")
        except OSError:
            return ""

    def note_set(self, text: str) -> None:
        """Kept with the lock for its next holder, if the disk has room: it outlives a kill, not a power cut."""
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, text.encode("ascii"), 0)
        except OSError as exc:
            logger.warning("spool.recovery.not_noted", extra={"owner": self.owner, "errno": exc.errno})

    @property
    def locked(self) -> bool:
        """False after `leave`."""
        return self._lock >= 0

    def leave(self, *, empty: bool) -> None:
        """The lock is given up, once; `empty` says that the directory may go, which it does if it really is so."""
        if self._lock < 0:
            return
        try:
            if empty:
                os.unlink(f"{self.path}/{_LOCK}")
                removed_if_empty(self.path)
        except OSError as exc:
            raise spool_error(exc, step="removing a receiver's directory") from exc
        finally:
            lock, self._lock = self._lock, -1
            os.close(lock)


def _born_locked(path: str) -> int | None:
    """The lock of a new directory that never was seen without it; None if a sibling swept it away before its birth."""
    directory, _, owner = path.rpartition("/")
    unborn = f"{directory}/.new-{owner}"
    make_directory(unborn)
    lock = open_locked(f"{unborn}/{_LOCK}", _LOCK_FLAGS)
    if lock is None:
        return None
    try:
        os.rename(unborn, path)
    except FileNotFoundError:
        os.close(lock)
        return None
    except OSError:
        os.close(lock)
        raise
    return lock


class Abandoned:
    """One dead owner's directory, its lock now held by us; `finish` it, or use it in a `with`.

    A crash of the recovery frees the lock again, and the next recovery finds what is left. Repeatable step by step.
    """

    def __init__(self, store: Store, directory: OwnerDirectory) -> None:
        self._store = store
        self._directory = directory
        self.owner = directory.owner
        self.parts_removed = 0
        self.remaining = 0
        note = _NOTE.fullmatch(directory.note())
        self._died_over, self._deaths = (note[1], int(note[2])) if note else ("", 0)

    @property
    def killed_before(self) -> bool:
        """True when the last recovery of this directory was killed: try its objects one by one."""
        return self._deaths > 0

    def trying(self, paths: list[Path]) -> int:
        """Notes what is tried from now on; answers how many recoveries in a row were killed while they tried just that.

        Only what kills the process leaves its note behind: `finish` takes it away.
        """
        subject = paths[0].stem if len(paths) == 1 else "batch"
        before = self._deaths if subject == self._died_over else 0
        self._directory.note_set(f"{subject} {before + 1}")
        return before

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.finish()

    def discard_parts(self) -> int:
        """No slot is left that has no mark, and never had one; answers how many of them held something.

        Their senders were never told Success, or the index had committed and only their release was cut short. One that
        cannot be read stays, and holds up no other.
        """
        removed = 0
        try:
            for batch in self._batches():
                for entry in _entries(batch):
                    if _SLOT.fullmatch(entry.name) and _begins_with_nothing(entry.path):
                        removed += entry.stat(follow_symlinks=False).st_size > 0
                        os.unlink(entry.path)
        except OSError as exc:
            raise spool_error(exc, step="removing unfinished files") from exc
        self.parts_removed += removed
        return removed

    def objects(self) -> Iterator[Path]:
        """The durable files, with or without a row in the index, oldest first; one batch in memory at a time.

        Call `discard_parts` before. Whoever adopts or quarantines one releases it afterwards.
        """
        for batch in self._batches():
            try:
                found = [e for e in _entries(batch) if _OBJECT.fullmatch(e.name) and e.is_file(follow_symlinks=False)]
                found.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns)
            except OSError as exc:
                raise spool_error(exc, step="listing a dead receiver's objects") from exc
            for entry in found:
                yield Path(entry.path)

    def release(self, path: Path) -> None:
        """The incoming name is gone: its object is indexed and committed, or quarantined. May be repeated."""
        if not self._directory.locked:
            raise SpoolError("spool-misused", "this directory is finished")
        if self._store.incoming_parts(str(path))[0] != self.owner:
            raise SpoolError("name-invalid", "an object of another directory")
        release_file(str(path))

    def finish(self) -> None:
        """Empty directories are removed and the lock is given up; what is left stays and is reported. May be repeated.

        `remaining` counts the entries that stayed: durable objects that nobody released, and what is not ours.
        """
        if not self._directory.locked:
            return
        empty = False
        try:
            self._directory.note_set("")
            self.remaining = self._remove_empty_batches()
            empty = self.remaining == 0
        finally:
            self._directory.leave(empty=empty)
        if not empty:
            logger.error("spool.recovery.remaining", extra={"owner": self.owner, "entries": self.remaining})

    def _remove_empty_batches(self) -> int:
        remaining = 0
        batches = self._batches()
        try:
            for batch in batches:
                if not removed_if_empty(batch):
                    remaining += len(_entries(batch))
            return remaining + sum(e.name != _LOCK and e.path not in batches for e in _entries(self._directory.path))
        except OSError as exc:
            raise spool_error(exc, step="removing a dead receiver's directory") from exc

    def _batches(self) -> list[str]:
        if not self._directory.locked:
            raise SpoolError("spool-misused", "this directory is finished")
        try:
            found = _entries(self._directory.path)
            batches = [e.path for e in found if _BATCH.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
        except OSError as exc:
            raise spool_error(exc, step="reading a dead receiver's directory") from exc
        return sorted(batches)


def _entries(path: str) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return list(entries)


def abandoned(store: Store) -> Iterator[Abandoned]:
    """Each directory whose owner is dead, locked for the caller; never waits and never looks at indexed objects.

    Repeat it now and then, not only at start: a sibling may die while we live. Safe in many processes at once.
    """
    try:
        found = sorted(_entries(str(store.incoming)), key=lambda entry: entry.name)
    except OSError as exc:
        raise spool_error(exc, step="looking for dead receivers") from exc
    unknown = 0
    for entry in found:
        unborn = _UNBORN.fullmatch(entry.name) is not None
        if not entry.is_dir(follow_symlinks=False) or not (unborn or _OWNER.fullmatch(entry.name)):
            unknown += not entry.name.startswith(".probe-")
            continue
        try:
            directory = OwnerDirectory.claim(entry.path)
            if directory is not None and unborn:
                directory.leave(empty=True)
                continue
        except SpoolError as exc:  # one sick directory must not hide the others
            logger.error("spool.recovery.failed", extra={"owner": entry.name, "code": exc.code})  # noqa: TRY400
            continue
        if directory is not None:
            yield Abandoned(store, directory)
    if unknown:
        logger.warning("spool.incoming.unknown", extra={"entries": unknown})


def release_file(path: str) -> None:
    """The name is gone, whether or not it was there, and from the file its mark; SpoolError if that cannot be.

    The mark's removal need neither succeed nor be durable: it harms nobody, and a disk that is full or has a bad block
    must not keep the name.
    """
    try:
        _unmark(path)
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise spool_error(exc, step="releasing an object") from exc


def _unmark(path: str) -> None:
    fd = os.open(path, _UNMARK_FLAGS)
    try:
        if mark_read(os.pread(fd, MARK_BYTES, 0), _key_of(path)) is not None:
            os.pwrite(fd, NO_MARK, 0)
    except OSError as exc:
        logger.warning("spool.mark.not_removed", extra={"errno": exc.errno})
    finally:
        os.close(fd)


def file_mark(path: str) -> Mark | None:
    """The mark of a spooled file; None if it has none. OSError, SpoolError `store-symlink`."""
    return mark_read(_head(path), _key_of(path))


def _head(path: str) -> bytes:
    with open_regular(path) as stream:
        return os.pread(stream.fileno(), MARK_BYTES, 0)


def _begins_with_nothing(path: str) -> bool:
    try:
        return not any(_head(path))
    except (OSError, SpoolError) as exc:
        logger.warning("spool.slot.not_readable", extra={"error": getattr(exc, "code", None) or exc.args[0]})
        return False


def _key_of(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]


def file_hash(path: Path, offset: int = 0) -> tuple[str, int]:
    """SHA-256 in hex and number of the bytes from `offset` to the end, in constant memory.

    With the file meta's length as offset these are the `sha256` and `size_bytes` of the SpooledObject.
    SpoolError `file-truncated` if the file ends before `offset`, `object-missing`, `store-symlink`.
    """
    digest = hashlib.sha256()
    size = 0
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    try:
        with open_regular(path) as stream:
            if os.fstat(stream.fileno()).st_size < offset:
                raise SpoolError("file-truncated")
            while count := os.preadv(stream.fileno(), [buffer], offset + size):
                digest.update(buffer[:count])
                size += count
    except OSError as exc:
        raise spool_error(exc, step="hashing a file", missing="object-missing") from exc
    return digest.hexdigest(), size
