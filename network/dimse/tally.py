"""What has happened in one association so far."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from network.dimse import statuses


@dataclass
class Tally:
    """Written by the association's own thread only; any thread may read it."""

    opened_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    objects_stored: int = 0
    objects_refused: int = 0
    bytes_received: int = 0

    def add(self, status: int, size_bytes: int) -> None:
        """One more object was answered with this status."""
        self.bytes_received += size_bytes
        if statuses.is_stored(status):
            self.objects_stored += 1
        else:
            self.objects_refused += 1
