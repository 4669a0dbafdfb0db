"""Log files that several processes append to: whole lines, rotated from one place, and a full disk that nobody notices
but the counters.
"""

import datetime as dt
import errno
import fcntl
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway_project.core.log_limit import EventLimit, LimitedHandler

logger = logging.getLogger(__name__)

LOG_NAME = "gateway.log"
ERRORS_NAME = "gateway.errors.log"
LOG_NAMES = (LOG_NAME, ERRORS_NAME)
PROBE_BYTES = 4096


class SharedFileHandler(LimitedHandler):
    """Appends each record as one line by one write (O_APPEND), to the file that has the name at that moment.

    Lines of several processes never mix. Another process may rename the file at any time: it is opened anew when its
    inode is no longer the name's. A failing write (disk full, directory gone) loses the line and never raises: it is
    counted in `lost`, and told by a line of its own once writing works again. The file is 0600, its directory 0700.
    """

    def __init__(
        self, filename: str | Path, level: int | str = logging.NOTSET, *, limit: EventLimit | None = None
    ) -> None:
        super().__init__(level, limit=limit)
        self.path = Path(filename)
        self._descriptor: int | None = None
        self._inode = (0, 0)
        self._torn = False
        self._untold = 0
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if self._untold and self._write(self.format(_lost_record(self._untold))):
                self._untold = 0
            if not self._write(line):
                self.lost += 1
                self._untold += 1
        except Exception:  # noqa: BLE001 - whatever logging meets, the caller's work goes on
            self.handleError(record)

    def close(self) -> None:
        super().close()
        self._release()

    def _write(self, line: str) -> bool:
        data = (("\n" if self._torn else "") + line + "\n").encode()
        try:
            written = os.write(self._current(), data)
        except OSError:
            self._release()
            return False
        if written:
            self._torn = written < len(data)
        return written == len(data)

    def _current(self) -> int:
        """The descriptor of the file that has our name now. Raises OSError."""
        try:
            found = self.path.stat()
            inode = (found.st_dev, found.st_ino)
        except FileNotFoundError:
            inode = (0, 0)
        if self._descriptor is None or inode != self._inode:
            self._release()
            self._open()
        if self._descriptor is None:
            raise OSError(errno.EBADF, "log file is not open")
        return self._descriptor

    def _open(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self.path, flags, 0o600)
        found = os.fstat(self._descriptor)
        self._inode = (found.st_dev, found.st_ino)

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                os.close(descriptor)
            except OSError:
                self.failures += 1


class ConsoleHandler(LimitedHandler):
    """Writes each record as one line to stderr as it is at that moment; a closed console never raises."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - as above
            self.handleError(record)


def lines_lost() -> int:
    """How many lines this process could not write to its log files since it started (a full disk, above all)."""
    return sum(handler.lost for handler in logging.getLogger().handlers if isinstance(handler, SharedFileHandler))


def directory_probe(directory: Path) -> str:
    """Why nothing can be written there now ("ENOSPC"), or "": a block is written, flushed and taken away."""
    path = directory / f".probe-{os.getpid()}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            written = os.write(descriptor, bytes(PROBE_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            path.unlink()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "unknown error")
    return "" if written == PROBE_BYTES else "ENOSPC"


def rotate(
    directory: Path,
    *,
    max_bytes: int,
    archive_directory: Path,
    max_archive_files: int,
    now: dt.datetime | None = None,
) -> list[Path]:
    """Moves each log file of at least `max_bytes` into the archive and deletes the oldest beyond `max_archive_files` of
    its kind; answers the new archive files.

    For one place only (the ticker); while another rotates, it does nothing. Writers go on: they open the name anew. May
    be repeated after a crash. Never raises OSError: a fault is logged, and the next call tries again.
    """
    moment = now or dt.datetime.now(tz=dt.UTC)
    archived: list[Path] = []
    try:
        archive_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _exclusive(archive_directory):
            for name in LOG_NAMES:
                path = directory / name
                archived += _rotate_one(path, max_bytes=max_bytes, archive_directory=archive_directory, moment=moment)
                _prune(archive_directory, name=name, keep=max_archive_files)
    except BlockingIOError:
        logger.info("log rotation left to another process")
    except OSError:
        logger.warning("log files not rotated", exc_info=True)
    return archived


@contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Holds the directory's lock, which ends with the process. Raises BlockingIOError while another holds it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _rotate_one(path: Path, *, max_bytes: int, archive_directory: Path, moment: dt.datetime) -> list[Path]:
    if not path.exists() or path.stat().st_size < max_bytes:
        return []
    target = _archive_path(path, archive_directory=archive_directory, moment=moment)
    while target.exists():  # the clock was set back
        moment += dt.timedelta(microseconds=1)
        target = _archive_path(path, archive_directory=archive_directory, moment=moment)
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_across(path, target)
    return [target]


def _archive_path(path: Path, *, archive_directory: Path, moment: dt.datetime) -> Path:
    return archive_directory / f"{path.stem}-{moment:%Y%m%dT%H%M%S%f}{path.suffix}"


def _move_across(path: Path, target: Path) -> None:
    """To another file system: renamed in place first, so that writers have left it before it is copied."""
    aside = path.with_name(target.name)
    path.rename(aside)
    part = target.with_name(target.name + ".part")
    shutil.copyfile(aside, part)
    part.chmod(0o600)
    part.replace(target)
    aside.unlink()


def _prune(archive_directory: Path, *, name: str, keep: int) -> None:
    stem, suffix = Path(name).stem, Path(name).suffix
    archives = sorted(archive_directory.glob(f"{stem}-[0-9]*{suffix}"), key=lambda path: path.name)
    for path in archives[: max(0, len(archives) - keep)]:
        path.unlink(missing_ok=True)


def _lost_record(count: int) -> logging.LogRecord:
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, "log lines lost", None, None)
    fields: dict[str, Any] = {"lost": count}
    record.__dict__.update(fields)
    return record
