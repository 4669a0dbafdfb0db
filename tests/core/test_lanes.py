"""Lanes: one circuit each, opened by faults, closed by a success, held for a person."""

import pytest

from gateway_project.core.backoff import CIRCUIT_SCHEDULE
from gateway_project.core.models import Alert, AuditEvent, Lane
from gateway_project.core.services.lanes import lane_ensure, lane_fault, lane_healed, lane_pause, lane_resume
from tests.core.job_rows import NOW, after, lane_row

pytestmark = pytest.mark.django_db


def fault(lane: Lane, at: float = 0, *, code: str = "refused", **more: object) -> float:
    """Seconds from NOW at which the circuit is half open."""
    until = lane_fault(lane.pk, code=code, words=f"{code}!", now=after(at), **more)  # type: ignore[arg-type]
    lane.refresh_from_db()
    return (until - NOW).total_seconds()


def test_each_fault_in_a_row_opens_the_circuit_for_longer() -> None:
    lane, at = lane_row(), 0.0
    for number, wait in enumerate((*CIRCUIT_SCHEDULE, CIRCUIT_SCHEDULE[-1]), start=1):
        until = fault(lane, at)
        assert wait <= until - at <= wait * 1.1 + 1e-6
        assert (lane.faults, lane.circuit_closed) == (number, False)
        at = until


def test_faults_of_jobs_that_were_under_way_are_one_outage() -> None:
    lane = lane_row()
    assert [fault(lane, at) for at in (0, 1, 2)] == [5, 6, 7]
    assert lane.faults == 1


def test_wait_that_the_peer_asked_for_is_kept_whatever_comes_after() -> None:
    lane = lane_row()
    assert fault(lane, 0, retry_after_seconds=3600) == 3600
    assert fault(lane, 1) == 3600
    assert fault(lane, 2, retry_after_seconds=7200) == 7202


def test_success_closes_the_circuit_and_heals_the_alert() -> None:
    lane = lane_row()
    fault(lane)
    lane_healed(lane.pk, now=after(9))
    lane.refresh_from_db()
    assert (lane.faults, lane.open_until, lane.fault_code, lane.circuit_closed) == (0, None, "", True)
    assert Alert.objects.get().healed_at is not None
    assert fault(lane, 10) == 15


def test_success_in_a_sound_lane_costs_one_statement(django_assert_num_queries: object) -> None:
    lane = lane_row()
    with django_assert_num_queries(1):  # type: ignore[operator]
        lane_healed(lane.pk, now=NOW)


def test_hard_stop_holds_until_a_person_resumes() -> None:
    lane = lane_row()
    fault(lane, 0, code="key-differs", hard_stop=True)
    lane_healed(lane.pk, now=after(1))  # a job that was under way: it proves nothing about the key
    fault(lane, 2)
    lane.refresh_from_db()
    assert (lane.held, lane.circuit_closed, lane.fault_code) == (True, False, "key-differs")
    alert = Alert.objects.get()
    assert (alert.severity, alert.code, alert.healed_at) == ("critical", "key-differs", None)
    lane_resume(lane, actor="user:anna", now=after(3))
    lane.refresh_from_db()
    assert (lane.held, lane.open_until) == (False, after(3))
    assert Alert.objects.get().healed_at is None
    lane_healed(lane.pk, now=after(4))
    assert Alert.objects.get().healed_at is not None


def test_hard_stop_after_an_ordinary_fault_makes_the_alert_critical() -> None:
    lane = lane_row()
    fault(lane)
    assert Alert.objects.get().severity == "warning"
    fault(lane, 1, hard_stop=True)
    assert (Alert.objects.get().severity, Alert.objects.get().count) == ("critical", 2)


def test_one_lane_s_fault_is_not_another_s() -> None:
    bad, good = lane_row("bad"), lane_row("good")
    fault(bad)
    good.refresh_from_db()
    assert good.circuit_closed
    assert Alert.objects.get().key == "lane:bad"
    lane_healed(good.pk, now=NOW)
    assert Alert.objects.get().healed_at is None


def test_person_pauses_and_resumes_and_both_are_audited() -> None:
    lane = lane_row()
    lane_pause(lane, actor="user:anna", now=NOW)
    lane.refresh_from_db()
    assert lane.paused
    lane_resume(lane, actor="user:ben", now=NOW)
    lane.refresh_from_db()
    assert (lane.paused, lane.open_until) == (False, None)
    seen = list(AuditEvent.objects.order_by("id").values_list("actor", "subject", "detail"))
    assert seen == [("user:anna", "lane:a", {"action": "pause"}), ("user:ben", "lane:a", {"action": "resume"})]


def test_lane_is_made_once_and_follows_its_destination() -> None:
    one = lane_ensure("x", title="Old", max_parallel=2)
    fault(one)
    two = lane_ensure("x", title="New", max_parallel=3)
    assert one.pk == two.pk
    row = Lane.objects.get()
    assert (row.title, row.max_parallel, row.faults) == ("New", 3, 1)
