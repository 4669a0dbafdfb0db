"""The ticker: one leader, which only rings, by a clock that never goes back."""

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils.timezone import now as time_now
from django_q.models import OrmQ

from gateway_project.core import ticker as ticker_module
from gateway_project.core.queues import REGISTRY, Periodic
from gateway_project.core.selectors import rings_waiting
from gateway_project.core.services.leases import lease_take
from gateway_project.core.ticker import Ticker
from tests.core.job_rows import QUEUE, job_row, lane_row

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two periodics and one queue of the test's own."""
    monkeypatch.setattr(REGISTRY, "queues", {"test": QUEUE})
    periodics = {"often": Periodic("often", "x", lambda: 5), "seldom": Periodic("seldom", "x", lambda: 30)}
    monkeypatch.setattr(REGISTRY, "periodics", periodics)


def taken() -> list[Any]:
    """The arguments of what was rung since the last look."""
    rows = list(OrmQ.objects.order_by("pk"))
    OrmQ.objects.all().delete()
    return [row.task["args"][0] for row in rows]


def beat(ticker: Ticker, elapsed: float, *, now: datetime | None = None) -> list[Any]:
    ticker.beat(now or time_now(), elapsed=elapsed)
    return taken()


def test_periodic_work_is_due_by_elapsed_time() -> None:
    ticker = Ticker()
    assert beat(ticker, 1000) == [["often", "seldom"]]
    assert beat(ticker, 1004.9) == []
    assert beat(ticker, 1005) == [["often"]]
    assert beat(ticker, 1030) == [["often", "seldom"]]


def test_clock_that_jumps_changes_nothing() -> None:
    """A day forward or an hour back: what is due is judged by the elapsed time alone."""
    ticker, now = Ticker(), time_now()
    beat(ticker, 0, now=now)
    assert beat(ticker, 1, now=now + timedelta(days=1)) == []
    assert beat(ticker, 2, now=now - timedelta(hours=1)) == []
    assert beat(ticker, 5, now=now - timedelta(hours=1)) == [["often"]]


def test_only_the_leader_rings() -> None:
    leader, second, now = Ticker(), Ticker(), time_now()
    assert leader.holder != second.holder
    assert beat(leader, 0, now=now) != []
    assert beat(second, 0, now=now + timedelta(seconds=14)) == []
    assert beat(second, 1, now=now + timedelta(seconds=16)) != []
    assert beat(leader, 100, now=now + timedelta(seconds=17)) == []


def test_queue_with_ready_jobs_is_rung_every_five_seconds_and_an_idle_one_never() -> None:
    ticker = Ticker()
    assert "test" not in beat(ticker, 0)
    job_row()
    assert "test" not in beat(ticker, 4)
    assert [beat(ticker, at).count("test") for at in (5, 9, 10, 15)] == [1, 0, 1, 1]


def test_queue_whose_lane_is_shut_is_not_rung() -> None:
    job_row(lane=lane_row(paused=True))
    assert "test" not in beat(Ticker(), 0)


def test_stuck_rings_are_swept_after_an_hour_and_fresh_ones_are_not() -> None:
    now, retry = time_now(), timedelta(seconds=settings.Q_CLUSTER["retry"])
    handed_out = {minutes: now - timedelta(minutes=minutes) + retry for minutes in (1, 59, 61, 600)}
    waiting = {minutes: now - timedelta(minutes=minutes) for minutes in (0, 59, 61)}
    for kind, locks in (("handed", handed_out), ("waiting", waiting)):
        for minutes, lock in locks.items():
            OrmQ.objects.create(key=f"{kind}-{minutes}", payload="x", lock=lock)
    Ticker().beat(now, elapsed=0)
    left = set(OrmQ.objects.filter(payload="x").values_list("key", flat=True))
    assert left == {"handed-1", "handed-59", "waiting-0", "waiting-59"}


def test_beat_that_fails_is_logged_and_the_next_one_tries_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return False

    stop, beats = Stop(), []

    def failing(_self: Ticker, _now: datetime, *, elapsed: float) -> None:
        beats.append(elapsed)
        if len(beats) == 3:
            stop.set()
        if len(beats) == 1:
            raise ConnectionError

    monkeypatch.setattr(ticker_module, "stop_on_signals", lambda: stop)
    monkeypatch.setattr(Ticker, "beat", failing)
    ticker_module.run()
    assert len(beats) == 3
    assert [record.message for record in caplog.records].count("ticker beat failed") == 1


def test_stopping_gives_the_lead_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            self.set()
            return True

    monkeypatch.setattr(ticker_module, "stop_on_signals", Stop)
    ticker_module.run()
    assert rings_waiting("control") == 1
    assert lease_take("ticker", holder="next", now=time_now(), seconds=15)
