"""One line of a study's timeline."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Entry:
    """One thing on the timeline. Without `at` it lies ahead. `until`: counted down on the page."""

    at: datetime | None
    icon: str
    tone: str
    title: str
    detail: str = ""
    actor: str = ""
    until: datetime | None = None
    receipt_id: str = ""
