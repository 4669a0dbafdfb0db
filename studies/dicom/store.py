"""Where objects live on disk: the store's directories and names, and how an object comes by its lasting one.

    <root>/incoming/<owner>/lock                                   see recovery.py
    <root>/incoming/<owner>/<batch>/<instance key>.slot|.dcm       see spool.py
    <root>/objects/<study key>/<series key>/<instance key>.dcm     indexed objects
    <root>/store.name                                              one name for all machines: stores.py
    <root>/quarantine/<sha256>.bin                                 refused objects, one of each content

Directories are 0700 and files 0600, whatever the umask. All lies on one file system, because an object gets its
lasting name by a hard link. Keys are hex of our own making: nothing that a peer sends can be part of a path.
"""

# System calls on strings and descriptors: pathlib costs more than the call, and knows no dir_fd.
# ruff: noqa: PTH108, PTH110, PTH116, PTH119, PTH120

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gateway_project.core.failpoint import failpoint

from .durable import (
    DIRECTORY_FLAGS,
    SpoolError,
    fsync_directory,
    linked_first,
    make_directory,
    open_locked,
    open_regular,
    removed_if_empty,
    spool_error,
    write_all,
)

KEY = r"[0-9a-f]{8,64}"
OWNER = r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}-[0-9a-f]{16}"
BATCH = r"[0-9]{8}"

_KEY = re.compile(KEY)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OBJECT_NAME = re.compile(rf"objects/{KEY}/{KEY}/{KEY}\.dcm")
_QUARANTINE_NAME = re.compile(r"quarantine/[0-9a-f]{64}\.bin")
_INCOMING_NAME = re.compile(rf"incoming/{OWNER}/{BATCH}/{KEY}\.(?:slot|dcm)")

_STORE_NAME = "store.name"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_CHUNK_BYTES = 1 << 20
_PLACE_TRIES = 16


