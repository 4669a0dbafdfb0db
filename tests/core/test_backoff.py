"""Waits: a promise of at least the schedule's figure, with jitter only where all would come back together."""

import random

import pytest

from gateway_project.core.backoff import cubic_delay, schedule_delay, schedule_parse

UPLOAD_SCHEDULE = schedule_parse(["1m", "5m", "15m", "1h", "3h", "6h", "24h"])


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(0, 60), (1, 60), (2, 300), (3, 900), (4, 3600), (5, 10800), (6, 21600)]
)
def test_upload_waits_as_the_schedule_says(attempts: int, seconds: int) -> None:
    assert schedule_delay(attempts, schedule=UPLOAD_SCHEDULE) == seconds


def test_last_step_is_repeated_with_jitter_that_only_adds() -> None:
    chance = random.Random(1)
    waits = [schedule_delay(attempts, schedule=UPLOAD_SCHEDULE, chance=chance) for attempts in range(7, 107)]
    assert all(86_400 <= wait <= 86_400 * 1.1 for wait in waits)
    assert len(set(waits)) > 90


def test_cubic_wait() -> None:
    assert [cubic_delay(n, coefficient_seconds=10) for n in (0, 1, 2, 3)] == [10, 10, 80, 270]


def test_a_schedule_is_read_in_units() -> None:
    assert schedule_parse(["90s", "5m", "3h", "2d"]) == (90, 300, 10_800, 172_800)


@pytest.mark.parametrize("steps", [[], ["5"], ["m"], ["-1m"], ["1m", "soon"], ["1.5h"], ["1m 5m"], ["9999999s"]])
def test_a_schedule_that_cannot_be_read_is_refused(steps: list[str]) -> None:
    with pytest.raises(ValueError, match="such as 30s"):
        schedule_parse(steps)
