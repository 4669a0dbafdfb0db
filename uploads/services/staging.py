"""Staged ciphertext: durable before its row, removed when the vault has confirmed it.

A staged file bears its own SHA-256 as its name: two workers, of which one has lost its lease without knowing it, can
never write over each other's bytes, and a row always names exactly the bytes that it was written for.
"""

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, cast

from django.conf import settings

from gateway_project.core.models import JobState
from studies.dicom.durable import fsync_directory, spool_error
from uploads.models import UploadJob, UploadPart

logger = logging.getLogger(__name__)

SYNC_EARLY_BYTES = 4 * 1024 * 1024
HELD_BYTES = 2 * 1024 * 1024
"""Ciphertext up to this size is also held in memory until it is sent, so that nobody reads and hashes it again."""


@dataclass(frozen=True)
class Draft:
    """A whole file that is neither durable nor under its name yet; `part` is its row, not saved yet.

    `content` is what was written, None for a large file.
    """

    part: UploadPart
    stream: FileIO
    path: Path
    content: bytes | None

    def discard(self) -> None:
        """Nothing is left of it. May be repeated, and is harmless once it is kept."""
        self.stream.close()
        self.path.unlink(missing_ok=True)


def staging_sweep() -> int:
    """Removes what this machine staged for uploads that are over; answers how many. For the start, before any worker.

    Left by a kill, or because another machine went on with the upload and finished it.
    """
    try:
        folders = [path for path in staging_root().iterdir() if path.is_dir()]
    except FileNotFoundError:
        return 0
    open_jobs = UploadJob.objects.exclude(state__in=(JobState.DONE, JobState.CANCELLED))
    known = set(open_jobs.filter(upload_id__in=[path.name for path in folders]).values_list("upload_id", flat=True))
    over = [path for path in folders if path.name not in known]
    for path in over:
        shutil.rmtree(path, ignore_errors=True)
    if over:
        logger.info("staged files removed", extra={"uploads": len(over)})
    return len(over)


def staging_root() -> Path:
    return Path(settings.DATA_DIR) / "uploads"


class _Sink:
    """Takes a file in pieces: a small one is written in one go and kept in memory too, a large one as it comes."""

    def __init__(self, stream: FileIO) -> None:
        self._stream = stream
        self._pieces: list[bytes] = []
        self._size_bytes = 0

    def write(self, data: bytes) -> None:
        self._size_bytes += len(data)
        self._pieces.append(data)
        if self._size_bytes > HELD_BYTES:
            self._flush()

    def end(self) -> bytes | None:
        """All is with the system; answers the whole content, None if it is too much to hold."""
        written = self._flush()
        return written if self._size_bytes <= HELD_BYTES else None

    def _flush(self) -> bytes:
        content = b"".join(self._pieces)
        self._pieces.clear()
        rest = memoryview(content)
        while rest:
            rest = rest[self._stream.write(rest) :]
        return content


class Staging:
    """The folder of one upload. Only ciphertext is ever written here. A failing disk is a SpoolError."""

    def __init__(self, upload_id: str) -> None:
        self._folder = staging_root() / upload_id

    def prepare(self, keep: Collection[str]) -> None:
        """The folder is there, durably; whatever is not named in `keep` (hashes with a row) is removed: cut writes."""
        try:
            for folder in (self._folder.parent, self._folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                fsync_directory(folder.parent)
            for path in self._folder.iterdir():
                if path.name not in keep:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise spool_error(error, step="preparing the staging folder") from error

    def write(self, fill: Callable[[BinaryIO], UploadPart]) -> Draft:
        """What `fill` wrote (it answers the row, with its hash), for `keep`. Several threads may write at once.

        Whatever `fill` raises leaves nothing behind; a crash leaves a part that the next `prepare` removes.
        """
        partial = self._folder / f"{secrets.token_hex(8)}.part"
        try:
            descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            stream = FileIO(descriptor, "wb")
            try:
                sink = _Sink(stream)
                part = fill(cast("BinaryIO", sink))
                content = sink.end()
                if stream.tell() >= SYNC_EARLY_BYTES:  # a large file holds up its own thread here, and `keep` nobody
                    os.fsync(stream.fileno())
            except BaseException:
                stream.close()
                partial.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise spool_error(error, step="staging a sealed file") from error
        return Draft(part, stream, partial, content)

    def keep(self, drafts: Sequence[Draft]) -> None:
        """All of them are durable on return, each under its hash; one sync of the folder serves them all.

        Each is synced on the descriptor that wrote it: only there a failed write is sure to be told. If one fails,
        none is kept.
        """
        try:
            for draft in drafts:
                os.fsync(draft.stream.fileno())
            for draft in drafts:
                draft.stream.close()
                draft.path.rename(self._folder / draft.part.sha256)
            fsync_directory(self._folder)
        except OSError as error:
            for draft in drafts:
                draft.discard()
            self.remove([draft.part.sha256 for draft in drafts])
            raise spool_error(error, step="staging sealed files") from error

    def open(self, sha256: str) -> BinaryIO | None:
        """The staged bytes, None when they are not here (any more)."""
        try:
            return (self._folder / sha256).open("rb", buffering=0)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise spool_error(error, step="reading a staged file") from error

    def remove(self, hashes: Collection[str]) -> None:
        """Not made durable: what comes back after a power cut is removed by the next `prepare` or `clear`."""
        try:
            for sha256 in hashes:
                (self._folder / sha256).unlink(missing_ok=True)
        except OSError as error:
            raise spool_error(error, step="removing a staged file") from error

    def clear(self) -> None:
        """The folder is gone. May be repeated and may race."""
        try:
            shutil.rmtree(self._folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise spool_error(error, step="removing the staging folder") from error
