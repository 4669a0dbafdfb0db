"""Waits: a promise of at least the schedule's figure, with jitter only where all would come back together."""

import random

import pytest

from gateway_project.core.backoff import UPLOAD_SCHEDULE, cubic_delay, schedule_delay


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
