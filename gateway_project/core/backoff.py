"""How long to wait before trying again."""

import random
from collections.abc import Sequence
from typing import Protocol

UPLOAD_SCHEDULE = (60, 300, 900, 3_600, 10_800, 21_600, 86_400)
CIRCUIT_SCHEDULE = (5, 10, 30, 60, 120, 300)


class Random(Protocol):
    def random(self) -> float: ...


def schedule_delay(attempts: int, *, schedule: Sequence[int], chance: Random = random) -> float:
    """Seconds to wait after `attempts` tries (from 1): the schedule's step, the last one with up to 10 % jitter.

    Jitter is only ever added, so that a schedule's figure is a promise of at least that wait.
    """
    seconds = schedule[min(max(attempts, 1), len(schedule)) - 1]
    jitter = chance.random() * 0.1 if attempts >= len(schedule) else 0.0
    return seconds * (1 + jitter)


def cubic_delay(attempts: int, *, coefficient_seconds: float) -> float:
    """Seconds to wait after `attempts` tries: attempts cubed times the queue's coefficient."""
    return max(attempts, 1) ** 3 * coefficient_seconds
