"""Pictures that were made already, on disk below the data directory: a cache that may be emptied at any time.

A patient's pixels lie here: 0600 in directories of 0700, and every name is a hash of our own key of the object and of
what was asked, never a UID or a name. Bounded in bytes and in age; what an object's pictures are is forgotten with it.
"""

import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from studies.dicom.render_request import RENDERER_VERSION, Request

logger = logging.getLogger(__name__)

SUFFIX: Final = ".picture"
MAX_HEAD: Final = 65_536
MAX_AGE_SECONDS: Final = 30 * 86_400
TOUCH_SECONDS: Final = 3600
FILLED: Final = 0.9  # of the bound, after trimming
TRIM_AFTER: Final = 0.05  # of the bound written by this process: trim before the hour has passed
FAULT_SECONDS: Final = 600

Found = tuple[dict[str, Any], bytes]


def picture_name(instance_key: str, request: Request) -> str:
    """What this very picture is called, on disk and as ETag; another look of the renderer has other names."""
    asked = asdict(request) | {"sha256": "", "renderer": RENDERER_VERSION, "instance": instance_key}
    return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).hexdigest()


def _folder(instance_key: str) -> str:
    name = hashlib.blake2b(instance_key.encode(), digest_size=16).hexdigest()
    return f"{name[:2]}/{name}"


class PictureCache:
    def __init__(self, root: Path) -> None:
        self.root = root
        self._written = 0
        self._guard = threading.Lock()

    def load(self, instance_key: str, request: Request) -> Found | None:
        """The picture, or why there was none (`error` in its facts; for ten minutes where that may pass)."""
        path = self._path(instance_key, request)
        try:
            with path.open("rb") as stream:
                age = time.time() - os.fstat(stream.fileno()).st_mtime
                facts = json.loads(stream.readline(MAX_HEAD))
                picture = stream.read()
        except (OSError, ValueError):
            return None
        if "error" in facts and facts.get("passing") and age > FAULT_SECONDS:
            return None
        if age > TOUCH_SECONDS:
            with suppress(OSError):
                os.utime(path)
        return facts, picture

    def store(self, instance_key: str, request: Request, found: Found, *, most_bytes: int) -> None:
        """Kept if the disk lets it: a cache that cannot be written costs time, nothing else."""
        facts, picture = found
        path = self._path(instance_key, request)
        part = path.with_name(f"{secrets.token_hex(8)}.part")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:  # noqa: PTH123
                stream.write(json.dumps(facts).encode() + b"\n")
                stream.write(picture)
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            logger.warning("picture not cached", extra={"error": type(error).__name__, "errno": error.errno})
            return
        with self._guard:
            self._written += len(picture)
            due = self._written > most_bytes * TRIM_AFTER
        if due:
            self.trim(most_bytes=most_bytes)

    def forget(self, instance_key: str) -> None:
        """Removes every picture of an object: its files are gone, or were not what was received."""
        shutil.rmtree(self.root / _folder(instance_key), ignore_errors=True)

    def trim(self, *, most_bytes: int) -> int:
        """Removes what is too old, then what was looked at longest ago until the bound holds; answers the bytes left.

        One process at a time; another that comes meanwhile leaves it to that one and answers -1.
        """
        with self._guard:
            self._written = 0
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.root / "lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return -1
            return self._trimmed(most_bytes)

    def _trimmed(self, most_bytes: int) -> int:
        oldest = time.time() - MAX_AGE_SECONDS
        files = sorted(self._files())
        total = sum(size for _moment, size, _path in files)
        allowed = most_bytes if total <= most_bytes else most_bytes * FILLED
        for moment, size, path in files:
            if total <= allowed and moment >= oldest:
                break
            path.unlink(missing_ok=True)
            with suppress(OSError):  # only when it was the last
                path.parent.rmdir()
            total -= size
        return total

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        for path in self.root.glob("[0-9a-f][0-9a-f]/*/*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                yield status.st_mtime, status.st_size, path

    def _path(self, instance_key: str, request: Request) -> Path:
        return self.root / _folder(instance_key) / (picture_name(instance_key, request) + SUFFIX)
