"""Pictures of stored objects for pages: from the cache, else made in a process that may be killed.

Each web process has a pool of its own (docs/decisions/0015). What cannot be shown is answered with its reason.
"""

import hashlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings

from gateway_project.core.models import AuditEventType
from gateway_project.core.options import option
from gateway_project.core.services.audit import audit_record
from studies.dicom.render_errors import RenderError
from studies.dicom.render_pool import Limits, RenderPool
from studies.dicom.render_request import FORMATS, Request
from studies.dicom.spool import SpoolError, Store
from studies.models import Instance
from studies.selectors import store_root
from studies.services.picture_cache import PictureCache, picture_name

logger = logging.getLogger(__name__)

MIB = 1 << 20
CHECKED_KEPT = 20_000
# What another try may bring: not kept, or not for long.
PASSING = ("picture-slow", "picture-killed")
NOT_KEPT = ("picture-off", "picture-busy", "picture-file-missing", "picture-file-damaged")

_guard = threading.Lock()
_pool: RenderPool | None = None
_pool_of = 0
_cache: PictureCache | None = None
_checked: OrderedDict[tuple[int, int, int, int], str] = OrderedDict()


@dataclass(frozen=True)
class Picture:
    """`data` is empty when there is none; `code` and `words` then say why. `facts`: frame, window, size as stored."""

    data: bytes
    media_type: str
    facts: dict[str, Any]
    code: str = ""
    words: str = ""


def picture_etag(instance: Instance, request: Request) -> str:
    """The same as long as the picture is; known without reading anything."""
    return f'"{picture_name(instance.key, request)}"'


def picture_make(instance: Instance, request: Request) -> Picture:
    """The picture of a stored object, or the reason why there is none; never raises for what an object holds.

    May be repeated. `picture-busy`: too many at this moment. A file that is gone takes its pictures with it.
    """
    cache = picture_cache()
    try:
        with _opened(instance) as stream:
            facts, data = cache.load(instance.key, request) or _made(cache, stream, instance, request)
    except RenderError as error:
        if error.code in ("picture-file-missing", "picture-file-damaged"):
            cache.forget(instance.key)
        return Picture(b"", "", {}, code=error.code, words=str(error))
    if "error" in facts:
        return Picture(b"", "", {}, code=facts["error"], words=facts["words"])
    return Picture(data, FORMATS[facts["format"]], facts)


def _opened(instance: Instance) -> BinaryIO:
    """The stored file; RenderError when it is not there, or nothing of ours."""
    if instance.file_deleted_at is not None:
        raise RenderError("picture-file-missing", "The files of this study were deleted; its rows stay.")
    try:
        return Store(store_root()).open(instance.path)
    except SpoolError as error:
        logger.warning("no picture", extra={"instance": instance.pk, "error": error.code})
        raise RenderError("picture-file-missing") from error


def _made(cache: PictureCache, stream: BinaryIO, instance: Instance, request: Request) -> tuple[dict[str, Any], bytes]:
    """Rendered and kept; what will fail again, or has cost much, is kept as well."""
    most_bytes = int(option("PICTURES.CACHE_MB")) * MIB
    try:
        found = _rendered(stream, instance, request)
    except RenderError as error:
        logger.info("no picture", extra={"instance": instance.pk, "error": error.code})
        if error.code in NOT_KEPT:
            raise
        found = {"error": error.code, "words": str(error), "passing": error.code in PASSING}, b""
    cache.store(instance.key, request, found, most_bytes=most_bytes)
    return found


def _rendered(stream: BinaryIO, instance: Instance, request: Request) -> tuple[dict[str, Any], bytes]:
    """The file's hash is checked before its first picture, once in this process for as long as the file is the same."""
    status = os.fstat(stream.fileno())
    itself = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
    known = _checked.get(itself) == instance.sha256
    found = _render_pool().render(stream.fileno(), replace(request, sha256="" if known else instance.sha256))
    with _guard:
        _checked[itself] = instance.sha256
        while len(_checked) > CHECKED_KEPT:
            _checked.popitem(last=False)
    return found


def picture_cache() -> PictureCache:
    global _cache  # noqa: PLW0603 - what it remembers of its own writing belongs to the process
    root = Path(settings.DATA_DIR) / "pictures"
    if _cache is None or _cache.root != root:
        _cache = PictureCache(root)
    return _cache


def _render_pool() -> RenderPool:
    """This process's pool, made at its first picture, and anew when its limits were changed."""
    global _pool, _pool_of
    limits = Limits(
        processes=int(option("PICTURES.PROCESSES")),
        seconds=float(option("PICTURES.SECONDS")),
        memory_mb=int(option("PICTURES.MEMORY_MB")),
    )
    if limits.processes < 1:
        raise RenderError("picture-off")
    with _guard:
        if _pool is None or _pool_of != os.getpid() or _pool.limits != limits:
            if _pool is not None and _pool_of == os.getpid():
                _pool.close()
            _pool, _pool_of = RenderPool(limits), os.getpid()
        return _pool


def render_pool_close() -> None:
    """Ends this process's render processes; the next picture starts others. They also end with their parent."""
    global _pool  # noqa: PLW0603 - as above
    with _guard:
        if _pool is not None and _pool_of == os.getpid():
            _pool.close()
        _pool = None


def pictures_trim() -> int:
    """Keeps the cache within PICTURES.CACHE_MB and its age; answers the bytes left. May be repeated."""
    return picture_cache().trim(most_bytes=int(option("PICTURES.CACHE_MB")) * MIB)


def pictures_forget(instance_keys: Iterable[str]) -> None:
    """For whoever removes objects: their pictures go with them."""
    for key in instance_keys:
        picture_cache().forget(key)


def access_record(study_id: int, *, actor: str, now: datetime) -> bool:
    """One Instances Accessed for each person, study and hour, whatever is looked at in it; answers whether it was new.

    Held by a file that only one can make: thumbnails are asked for six at a time.
    """
    hour = now.astimezone(UTC).strftime("%Y%m%dT%H")
    name = hashlib.blake2b(f"{hour} {study_id} {actor}".encode(), digest_size=16).hexdigest()
    folder = Path(settings.DATA_DIR) / "pictures" / "seen"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{hour}-{name}"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    try:
        audit_record(
            AuditEventType.INSTANCES_ACCESSED,
            actor=actor,
            subject=f"study:{study_id}",
            detail={"action": "pictures looked at", "hour": hour},
        )
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    for old in folder.iterdir():
        if not old.name.startswith(hour):
            old.unlink(missing_ok=True)
    return True
