"""The connections that are open now, as the acceptor knows them."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from network.dimse.channel import Report

_Key = TypeVar("_Key")
RATE_SECONDS = 1.0
QUIET_SECONDS = 3.0


@dataclass(frozen=True)
class LiveAssociation:
    """One connection that is open now; `association_id` is empty until it is asked for. Counts lag by a second.

    `admitted`: it is an association and counts against the limits. `bytes_per_second` is of the last second or two.
    """

    connection: int
    receiver: int
    address: str
    port: int
    connected_at: datetime
    endpoint: str = ""
    our_ae_title: str = ""
    tls: bool = False
    association_id: str = ""
    calling_ae_title: str = ""
    called_ae_title: str = ""
    admitted: bool = False
    objects_stored: int = 0
    objects_refused: int = 0
    bytes_received: int = 0
    bytes_per_second: float = 0.0


class LiveTable:
    """Every open connection, and the counts that limits need at no more than a look. Any thread.

    `connections_total`, `associations_total`: how many there have been since this process began.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._rows: dict[int, LiveAssociation] = {}
        self._marks: dict[int, tuple[float, int]] = {}
        self._addresses: Counter[str] = Counter()
        self._load: Counter[int] = Counter()
        self._admitted: Counter[str] = Counter()
        self.connections_total = 0
        self.associations_total = 0

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> list[LiveAssociation]:
        """Every open connection, oldest first; a copy."""
        now = self._monotonic()
        with self._lock:
            return [self._quietened(row, now) for row in self._rows.values()]

    def connections_of(self, address: str) -> int:
        with self._lock:
            return self._addresses[address]

    def associations(self) -> int:
        """How many are admitted, over all receivers."""
        with self._lock:
            return self._admitted.total()

    def associations_of(self, address: str) -> int:
        with self._lock:
            return self._admitted[address]

    def load_of(self, receiver: int) -> int:
        with self._lock:
            return self._load[receiver]

    def get(self, connection: int) -> LiveAssociation | None:
        with self._lock:
            return self._rows.get(connection)

    def find(self, association_id: str) -> LiveAssociation | None:
        """The association of this id, if it is open."""
        with self._lock:
            return next((one for one in self._rows.values() if one.association_id == association_id), None)

    def add(self, row: LiveAssociation) -> None:
        with self._lock:
            self._rows[row.connection] = row
            self._marks[row.connection] = (self._monotonic(), 0)
            self._addresses[row.address] += 1
            self._load[row.receiver] += 1
            self.connections_total += 1

    def admit(self, connection: int) -> None:
        """It counts as an association from now on."""
        with self._lock:
            row = self._rows.get(connection)
            if row is not None and not row.admitted:
                self._rows[connection] = replace(row, admitted=True)
                self._admitted[row.address] += 1
                self.associations_total += 1

    def over(self, connection: int) -> None:
        """The association has ended, though its connection lingers: its place is free."""
        with self._lock:
            self._give_back(connection)

    def told(self, report: Report) -> None:
        """Take over what a receiver says of a connection; one that is not known is passed over."""
        now = self._monotonic()
        with self._lock:
            row = self._rows.get(report.connection)
            if row is None:
                return
            marked_at, marked_bytes = self._marks[row.connection]
            rate = row.bytes_per_second
            if now - marked_at >= RATE_SECONDS:
                rate = (report.bytes_received - marked_bytes) / (now - marked_at)
                self._marks[row.connection] = (now, report.bytes_received)
            self._rows[row.connection] = replace(
                row,
                association_id=report.association_id,
                calling_ae_title=report.calling_ae_title,
                called_ae_title=report.called_ae_title,
                objects_stored=report.objects_stored,
                objects_refused=report.objects_refused,
                bytes_received=report.bytes_received,
                bytes_per_second=rate,
            )

    def remove(self, connection: int) -> LiveAssociation | None:
        """It is closed; what was known of it, if anything was."""
        with self._lock:
            return self._remove(connection)

    def remove_of(self, receiver: int) -> int:
        """Every connection of a receiver that is gone; how many."""
        with self._lock:
            gone = [number for number, one in self._rows.items() if one.receiver == receiver]
            for number in gone:
                self._remove(number)
        return len(gone)

    def _remove(self, connection: int) -> LiveAssociation | None:
        self._give_back(connection)
        row = self._rows.pop(connection, None)
        if row is not None:
            self._marks.pop(connection, None)
            _less(self._addresses, row.address)
            _less(self._load, row.receiver)
        return row

    def _give_back(self, connection: int) -> None:
        row = self._rows.get(connection)
        if row is not None and row.admitted:
            self._rows[connection] = replace(row, admitted=False)
            _less(self._admitted, row.address)

    def _quietened(self, row: LiveAssociation, now: float) -> LiveAssociation:
        quiet = now - self._marks[row.connection][0] >= QUIET_SECONDS
        return replace(row, bytes_per_second=0.0) if quiet and row.bytes_per_second else row


def _less(counter: "Counter[_Key]", key: _Key) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
