"""Files that are whole or absent after a power cut, and that only their owner can read."""

import contextlib
import fcntl
import json
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from uploads.vault.errors import VaultStoreError

RECORD_BYTES_MAX = 256 * 1024 * 1024


def directory_make(path: Path) -> None:
    """After return the directory exists, with mode 0700 if it is new, whatever the umask, and survives a power cut.

    Parents have to exist. May be repeated.
    """
    try:
        path.mkdir(mode=0o700)
        path.chmod(0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    directory_sync(path.parent)  # also when it exists: who made it may not have come so far


def directory_sync(path: Path) -> None:
    """After return, names made or removed in this directory survive a power cut. Raises OSError; then nothing is
    known.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass
class _Turns:
    users: int = 0
    begun: int = 0
    done: int = 0
    running: bool = False
    failed: OSError | None = None


class SharedSync:
    """`directory_sync` for many threads: who comes while one runs shares the next one, which begins after they came."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._turns: dict[Path, _Turns] = {}

    def sync(self, path: Path) -> None:
        """As `directory_sync`; an error is raised in all threads that waited for it."""
        with self._condition:
            turns = self._turns.setdefault(path, _Turns())
            turns.users += 1
            needed = turns.begun + 1
            try:
                while turns.done < needed:
                    if turns.running:
                        self._condition.wait()
                    else:
                        self._run(path, turns)
                if turns.failed is not None:
                    raise OSError(turns.failed.errno, turns.failed.strerror)
            finally:
                turns.users -= 1
                if not turns.users:
                    del self._turns[path]

    def waiting(self, path: Path) -> int:
        """How many threads are in `sync` for this directory now."""
        with self._condition:
            turns = self._turns.get(path)
            return turns.users if turns is not None else 0

    def _run(self, path: Path, turns: _Turns) -> None:
        turns.begun, turns.running = turns.begun + 1, True
        self._condition.release()
        failed: OSError | None = None
        try:
            directory_sync(path)
        except OSError as error:
            failed = error
        finally:
            self._condition.acquire()
            turns.running, turns.done = False, turns.begun
            turns.failed = turns.failed or failed
            self._condition.notify_all()


@contextlib.contextmanager
def directory_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the directory against every other thread and process of this host; `store-locked` if not `wait` and taken.

    The lock is the kernel's, so a killed holder leaves none behind.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise VaultStoreError("store-locked") from error
        yield
    finally:
        os.close(descriptor)


def file_create(path: Path) -> int:
    """Returns the descriptor of a new file of mode 0600; FileExistsError, or ELOOP, instead of following anything."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def file_write(path: Path, content: bytes, *, durable: bool = True) -> None:
    """After return `path` holds exactly `content`, mode 0600, and survives a power cut; a crash leaves old or new,
    whole.

    A crash may also leave an unused `.<name>.<random>.part`, which nothing reads. Not `durable`: quicker, and after a
    power cut the file may be empty or missing.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(file_create(part), "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    if durable:
        directory_sync(path.parent)


def record_write(path: Path, record: Mapping[str, object], *, durable: bool = True) -> None:
    """`file_write` of a JSON object."""
    file_write(path, json.dumps(record, indent=1, sort_keys=True).encode() + b"\n", durable=durable)


def record_read(path: Path, *, secret: bool = False) -> dict[str, object] | None:
    """Returns the JSON object in a regular file, None when there is no file; `record-invalid` for anything else.

    With `secret`, a file that group or others have any right to is `file-exposed`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if secret and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise VaultStoreError("file-exposed")
        if not stat.S_ISREG(status.st_mode) or status.st_size > RECORD_BYTES_MAX:
            raise VaultStoreError("record-invalid")
        content = file.read(RECORD_BYTES_MAX)
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise VaultStoreError("record-invalid") from error
    if not isinstance(record, dict):
        raise VaultStoreError("record-invalid")
    return record
