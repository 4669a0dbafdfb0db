"""When a source counts as silent against its own usual week, and how that is told and healed."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import localtime

from gateway_project.core.models import Alert, RollupMark
from studies.models import SourcePolicy
from studies.policies import source_policies_forget
from studies.services.silence import ALERT_MANY, ALERT_SOURCE, silence_heal, silence_switch, silence_watch
from studies.silence import Verdict, judge
from tests.web.rollups import HOUR, source_make, working_hours

DAY = dt.timedelta(days=1)
MONDAY = dt.datetime(2026, 5, 4, 0, 0, tzinfo=dt.UTC)  # of a week without any holiday
FRIDAY_EVENING = MONDAY - 3 * DAY + 17 * HOUR
BERLIN = ZoneInfo("Europe/Berlin")


def verdict(hours: list[dt.datetime], now: dt.datetime, **values: object) -> Verdict:
    last = hours[-1] + dt.timedelta(minutes=30)
    settings = {"least": 4.0, "history_days": 21, "weeks": 6, "zone": dt.UTC, **values}
    return judge(hours, first_at=hours[0], last_at=last, now=now, **settings)


def week_of(source: str = "office") -> list[dt.datetime]:
    """Five weeks until Friday evening: an office modality, one that never rests, or one used on Tuesdays alone."""
    if source == "office":
        return working_hours(FRIDAY_EVENING, begin=8, end=17)
    if source == "always":
        return working_hours(FRIDAY_EVENING, days=range(7), begin=0, end=24)
    return working_hours(FRIDAY_EVENING, weeks=6, days=[1], begin=8, end=14)


# -- the rule ----------------------------------------------------------------------------------------------------------


def test_weekend_of_an_office_modality_is_no_silence() -> None:
    for hours in range(1, 62):
        assert not verdict(week_of(), FRIDAY_EVENING + hours * HOUR).silent, hours


def test_monday_morning_without_an_object_is() -> None:
    assert not verdict(week_of(), MONDAY + 11 * HOUR).silent
    found = verdict(week_of(), MONDAY + 12 * HOUR)
    assert found.silent
    assert (found.missed, found.bound) == (4.0, 4.0)


def test_a_device_that_never_rests_is_told_of_after_four_hours() -> None:
    assert not verdict(week_of("always"), FRIDAY_EVENING + 4 * HOUR).silent
    assert verdict(week_of("always"), FRIDAY_EVENING + 6 * HOUR).silent


def test_a_device_used_once_a_week_is_judged_by_its_own_day() -> None:
    tuesday = MONDAY + DAY
    for moment in (FRIDAY_EVENING, MONDAY + 12 * HOUR, tuesday + 9 * HOUR):
        assert not verdict(week_of("tuesday"), moment).silent
    assert verdict(week_of("tuesday"), tuesday + 13 * HOUR).silent


def test_long_pauses_of_its_own_raise_the_bound() -> None:
    """One that sends in some two of the nine hours, at random, is used to missing several."""
    sparse = [hour for number, hour in enumerate(working_hours(FRIDAY_EVENING, weeks=6)) if number * 7 % 31 < 6]
    found = verdict(sparse, MONDAY + 12 * HOUR)
    assert found.known
    assert not found.silent


def test_one_holiday_in_the_weeks_before_changes_little() -> None:
    holiday = (MONDAY - 10 * DAY).date()  # a Friday
    hours = [hour for hour in week_of() if hour.date() != holiday]
    assert verdict(hours, MONDAY + 12 * HOUR).silent
    assert not verdict(hours, MONDAY + 10 * HOUR).silent


def test_a_long_silence_does_not_become_the_usual() -> None:
    found = verdict(week_of(), MONDAY + 40 * DAY)
    assert found.silent
    assert found.missed > 200


@pytest.mark.parametrize("weeks", [1, 2])
def test_a_new_source_is_not_judged(weeks: int) -> None:
    hours = working_hours(FRIDAY_EVENING, weeks=weeks)
    assert not verdict(hours, MONDAY + 20 * DAY).known


def test_a_source_that_hardly_sends_is_not_judged() -> None:
    assert not verdict(week_of()[::40], MONDAY + 20 * DAY).known


def test_hours_are_those_on_the_wall_when_clocks_change() -> None:
    """Clocks went forward on 29 March 2026: eight in the morning stays eight in the morning."""
    end = dt.datetime(2026, 3, 27, 17, 0, tzinfo=BERLIN)
    hours = [end - number * HOUR for number in range(5 * 168)]
    wall = [
        h.astimezone(dt.UTC)
        for h in hours
        if h.astimezone(BERLIN).weekday() < 5 and 8 <= h.astimezone(BERLIN).hour < 17
    ]
    monday = dt.datetime(2026, 3, 30, 8, 0, tzinfo=BERLIN)
    assert not verdict(sorted(wall), monday, zone=BERLIN).missed
    assert verdict(sorted(wall), monday + 2 * HOUR, zone=BERLIN).missed == pytest.approx(2.0)


# -- alerts ------------------------------------------------------------------------------------------------------------


def opened() -> set[str]:
    return set(Alert.objects.filter(healed_at=None).values_list("key", flat=True))


@pytest.mark.django_db
def test_silence_opens_one_alert_without_a_patient_and_sending_heals_it() -> None:
    source_make("CT_1", week_of())
    silence_watch(MONDAY + 11 * HOUR)
    assert opened() == set()
    for hours in (13, 14, 15):
        silence_watch(MONDAY + hours * HOUR)
    alert = Alert.objects.get()
    assert (alert.key, alert.code, alert.count) == (ALERT_SOURCE + "CT_1", "source-silent", 3)
    latest = localtime(FRIDAY_EVENING - dt.timedelta(minutes=40))
    assert alert.words.startswith(f"CT_1 has sent nothing since {latest:%a %H:%M, %Y-%m-%d}.")
    silence_heal(["MR_1", "CT_1"])
    assert opened() == set()


@pytest.mark.django_db
def test_an_alert_that_is_no_longer_true_heals_at_the_next_look(monkeypatch) -> None:
    source_make("CT_1", week_of())
    silence_watch(MONDAY + 13 * HOUR)
    assert opened() == {ALERT_SOURCE + "CT_1"}
    monkeypatch.setenv("GATEWAY_SILENCE__MISSED_HOURS", "30")
    silence_watch(MONDAY + 13 * HOUR)
    assert opened() == set()


@pytest.mark.django_db
def test_switches_for_one_for_all_without_a_row_and_for_everything(monkeypatch) -> None:
    source_make("CT_1", week_of())
    source_make("MR_1", week_of())
    silence_switch("CT_1", watched=False, actor="user:anna")
    silence_watch(MONDAY + 13 * HOUR)
    assert opened() == {ALERT_SOURCE + "MR_1"}
    silence_switch("*", watched=False, actor="user:anna")
    silence_watch(MONDAY + 13 * HOUR)
    assert opened() == set()
    silence_switch("CT_1", watched=True, actor="user:anna")
    silence_watch(MONDAY + 13 * HOUR)
    assert opened() == {ALERT_SOURCE + "CT_1"}
    monkeypatch.setenv("GATEWAY_SILENCE__ENABLED", "false")
    silence_watch(MONDAY + 13 * HOUR)
    assert opened() == set()
    assert SourcePolicy.objects.count() == 2
    source_policies_forget()


@pytest.mark.django_db
def test_switching_off_heals_at_once() -> None:
    source_make("CT_1", week_of())
    silence_watch(MONDAY + 13 * HOUR)
    silence_switch("CT_1", watched=False, actor="user:anna")
    assert opened() == set()
    source_policies_forget()


@pytest.mark.django_db
def test_a_public_holiday_is_told_once_for_all() -> None:
    for number in range(8):
        source_make(f"CT_{number}", week_of())
    source_make("EMERGENCY", [*week_of("always"), MONDAY + 12 * HOUR])
    silence_watch(MONDAY + 13 * HOUR)
    assert opened() == {ALERT_MANY}
    words = Alert.objects.get().words
    assert words.startswith("8 sources are late at once, 8 of them silent against their usual week: CT_0, CT_1")
    assert words.endswith("and others. A holiday, or something between them and the gateway.")
    silence_watch(MONDAY + 23 * HOUR)
    assert opened() == {ALERT_MANY}


@pytest.mark.django_db
def test_one_of_many_is_told_by_its_name_and_takes_over_when_the_others_return() -> None:
    sources = [source_make(f"CT_{number}", week_of()) for number in range(6)]
    silence_watch(MONDAY + 13 * HOUR)
    assert opened() == {ALERT_MANY}
    for source in sources[1:]:
        source.last_at = MONDAY + 13 * HOUR
        source.save()
    silence_watch(MONDAY + 13 * HOUR + 5 * dt.timedelta(minutes=1))
    assert opened() == {ALERT_SOURCE + "CT_0"}


@pytest.mark.django_db
def test_a_look_costs_one_query_a_quiet_source() -> None:
    for number in range(3):
        source_make(f"CT_{number}", week_of())
    with CaptureQueriesContext(
        connection,
    ) as queries:
        silence_watch(MONDAY + 9 * HOUR)
    assert len(queries) <= 3 + 8
    with CaptureQueriesContext(connection) as queries:
        silence_watch(FRIDAY_EVENING - HOUR)
    assert not any("studies_arrival" in query["sql"] for query in queries)


@pytest.mark.django_db
def test_nothing_is_judged_while_the_rollup_catches_up() -> None:
    source_make("CT_1", week_of())
    mark = RollupMark.objects.create(name="instances", counted_to=100_000, seen_to=900_000)
    silence_watch(MONDAY + 13 * HOUR)
    assert opened() == set()
    RollupMark.objects.filter(pk=mark.pk).update(counted_to=899_000)
    silence_watch(MONDAY + 13 * HOUR)
    assert opened() == {ALERT_SOURCE + "CT_1"}