class Store:
    """One store of objects beneath one root. Safe for many threads and many processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.incoming = self.root / "incoming"
        self._root = str(self.root)
        self._prefix = f"{self._root}/"
        self._quarantine = f"{self._root}/quarantine"

    # Start-up

    def prepare(self) -> None:
        """The directories exist, are ours alone, accept hard links among each other and locks; may be repeated.

        Raises SpoolError `store-exposed`, `store-symlink`, `store-not-one-filesystem`, `store-no-hard-links` or
        `store-no-locks`: the process must then not start. Unfinished copies for the quarantine that a crash left are
        removed.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            device = _checked_device(self._root)
            for name in ("incoming", "objects", "quarantine"):
                path = f"{self._root}/{name}"
                make_directory(path)
                if _checked_device(path) != device:
                    raise SpoolError("store-not-one-filesystem", name)
            self._check_links()
            self._sweep_quarantine()
            fsync_directory(self._root)
            _fsync_parent(self.root)
        except OSError as exc:
            raise spool_error(exc, step="preparing the store") from exc

    def _check_links(self) -> None:
        """Locks work, and links from `incoming` to each other directory, which two mounts of one disk do not allow."""
        leaf = f".probe-{secrets.token_hex(8)}"
        source = f"{self._root}/incoming/{leaf}"
        os.close(os.open(source, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            _check_locks(source)
            for name in ("objects", "quarantine"):
                target = f"{self._root}/{name}/{leaf}"
                os.link(source, target)
                os.unlink(target)
        except OSError as exc:
            if exc.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise SpoolError("store-no-hard-links") from exc
            raise
        finally:
            os.unlink(source)

    def _sweep_quarantine(self) -> None:
        with os.scandir(self._quarantine) as entries:
            parts = [entry.path for entry in entries if entry.name.endswith(".part")]
        for path in parts:
            fd = open_locked(path, os.O_RDWR)
            if fd is not None:
                os.unlink(path)
                os.close(fd)

    def free_bytes(self) -> int:
        """Bytes that an unprivileged process may still write."""
        try:
            usage = os.statvfs(self._root)
        except OSError as exc:
            raise spool_error(exc, step="reading the free space") from exc
        return usage.f_bavail * usage.f_frsize

    def name(self) -> str:
        """The store's own random name, given once and kept in it; two machines with the same name have one store."""
        path = f"{self._root}/{_STORE_NAME}"
        try:
            if not os.path.lexists(path):
                self._name_make(path)
            with open_regular(path) as stream:
                found = stream.read(64).decode("ascii", "replace")
        except OSError as exc:
            raise spool_error(exc, step="reading the store's name") from exc
        if _KEY.fullmatch(found) is None:
            raise SpoolError("spool-io", f"the file {_STORE_NAME} in the store is damaged")
        return found

    def _name_make(self, path: str) -> None:
        part = f"{path}.{secrets.token_hex(8)}"
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, secrets.token_hex(16).encode())
            os.fsync(fd)
            linked_first(part, path)
        finally:
            os.close(fd)
            os.unlink(part)
        fsync_directory(self._root)

    # Names

    @staticmethod
    def object_name(study_key: str, series_key: str, instance_key: str) -> str:
        """`objects/<study>/<series>/<instance>.dcm`; SpoolError `name-invalid` unless all keys are 8-64 hex digits."""
        for key in (study_key, series_key, instance_key):
            if _KEY.fullmatch(key) is None:
                raise SpoolError("name-invalid")
        return f"objects/{study_key}/{series_key}/{instance_key}.dcm"

    @staticmethod
    def quarantine_name(sha256: str) -> str:
        """`quarantine/<sha256>.bin`; SpoolError `name-invalid` unless it is 64 hex digits."""
        if _SHA256.fullmatch(sha256) is None:
            raise SpoolError("name-invalid")
        return f"quarantine/{sha256}.bin"

    def incoming_parts(self, path: str) -> tuple[str, str, str]:
        """Owner, batch and file name of an incoming object's path; SpoolError `name-invalid` if it is not one."""
        if not path.startswith(self._prefix) or _INCOMING_NAME.fullmatch(path, len(self._prefix)) is None:
            raise SpoolError("name-invalid")
        owner, batch, leaf = path.rsplit("/", 3)[1:]
        return owner, batch, leaf

    # Objects

    def place(self, incoming: Path | str, name: str) -> None:
        """The durable file `incoming` also bears `name`; that itself is durable only after `sync([name])`.

        `incoming` is an object's path in the spool, or a quarantined file's. May be repeated: the same file already
        there is success. Another file there: SpoolError `name-taken`, nothing is overwritten. The incoming name stays
        until it is released, so a crash loses nothing.
        """
        source, target = str(incoming), self._path_of(name, _OBJECT_NAME)
        if not self._may_be_placed(source):
            raise SpoolError("name-invalid")
        try:
            self._link_object(source, target)
        except OSError as exc:
            raise spool_error(exc, step="placing an object", missing="object-missing") from exc
        failpoint("spool.placed")

    def _path_of(self, name: str, *patterns: re.Pattern[str]) -> str:
        if not any(pattern.fullmatch(name) for pattern in patterns):
            raise SpoolError("name-invalid")
        return self._prefix + name

    def _may_be_placed(self, path: str) -> bool:
        start = len(self._prefix)
        known = _INCOMING_NAME.fullmatch(path, start) or _QUARANTINE_NAME.fullmatch(path, start)
        return path.startswith(self._prefix) and known is not None

    def _link_object(self, source: str, target: str) -> None:
        for _ in range(_PLACE_TRIES):  # a cleanup may remove the parents it finds empty between two steps of ours
            try:
                if linked_first(source, target) or os.path.samestat(os.lstat(source), os.lstat(target)):
                    return
                raise SpoolError("name-taken")
            except FileNotFoundError:
                os.lstat(source)  # raises again when it is the source that is missing
                series = os.path.dirname(target)
                make_directory(os.path.dirname(series))
                make_directory(series)
        raise SpoolError("spool-io", "the object's directory keeps vanishing")

    def sync(self, names: Iterable[str]) -> None:
        """On return all these names survive a power cut, with the directories that hold them; each is flushed once.

        All three levels are flushed, always: another process may have made a directory and not flushed it yet.
        Commit the index after this, never before.
        """
        directories: set[str] = set()
        for name in names:
            self._path_of(name, _OBJECT_NAME)
            series = os.path.dirname(name)
            directories.update((series, os.path.dirname(series), "objects"))
        try:
            for directory in sorted(directories, reverse=True):
                with self._directory(directory) as fd:
                    os.fsync(fd)
        except OSError as exc:
            raise spool_error(exc, step="flushing the directories of placed objects") from exc
        failpoint("spool.synced")

    @contextmanager
    def _directory(self, relative: str) -> Iterator[int]:
        """A descriptor of a directory of ours; no component of the way may be a symbolic link."""
        fd = os.open(self._root, DIRECTORY_FLAGS)
        try:
            for part in relative.split("/"):
                above, fd = fd, os.open(part, DIRECTORY_FLAGS, dir_fd=fd)
                os.close(above)
            yield fd
        finally:
            os.close(fd)

    def open(self, name: str) -> BinaryIO:
        """The stored object or quarantined file, for reading; SpoolError `object-missing`, or `store-symlink` for
        whatever is not a regular file of ours.
        """
        self._path_of(name, _OBJECT_NAME, _QUARANTINE_NAME)
        directory, _, leaf = name.rpartition("/")
        try:
            with self._directory(directory) as fd:
                return open_regular(leaf, directory=fd)
        except OSError as exc:
            raise spool_error(exc, step="opening an object", missing="object-missing") from exc

    def size(self, name: str) -> int:
        """Bytes of the stored file, its file meta included. Errors as of `open`."""
        path = self._path_of(name, _OBJECT_NAME, _QUARANTINE_NAME)
        try:
            status = os.lstat(path)
        except OSError as exc:
            raise spool_error(exc, step="reading an object's size", missing="object-missing") from exc
        if not stat.S_ISREG(status.st_mode):
            raise SpoolError("store-symlink")
        return status.st_size

    def remove(self, name: str) -> None:
        """The name is gone, and its series and study directories with it if they are empty; may be repeated."""
        self._path_of(name, _OBJECT_NAME, _QUARANTINE_NAME)
        directory, _, leaf = name.rpartition("/")
        try:
            with self._directory(directory) as fd:
                os.unlink(leaf, dir_fd=fd)
        except FileNotFoundError:
            pass  # gone before; its parents may still be there
        except OSError as exc:
            raise spool_error(exc, step="removing an object") from exc
        try:
            while directory.count("/") and removed_if_empty(self._prefix + directory):
                directory = os.path.dirname(directory)
        except OSError as exc:
            raise spool_error(exc, step="removing an empty directory") from exc

    # Quarantine

    def quarantine(self, source: bytes | Path, *, sha256: str) -> bool:
        """The content is kept durably under its hash; False if it was there already. May be repeated.

        `sha256` is taken as the name and not checked. An incoming file of ours is linked (release it afterwards); bytes
        and any other file are copied in constant memory. A crash leaves the whole file or none.
        """
        target = self._prefix + self.quarantine_name(sha256)
        try:
            if os.path.lexists(target):
                if not stat.S_ISREG(os.lstat(target).st_mode):
                    raise SpoolError("store-symlink")
                new = False
            elif isinstance(source, Path) and self._may_be_placed(str(source)):
                new = linked_first(str(source), target)
            else:
                new = self._quarantine_copy(source, target)
            fsync_directory(self._quarantine)  # also when it was there: its maker may not have come so far
        except OSError as exc:
            raise spool_error(exc, step="quarantining an object", missing="object-missing") from exc
        return new

    def quarantined(self) -> Iterator[str]:
        """The SHA-256 of every quarantined file, in no order; SpoolError if the directory cannot be read."""
        try:
            with os.scandir(self._quarantine) as entries:
                for entry in entries:
                    if _QUARANTINE_NAME.fullmatch(f"quarantine/{entry.name}"):
                        yield entry.name.removesuffix(".bin")
        except OSError as exc:
            raise spool_error(exc, step="listing the quarantine") from exc

    def _quarantine_copy(self, source: bytes | Path, target: str) -> bool:
        part = f"{self._quarantine}/{secrets.token_hex(16)}.part"
        fd = open_locked(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        if fd is None:
            raise SpoolError("spool-io", "a starting process swept the copy away between its creation and its lock")
        try:
            for piece in _pieces(source):
                write_all(fd, piece)
            os.fsync(fd)
            return linked_first(part, target)
        finally:
            os.unlink(part)
            os.close(fd)


def _checked_device(path: str) -> int:
    """The device of a directory that is real, ours and closed to others."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        elsewhere = os.path.exists(path) and os.stat(path).st_dev != status.st_dev
        raise SpoolError("store-not-one-filesystem" if elsewhere else "store-symlink", os.path.basename(path))
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise SpoolError("store-exposed", os.path.basename(path))
    return status.st_dev


def _check_locks(path: str) -> None:
    """Of two descriptors of a file one can be locked: without that, a living receiver would be taken for a dead one."""
    first = second = None
    try:
        first, second = open_locked(path, os.O_RDWR), open_locked(path, os.O_RDWR)  # NFS locks no O_RDONLY
        if first is None or second is not None:
            raise SpoolError("store-no-locks")
    except OSError as exc:
        if exc.errno in _NO_LOCKS:
            raise SpoolError("store-no-locks", errno.errorcode[exc.errno]) from exc
        raise
    finally:
        for fd in (first, second):
            if fd is not None:
                os.close(fd)


def _fsync_parent(path: Path) -> None:
    try:
        fsync_directory(path.parent)
    except PermissionError:
        return  # a directory that we may not read is not of our making


def _pieces(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with open_regular(source) as stream:
        while piece := stream.read(_CHUNK_BYTES):
            yield piece
