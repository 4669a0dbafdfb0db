"""Staged ciphertext: durable before its row, removed when the vault has confirmed it.

A staged file bears its own SHA-256 as its name: two workers, of which one has lost its lease without knowing it, can
never write over each other's bytes, and a row always names exactly the bytes that it was written for.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from django.conf import settings

from studies.dicom.durable import fsync_directory, spool_error


class Hashed(Protocol):
    """What was written: at least its SHA-256 (hexadecimal)."""

    @property
    def sha256(self) -> str: ...


T = TypeVar("T", bound=Hashed)


class Staging:
    """The folder of one upload. Only ciphertext is ever written here. A failing disk is a SpoolError."""

    def __init__(self, upload_id: str) -> None:
        self._folder = Path(settings.DATA_DIR) / "uploads" / upload_id

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

    def write(self, fill: Callable[[BinaryIO], T]) -> T:
        """What `fill` wrote is whole and durable on return, under the hash that it answers.

        Whatever `fill` raises leaves nothing behind; a crash leaves a part that the next `prepare` removes.
        """
        partial = self._folder / f"{secrets.token_hex(8)}.part"
        try:
            descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    written = fill(stream)
                    stream.flush()
                    os.fsync(stream.fileno())
                partial.rename(self._folder / written.sha256)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            fsync_directory(self._folder)
        except OSError as error:
            raise spool_error(error, step="staging a sealed file") from error
        return written

    def open(self, sha256: str) -> BinaryIO | None:
        """The staged bytes, None when they are not here (any more)."""
        try:
            return (self._folder / sha256).open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise spool_error(error, step="reading a staged file") from error

    def remove(self, sha256: str) -> None:
        """Not made durable: what comes back after a power cut is removed by the next `prepare` or `clear`."""
        try:
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
