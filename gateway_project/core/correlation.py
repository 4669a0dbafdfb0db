"""One id that ties together what one request, association or job did, in the logs, the audit trail and the answers."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

CORRELATION_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_current: ContextVar[str | None] = ContextVar("gateway_correlation_id", default=None)


def correlation_get() -> str | None:
    """The id of what this thread or task is doing, at most 64 characters; None outside of any."""
    return _current.get()


def correlation_set(value: str | None) -> str | None:
    """Takes over an id from elsewhere and answers the one in force.

    One that is not 1 to 64 letters, digits, dots, hyphens or underscores is replaced by a new one, as headers are
    written by strangers. None ends the correlation.
    """
    if value is not None and not CORRELATION_PATTERN.fullmatch(value):
        return correlation_new()
    _current.set(value)
    return value


def correlation_new() -> str:
    """Makes an id, puts it in force and answers it."""
    value = secrets.token_hex(8)
    _current.set(value)
    return value


@contextmanager
def correlation(value: str | None = None) -> Iterator[str]:
    """Holds an id (a new one without `value`) for a block and restores the former one after it, also on an error."""
    token = _current.set(None)
    try:
        yield (correlation_set(value) if value is not None else None) or correlation_new()
    finally:
        _current.reset(token)
