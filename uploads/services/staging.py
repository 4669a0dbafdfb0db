"""Staged ciphertext: durable before its row, removed when the vault has confirmed it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from django.conf import settings

from studies.dicom.durable import fsync_directory


class Staging:
    """The folder of one upload. Only ciphertext is ever written here."""

    def __init__(self, upload_id: str) -> None:
        self._folder = Path(settings.DATA_DIR) / "uploads" / upload_id

    def prepare(self, names: set[str]) -> None:
        """Makes the folder; removes what has no row: a write that was cut."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if path.name not in names:
                path.unlink()

    def write(self, name: str, fill: Callable[[BinaryIO], object]) -> None:
        """On return the file is whole and durable under its name; before that it has another one."""
        partial = self._folder / f"{name}.part"
        descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            fill(stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.rename(self._folder / name)
        fsync_directory(self._folder)

    def open(self, name: str) -> BinaryIO | None:
        """The staged bytes, None when they are not here (any more)."""
        try:
            return (self._folder / name).open("rb")
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes the folder: the vault has given its receipt."""
        shutil.rmtree(self._folder, ignore_errors=False) if self._folder.exists() else None
