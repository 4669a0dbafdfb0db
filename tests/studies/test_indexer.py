"""The indexer: nothing added is forgotten, whatever the database does meanwhile."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from django.db import OperationalError

from gateway_project.core.models import Alert
from studies.dicom.spool import SpoolError
from studies.models import Instance
from studies.services import indexer as indexer_module
from studies.services.index import Indexed, index_objects
from studies.services.indexer import Indexer
from studies.services.receive import Indexable
from studies.services.recover import spool_recover
from tests.studies.house import House

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def indexer(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Indexer]:
    monkeypatch.setattr(indexer_module, "RETRY_SECONDS", 0.01)
    indexer = Indexer(house.store, house.intake)
    indexer.start()
    yield indexer
    indexer.stop(timeout_seconds=20)


def received(house: House, number: int) -> list[Indexable]:
    return [house.receive(f"1.2.3.{n}") for n in range(number)]


def fed(indexer: Indexer, items: Sequence[Indexable]) -> None:
    for item in items:
        indexer.add(item)


class Failing:
    """index_objects that fails so many times, then does its work; `failed` is set at the first failure."""

    def __init__(self, error: Callable[[], Exception], times: int) -> None:
        self.error, self.left = error, times
        self.failed, self.batches = threading.Event(), []

    def __call__(self, store: Any, items: Sequence[Indexable]) -> Indexed:
        self.batches.append(len(items))
        if self.left:
            self.left -= 1
            self.failed.set()
            raise self.error()
        return index_objects(store, items)


def test_flush_returns_when_all_is_indexed_and_released(house: House, indexer: Indexer) -> None:
    fed(indexer, received(house, 5))
    assert indexer.flush(timeout_seconds=20)
    assert (Instance.objects.count(), indexer.backlog(), house.files("incoming")) == (5, 0, set())
    assert indexer.flush(timeout_seconds=0)


def test_batch_is_done_without_a_flush(house: House, indexer: Indexer) -> None:
    done = threading.Event()
    real = house.intake.release
    house.intake.release = lambda path: (real(path), done.set())  # type: ignore[method-assign,assignment]
    fed(indexer, received(house, 1))
    assert done.wait(20)
    assert Instance.objects.count() == 1


def test_objects_are_indexed_many_at_a_time(house: House, indexer: Indexer, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Failing(OperationalError, 0)
    monkeypatch.setattr(indexer_module, "index_objects", work)
    monkeypatch.setattr(indexer_module, "BATCH_OBJECTS", 10)
    fed(indexer, received(house, 25))
    assert indexer.flush(timeout_seconds=20)
    assert sum(work.batches) == 25
    assert max(work.batches) <= 10
    assert len(work.batches) <= 6


def test_while_the_database_is_down_objects_wait_and_are_indexed_later(
    house: House, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Failing(OperationalError, 3)
    monkeypatch.setattr(indexer_module, "index_objects", work)
    items = received(house, 8)
    fed(indexer, items[:4])
    assert work.failed.wait(20)
    assert 4 <= indexer.backlog() <= 8
    assert all(item.spooled.path.exists() for item in items)
    fed(indexer, items[4:])
    assert indexer.flush(timeout_seconds=20)
    assert Instance.objects.count() == 8
    house.check()
    assert not Alert.objects.exists()


def test_failing_store_is_told_of_and_healed(house: House, indexer: Indexer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer_module, "index_objects", Failing(lambda: SpoolError("disk-full"), 2))
    fed(indexer, received(house, 2))
    assert indexer.flush(timeout_seconds=20)
    alert = Alert.objects.get()
    assert (alert.code, alert.severity, alert.count, alert.healed_at is None) == ("disk-full", "critical", 2, False)
    assert Instance.objects.count() == 2


def test_batch_that_raises_is_kept_for_recovery_and_the_next_goes_on(
    house: House, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer_module, "index_objects", Failing(lambda: ValueError("Doe^Jane"), 1))
    first, second = received(house, 2)
    fed(indexer, [first])
    assert indexer.flush(timeout_seconds=20)
    fed(indexer, [second])
    assert indexer.flush(timeout_seconds=20)
    assert [row.sop_instance_uid for row in Instance.objects.all()] == ["1.2.3.1"]
    assert (first.spooled.path.exists(), second.spooled.path.exists()) == (True, False)
    assert Alert.objects.get().code == "index-failed"
    house.dies()
    assert spool_recover(house.store).adopted == 1
    assert Instance.objects.count() == 2


def test_flush_waits_for_no_one_else_s_objects(house: House, indexer: Indexer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release must be answered although other associations go on sending."""
    mine, theirs = received(house, 2)
    begun, go_on = threading.Event(), threading.Event()

    def work(store: Any, items: Sequence[Indexable]) -> Indexed:
        if theirs in items:
            begun.set()
            go_on.wait(20)
        else:
            indexer.add(theirs)
        return index_objects(store, items)

    monkeypatch.setattr(indexer_module, "index_objects", work)
    fed(indexer, [mine])
    assert indexer.flush(timeout_seconds=20)
    assert begun.wait(20)
    assert indexer.backlog() == 1
    assert not indexer.flush(timeout_seconds=0.01)
    go_on.set()
    assert indexer.flush(timeout_seconds=20)


def test_stop_indexes_what_waits(house: House, indexer: Indexer) -> None:
    fed(indexer, received(house, 7))
    indexer.stop(timeout_seconds=20)
    assert Instance.objects.count() == 7


def test_stop_without_a_database_leaves_the_objects_to_the_next_start(
    house: House, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer_module, "index_objects", Failing(OperationalError, 10**6))
    items = received(house, 3)
    fed(indexer, items)
    indexer.stop(timeout_seconds=20)
    assert not indexer._thread.is_alive()
    monkeypatch.undo()
    assert all(item.spooled.path.exists() for item in items)
    house.dies()
    assert spool_recover(house.store).adopted == 3
    house.check()


def test_many_threads_may_add_and_flush_at_once(house: House, indexer: Indexer) -> None:
    from tests.core.job_rows import together

    items = received(house, 60)

    def work(mine: list[Indexable]) -> None:
        for item in mine:
            indexer.add(item)
        assert indexer.flush(timeout_seconds=20)
        assert Instance.objects.filter(key__in=[i.spooled.instance_key for i in mine]).count() == len(mine)

    together(*[lambda n=n: work(items[n::4]) for n in range(4)])  # type: ignore[misc]
    assert indexer.backlog() == 0
    house.check()
