"""Keyset pages: a cursor says where the last row of a page stands, and says it to us alone."""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from rest_framework.exceptions import ValidationError

Row = TypeVar("Row")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cursor_make(kind: str, *parts: str) -> str:
    """URL-safe; `kind` names the list, so that the cursor of another is refused. Nothing of a patient belongs in it."""
    text = "|".join((kind, *parts))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def cursor_read(kind: str, cursor: str, count: int) -> list[str]:
    """The parts again. Raises ValidationError (400) for what is no cursor of this list."""
    try:
        found, *parts = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii").split("|")
    except (binascii.Error, ValueError) as error:
        raise cursor_refused() from error
    if found != kind or len(parts) != count:
        raise cursor_refused()
    return parts


def cursor_refused() -> ValidationError:
    return ValidationError({"cursor": ["not a cursor of this list"]}, code="invalid")


def moment_cursor(kind: str, moment: datetime, pk: int) -> str:
    return cursor_make(kind, str((moment - _EPOCH) // timedelta(microseconds=1)), str(pk))


def moment_cursor_read(kind: str, cursor: str | None) -> tuple[datetime, int] | None:
    """When and which row; None where there is no cursor."""
    if not cursor:
        return None
    moment, pk = cursor_read(kind, cursor, 2)
    if not (moment.isdecimal() and pk.isdecimal() and len(moment) <= 17 and len(pk) <= 18):
        raise cursor_refused()
    return _EPOCH + timedelta(microseconds=int(moment)), int(pk)


def page_of(rows: Sequence[Row], limit: int, cursor: Callable[[Row], str]) -> tuple[Sequence[Row], str | None]:
    """From `limit + 1` rows asked for: those of the page, and the cursor of the next when there is one."""
    shown = rows[:limit]
    return shown, cursor(shown[-1]) if len(rows) > limit else None


def answer_page(name: str, rows: Sequence[Any], following: str | None) -> dict[str, Any]:
    return {name: rows, "next": following}
