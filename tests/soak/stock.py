"""What is sent during a soak: new studies as long as the budget allows, and old objects again."""

import hashlib
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.dicom_samples import dataset_of, study_files, uid_of

AGAIN = 0.3
"""How often objects are sent that were sent before."""
RECENT = 300
SMALL_SIDE, CT_SIDE = 64, 512
"""Pixels: 8 kB and half a megabyte."""


@dataclass(frozen=True)
class Item:
    """One object to send."""

    path: Path
    uid: str
    sha256: str
    side: int


class Stock:
    """Objects by UID, for many senders at once; every new one counts against a budget that grows with time."""

    def __init__(self, folder: Path, *, bytes_per_second: float, bytes_in_all: float) -> None:
        self.items: dict[str, Item] = {}
        self._folder = folder
        self._rate, self._most = bytes_per_second, bytes_in_all
        self._began = time.monotonic()
        self._made_bytes = 0
        self._studies = 0
        self._lock = threading.Lock()

    def take(self, chance: random.Random, count: int, *, side: int) -> list[Item]:
        """`count` objects of that size: those of a new study, or such as were handed out before."""
        with self._lock:
            known = [item for item in list(self.items.values())[-RECENT:] if item.side == side]
            if known and (chance.random() < AGAIN or not self._may_make(count * side**2 * 2)):
                return chance.choices(known, k=count)
            return self._make(count, side)

    @staticmethod
    def sha256_of(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    def _may_make(self, size_bytes: int) -> bool:
        elapsed = time.monotonic() - self._began
        return self._made_bytes + size_bytes <= min(self._most, self._rate * (elapsed + 10))

    def _make(self, count: int, side: int) -> list[Item]:
        self._studies += 1
        files = study_files(
            self._folder / f"{self._studies:06}", count=count, patient_id=f"S{self._studies}", side=side, plain=True
        )
        made = [Item(path, uid_of(path), self.sha256_of(dataset_of(path)), side) for path in files]
        self._made_bytes += count * side**2 * 2
        self.items.update({item.uid: item for item in made})
        return made
