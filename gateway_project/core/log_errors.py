"""What a log line may tell of an exception: its type and where it happened; its words only when they are ours."""

import sys
from functools import lru_cache
from types import TracebackType
from typing import Any

from gateway_project.core.packages import package_is_ours

CHAIN_MAX = 5
FRAMES_MAX = 30
MESSAGE_CHARACTERS_MAX = 500


def exception_describe(error: BaseException) -> dict[str, Any]:
    """Type, code and words (ours only), frames, and the chain of causes; bounded, free of PHI, never raises.

    Frames are "file:line function" without source text, outermost first, the innermost kept when there are many.
    """
    described = _describe_one(error)
    causes: list[dict[str, Any]] = []
    seen = {id(error)}
    cause = _cause(error)
    while cause is not None and id(cause) not in seen and len(causes) < CHAIN_MAX:
        seen.add(id(cause))
        causes.append(_describe_one(cause))
        cause = _cause(cause)
    if causes:
        described["causes"] = causes
    return described


def exception_is_phi_free(error: BaseException) -> bool:
    """True for an exception class of ours with a `code`, or one that says `phi_free = True` of itself."""
    cls = type(error)
    if getattr(cls, "phi_free", False) is True:
        return True
    return package_is_ours(cls.__module__) and isinstance(getattr(error, "code", None), str)


def _describe_one(error: BaseException) -> dict[str, Any]:
    cls = type(error)
    described: dict[str, Any] = {
        "type": cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"
    }
    if exception_is_phi_free(error):
        described["code"] = str(getattr(error, "code", ""))
        described["message"] = str(error)[:MESSAGE_CHARACTERS_MAX]
    elif isinstance(error, OSError) and isinstance(error.errno, int):
        described["errno"] = error.errno  # the number says disk full or no such file; the words would name the file
    described["frames"] = _frames(error.__traceback__)
    return described


def _cause(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None:
        return error.__cause__
    return None if error.__suppress_context__ else error.__context__


def _frames(traceback: TracebackType | None) -> list[str]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{_file_shown(code.co_filename)}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return frames[-FRAMES_MAX:]


@lru_cache(maxsize=512)
def _file_shown(path: str) -> str:
    roots = [root.rstrip("/") + "/" for root in sys.path if root and path.startswith(root.rstrip("/") + "/")]
    return path[len(max(roots, key=len)) :] if roots else path
