"""Correlation ids: one for each piece of work, never one that a stranger has shaped."""

import threading

import pytest

from gateway_project.core import correlation as correlations


def test_correlation_is_restored_after_a_block_and_separate_in_threads() -> None:
    seen: list[str | None] = []
    with correlations.correlation("outer"):
        with correlations.correlation() as inner:
            assert correlations.correlation_get() == inner != "outer"
        assert correlations.correlation_get() == "outer"
        thread = threading.Thread(target=lambda: seen.append(correlations.correlation_get()))
        thread.start()
        thread.join(10)
    assert seen == [None]


@pytest.mark.parametrize("hostile", ["", "a b", "a\n", "x" * 65, "MARKED^PATIENT", "ä", "-x"])
def test_strangers_correlation_id_of_another_form_is_replaced(hostile: str) -> None:
    with correlations.correlation("before"):
        taken = correlations.correlation_set(hostile)
        assert taken == correlations.correlation_get()
        assert taken not in (hostile, "before", None)
        assert correlations.correlation_set("good.id_1-2") == "good.id_1-2"
        assert correlations.correlation_set(None) is None
        assert correlations.correlation_get() is None


def test_correlation_is_restored_when_the_block_fails() -> None:
    def fail() -> None:
        with correlations.correlation("inner"):
            raise KeyError

    with correlations.correlation("outer"):
        with pytest.raises(KeyError):
            fail()
        assert correlations.correlation_get() == "outer"
