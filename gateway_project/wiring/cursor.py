"""Places in a list, for an address: a moment (µs) and our id, nothing of a patient."""

from datetime import datetime, timedelta

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def cursor_write(moment: datetime, pk: int) -> str:
    return f"{(moment - _EPOCH) // timedelta(microseconds=1)}-{pk}"


def cursor_read(text: str) -> tuple[datetime, int]:
    """Raises ValueError for what is not a cursor."""
    moment, _dash, pk = text.partition("-")
    if not (_digits(moment, 17) and _digits(pk, 18)):
        raise ValueError("not a cursor")
    return _EPOCH + timedelta(microseconds=int(moment)), int(pk)


def number_read(text: str) -> int:
    """One of our ids from an address. Raises ValueError."""
    if not _digits(text, 18):
        raise ValueError("not a number")
    return int(text)


def _digits(text: str, most: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= most
