"""How long to wait before trying again."""

import random
import re
from collections.abc import Sequence
from typing import Protocol

CIRCUIT_SCHEDULE = (5, 10, 30, 60, 120, 300)


_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_STEP = re.compile(r"([0-9]{1,6})([smhd])")


class Random(Protocol):
    def random(self) -> float: ...


def schedule_parse(steps: Sequence[str]) -> tuple[int, ...]:
    """Seconds of each step: `30s`, `5m`, `3h`, `1d`. ValueError with the reason for anything else, and for none."""
    found = [_STEP.fullmatch(step) for step in steps]
    if not found or None in found:
        raise ValueError("must be waits such as 30s, 5m, 3h or 1d, at least one")
    return tuple(int(step[1]) * _SECONDS[step[2]] for step in found if step is not None)


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
