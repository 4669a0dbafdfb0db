"""Floods are bounded in rate and in memory, and counted."""

from network.dimse import floods
from network.dimse.floods import OTHERS, RateLimit, Refusals


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_burst_is_bounded_and_forgiven_with_time():
    clock = Clock()
    limit = RateLimit(10, monotonic=clock)
    assert [limit.allows("a") for _ in range(21)] == [True] * 20 + [False]
    clock.now += 0.5
    assert [limit.allows("a") for _ in range(6)] == [True] * 5 + [False]
    clock.now += 60
    assert [limit.allows("a") for _ in range(21)] == [True] * 20 + [False]


def test_refused_attempts_do_not_prolong_the_refusal():
    clock = Clock()
    limit = RateLimit(10, monotonic=clock)
    for _ in range(10_000):
        limit.allows("a")
    clock.now += 0.11
    assert limit.allows("a")


def test_one_address_does_not_use_up_anothers_rate():
    limit = RateLimit(1, monotonic=Clock())
    assert not all(limit.allows("a") for _ in range(10))
    assert limit.allows("b")


def test_no_rate_is_no_limit():
    limit = RateLimit(0)
    assert all(limit.allows("a") for _ in range(10_000))


def test_addresses_that_are_remembered_are_bounded():
    limit = RateLimit(1, monotonic=Clock())
    for number in range(floods.ADDRESSES_MAX + 100):
        limit.allows(str(number))
    assert len(limit._buckets) == floods.ADDRESSES_MAX


def test_refusals_are_counted_by_address_and_reason_and_taken_once():
    refusals = Refusals()
    for number in range(100):
        refusals.count("10.0.0.1", "calling-ae-unknown", calling=f"AE{number}", called="GATEWAY", port=5, tls=True)
    refusals.count("10.0.0.1", "called-ae-unknown")
    first, second = refusals.take()
    assert (first.count, first.calling_ae_titles, first.called_ae_titles) == (
        100, ("AE0", "AE1", "AE2", "AE3", "AE4"), ("GATEWAY",)
    )  # fmt: skip
    assert (first.port, first.tls) == (5, True)
    assert (second.reason, second.count) == ("called-ae-unknown", 1)
    assert refusals.take() == []


def test_addresses_beyond_the_bound_are_counted_together():
    refusals = Refusals()
    for number in range(floods.KEYS_MAX + 50):
        refusals.count(f"a{number}", "x")
    taken = refusals.take()
    assert len(taken) == floods.KEYS_MAX + 1
    assert next(one.count for one in taken if one.address == OTHERS) == 50
