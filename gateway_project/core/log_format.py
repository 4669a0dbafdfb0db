"""One log record as one line of JSON without PHI: our own constant texts, and of strangers only where and what kind.

pydicom quotes dataset values in its warnings, Django and gunicorn quote addresses, django-q2 quotes results: such texts
are withheld, the place in their code and the type of the exception stay.
"""

import datetime as dt
import json
import logging
import math
import os
import re
import uuid
from enum import Enum
from pathlib import PurePath
from typing import Any

from gateway_project.core.correlation import correlation_get
from gateway_project.core.log_errors import exception_describe
from gateway_project.core.packages import package_is_ours

WITHHELD = "third-party message withheld"
LINE_CHARACTERS_MAX = 65_536
TEXT_CHARACTERS_MAX = 2_000
ITEMS_MAX = 100
INTEGER_BITS_MAX = 256
DEPTH_MAX = 4

# Read in their source: only these levels of these loggers are free of addresses, results and exception texts.
# gunicorn quotes the request line at WARNING and the whole address at ERROR; django-q2 the task's result at ERROR.
KEPT_LEVELS = {
    "gunicorn.error": frozenset({logging.INFO}),
    "django-q": frozenset({logging.INFO, logging.WARNING, logging.CRITICAL}),
    "django_q": frozenset({logging.INFO, logging.WARNING, logging.CRITICAL}),
    "supervisor": frozenset({logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL}),
}
# Constant when it comes with arguments; those that are whole numbers (a pid, an exit code) are shown beside it.
TEMPLATE_LOGGERS = frozenset({"gunicorn.error"})
WARNING_PLACE = re.compile(r"\A([^\s:]+\.py):(\d+): ([A-Za-z_]\w*): ")

_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "asctime", "taskName"}
_CORE = frozenset({"time", "level", "logger", "event", "correlation_id", "pid"})


class JsonLineFormatter(logging.Formatter):
    """Formats a record as one line of ASCII JSON; never raises for a record's content, never prints its PHI.

    Control characters are escaped (also DEL), so a peer's string can neither forge a line nor steer a terminal.
    Extra values other than texts, numbers, dates, UUIDs, paths, enumerations and lists and dicts of these are shown as
    their type's name, as a dataset's own words are its content. A line is at most 64 KiB.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "event": record_event(record),
            "correlation_id": correlation_get(),
            "pid": os.getpid(),
        }
        line = _dump(fields | _details(record))
        if len(line) > LINE_CHARACTERS_MAX:
            fields["event"] = fields["event"][:TEXT_CHARACTERS_MAX]
            line = _dump(fields | {"line_too_long": len(line)})
        return line


def record_event(record: logging.LogRecord) -> str:
    """The text that names this kind of event: constant for our loggers, `WITHHELD` for what may hold PHI.

    Our own text is taken as it stands in the code; arguments are not filled in, as `extra=` is the place for values.
    """
    if package_is_ours(record.name):
        return record.msg if isinstance(record.msg, str) else f"<{type(record.msg).__name__}>"
    if record.levelno in KEPT_LEVELS.get(record.name, ()):
        try:
            return record.getMessage()
        except (TypeError, ValueError, KeyError):
            return WITHHELD
    if record.name in TEMPLATE_LOGGERS and record.args and isinstance(record.msg, str):
        return record.msg
    return WITHHELD


def _details(record: logging.LogRecord) -> dict[str, Any]:
    details = _own_details(record) if package_is_ours(record.name) else _foreign_details(record)
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        details["exception"] = exception_describe(error)
    return details


def _own_details(record: logging.LogRecord) -> dict[str, Any]:
    details = {}
    for name, value in record.__dict__.items():
        if name not in _STANDARD:
            details[f"extra_{name}" if name in _CORE else name] = _safe(value)
    if record.args:
        details["arguments_withheld"] = len(record.args)
    return details


def _foreign_details(record: logging.LogRecord) -> dict[str, Any]:
    details: dict[str, Any] = {"module": record.module, "line": record.lineno}
    status = getattr(record, "status_code", None)
    if isinstance(status, int):
        details["status_code"] = status
    suppressed = getattr(record, "suppressed", None)
    if isinstance(suppressed, int):
        details["suppressed"] = suppressed
    if record.name in TEMPLATE_LOGGERS and isinstance(record.args, tuple):
        numbers = [value for value in record.args if isinstance(value, int)]
        if numbers:
            details["numbers"] = numbers
    if record.name == "py.warnings":
        details |= _warning_place(record)
    return details


def _warning_place(record: logging.LogRecord) -> dict[str, Any]:
    """Where a warning arose and its category, from the head that `warnings.formatwarning` writes; never its words."""
    found = WARNING_PLACE.match(record.getMessage())
    if found is None:
        return {}
    return {"module": PurePath(found[1]).stem, "line": int(found[2]), "category": found[3]}


def _safe(value: Any, depth: int = 0) -> Any:
    if value is None or (isinstance(value, int) and value.bit_length() <= INTEGER_BITS_MAX):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, BaseException):
        return exception_describe(value)
    if isinstance(value, Enum):
        return _safe(value.value, depth + 1) if depth < DEPTH_MAX else value.name
    if isinstance(value, str | dt.date | dt.time | dt.timedelta | uuid.UUID | PurePath):
        return str(value)[:TEXT_CHARACTERS_MAX]
    if depth < DEPTH_MAX:
        if isinstance(value, dict):
            return {_key(key): _safe(item, depth + 1) for key, item in list(value.items())[:ITEMS_MAX]}
        if isinstance(value, list | tuple | set | frozenset):
            return [_safe(item, depth + 1) for item in list(value)[:ITEMS_MAX]]
    return f"<{type(value).__name__}>"


def _key(key: Any) -> str:
    return str(key)[:100] if isinstance(key, str | int) else f"<{type(key).__name__}>"


def _dump(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=True, separators=(",", ":")).replace("\x7f", "\\u007f")


def _time(created: float) -> str:
    moment = dt.datetime.fromtimestamp(created, tz=dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
