"""The sub-operations of one retrieval, counted (PS3.4 C.4.2.1.6 to C.4.2.1.9)."""

from dataclasses import dataclass, field
from typing import Final

from network.dimse import statuses

MOST: Final = 0xFFFF
"""A counter has VR US: more cannot be told."""


@dataclass
class SubOperations:
    """How many there are, and what became of them; `failed_uids` in order."""

    total: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)

    @property
    def remaining(self) -> int:
        return self.total - self.completed - self.failed - self.warning

    def count(self, sop_instance_uid: str, status: int | None) -> None:
        """One has ended with this C-STORE status; None: it could not be sent, or was not answered."""
        if status == statuses.SUCCESS:
            self.completed += 1
        elif status is not None and statuses.is_stored(status):
            self.warning += 1
        else:
            self.failed += 1
            self.failed_uids.append(sop_instance_uid)

    def final_status(self, *, cancelled: bool) -> int:
        """Of the last response (PS3.4 tables C.4-2 and C.4-3)."""
        if cancelled:
            return statuses.CANCEL
        if not self.failed and not self.warning:
            return statuses.SUCCESS
        if self.total and self.failed == self.total:
            return statuses.UNABLE_TO_PERFORM
        return 0xB000
