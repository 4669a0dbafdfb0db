"""The bell: rings after the commit, not too often, and never harms whoever rings."""

from typing import Any

import pytest
import redis
from django.db import transaction
from django_q.models import OrmQ

from gateway_project.core.queues import REGISTRY
from gateway_project.core.selectors import rings_waiting
from gateway_project.core.services import bell
from tests.core.job_rows import QUEUE

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY.queues, "test", QUEUE)


def rung() -> list[tuple[str, Any]]:
    return [(row.task["func"], row.task["args"]) for row in OrmQ.objects.order_by("pk")]


def test_ring_names_the_drain_and_the_queue_and_nothing_else() -> None:
    bell.ring("test")
    assert rung() == [("gateway_project.core.tasks.drain", ("test",))]
    assert (rings_waiting("control"), rings_waiting("transfer")) == (1, 0)


def test_ring_waits_for_the_commit() -> None:
    with transaction.atomic():
        bell.ring("test")
        assert rung() == []
    assert len(rung()) == 1


def test_rolled_back_work_does_not_ring() -> None:
    with transaction.atomic():
        bell.ring("test")
        transaction.set_rollback(True)
    assert rung() == []


def test_no_more_rings_than_workers_can_answer() -> None:
    for _ in range(20):
        bell.ring("test")
    assert len(rung()) == 4  # one worker in the control cluster: 2 * 1 + 2
    bell.ring("upload")
    assert rings_waiting("transfer") == 1


def test_failing_broker_is_swallowed_and_the_work_stands(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise ConnectionError("redis://:secret@host")

    monkeypatch.setattr(bell, "async_task", fail)
    bell.ring("test")
    bell.ring_periodics(["audit"])
    lines = [record for record in caplog.records if record.message == "ring failed"]
    assert [line.error for line in lines] == ["ConnectionError"] * 2  # type: ignore[attr-defined]
    assert "secret" not in caplog.text


def test_redis_that_is_away_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever commits next must not wait for its time-out again; the ticker rings as soon as it is back."""
    monkeypatch.setattr(bell._Bell, "deaf_until", 0.0)

    def fail(*_args: object, **_more: object) -> None:
        raise redis.TimeoutError("redis://:secret@host")

    monkeypatch.setattr(bell, "async_task", fail)
    for _ in range(3):
        bell.ring("test")
    lines = [record for record in caplog.records if record.message == "ring failed"]
    assert [line.error for line in lines] == ["TimeoutError"]  # type: ignore[attr-defined]
    monkeypatch.undo()
    monkeypatch.setitem(REGISTRY.queues, "test", QUEUE)
    monkeypatch.setattr(bell._Bell, "deaf_until", bell.time.monotonic() - 1)
    bell.ring("test")
    assert len(rung()) == 1


def test_periodics_that_are_due_share_one_ring() -> None:
    bell.ring_periodics(["audit", "leases"])
    assert rung() == [("gateway_project.core.tasks.tick", (["audit", "leases"],))]
