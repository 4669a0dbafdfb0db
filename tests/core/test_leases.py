"""Leader leases: one holder at a time, taken over only when it has run out."""

import pytest

from gateway_project.core.models import Lease
from gateway_project.core.services.leases import lease_give_up, lease_take
from tests.core.job_rows import NOW, after, together

pytestmark = pytest.mark.django_db


def take(holder: str, at: float = 0) -> bool:
    return lease_take("ticker", holder=holder, now=after(at), seconds=15)


def test_one_holds_it_and_renews_it() -> None:
    assert take("a")
    assert not take("b", 14)
    assert take("a", 14)
    assert not take("b", 28)
    assert Lease.objects.get().until == after(29)


def test_it_is_taken_over_when_it_has_run_out() -> None:
    take("a")
    assert not take("b", 15)
    assert take("b", 15.1)
    assert not take("a", 16)


def test_giving_up_lets_the_next_one_in_at_once_and_is_the_holder_s_alone() -> None:
    take("a")
    lease_give_up("ticker", holder="b")
    assert not take("b")
    lease_give_up("ticker", holder="a")
    assert take("b")


def test_leases_of_other_names_do_not_matter() -> None:
    assert take("a")
    assert lease_take("other", holder="b", now=NOW, seconds=1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("there", [False, True], ids=["first ever", "run out"])
def test_of_many_at_once_one_gets_it(there: bool) -> None:
    if there:
        take("old", -100)
    got: list[str] = []
    together(*[lambda name=name: got.append(name) if take(name) else None for name in "abcde"])  # type: ignore[misc]
    assert got == [Lease.objects.get().holder]
