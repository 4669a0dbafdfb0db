"""Alerts: one open row for each thing that is wrong, healed and opened anew."""

import pytest

from gateway_project.core.models import Alert
from gateway_project.core.selectors import alerts_open, alerts_unacknowledged
from gateway_project.core.services.alerts import alert_acknowledge, alert_heal, alert_open
from tests.core.job_rows import together

pytestmark = pytest.mark.django_db


def open_it(severity: str = "warning", words: str = "Low.") -> bool:
    return alert_open("disk", code="disk-low", words=words, severity=severity, link="/x/")


def test_alert_is_opened_once_and_counted() -> None:
    assert [open_it(), open_it(words="Lower."), open_it(words="Lowest." * 100)] == [True, False, False]
    alert = Alert.objects.get()
    assert (alert.count, alert.healed_at, alert.link) == (3, None, "/x/")
    assert alert.words == ("Lowest." * 100)[:400]
    assert alert.seen_at > alert.opened_at


def test_healed_alert_is_kept_and_a_new_one_opened() -> None:
    assert alert_heal("disk") is False
    open_it()
    assert alert_heal("disk") is True
    assert alert_heal("disk") is False
    assert open_it() is True
    healed, opened = Alert.objects.order_by("pk")
    assert (healed.healed_at is None, opened.healed_at is None, opened.count) == (False, True, 1)
    assert list(alerts_open()) == [opened]


def test_acknowledged_alert_stays_open_but_is_no_longer_pressing() -> None:
    open_it()
    alert_acknowledge(Alert.objects.get(), actor="user:anna")
    alert_acknowledge(Alert.objects.get(), actor="user:ben")
    open_it()
    assert Alert.objects.get().acknowledged_by == "user:anna"
    assert alerts_open().count() == 1
    assert alerts_unacknowledged().rows == []


def test_alert_that_became_severer_is_news_again() -> None:
    open_it()
    alert_acknowledge(Alert.objects.get(), actor="user:anna")
    assert open_it("critical") is False
    alert = Alert.objects.get()
    assert (alert.severity, alert.acknowledged_at, alert.acknowledged_by, alert.count) == ("critical", None, "", 2)
    assert alerts_unacknowledged().rows == [alert]


def test_most_severe_come_first() -> None:
    for key, severity in (("a", "info"), ("b", "critical"), ("c", "warning"), ("d", "critical")):
        alert_open(key, code="x", words="x", severity=severity)
    assert [alert.key for alert in alerts_unacknowledged().rows] == ["d", "b", "c", "a"]
    two = alerts_unacknowledged(2, without=["d"])
    assert ([alert.key for alert in two.rows], two.total) == (["b", "c"], 3)


def test_an_old_critical_alert_is_not_hidden_by_a_flood_of_later_ones() -> None:
    alert_open("first", code="x", words="x", severity="critical")
    for number in range(150):
        alert_open(f"later-{number}", code="x", words="x")
    found = alerts_unacknowledged(5)
    assert (found.rows[0].key, len(found.rows), found.total) == ("first", 5, 151)


@pytest.mark.django_db(transaction=True)
def test_alert_opened_by_many_at_once_is_one() -> None:
    opened: list[bool] = []
    together(*[lambda: opened.append(open_it())] * 5)
    assert sorted(opened) == [False] * 4 + [True]
    assert Alert.objects.get().count == 5
