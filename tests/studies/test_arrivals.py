"""The rollup of what arrives: exact, however it is cut up, repeated or late."""

import datetime as dt

import pytest
from django.db import connection, transaction
from django.db.models import Sum
from django.utils.timezone import now

from gateway_project.core.models import RollupMark
from studies import activity
from studies.models import Arrival, Instance, SourceActivity
from studies.services import arrivals
from tests.web.factories import revision_make, series_make, study_make

pytestmark = pytest.mark.django_db
NOON = dt.datetime(2026, 5, 4, 12, 0, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def sent(title: str, moment: dt.datetime, *, instances: int = 3) -> None:
    """A series whose instances came from ten minutes before to that moment."""
    study = study_make(source_ae_title=title, received_at=moment, created_at=moment - 10 * MINUTE)
    series_make(study, instances=instances, size_bytes=1000)


def counted() -> list[str]:
    """As the ticker does it. With PostgreSQL a row is counted at the second look."""
    found = set(arrivals.arrivals_count()) | set(arrivals.arrivals_count())
    return sorted(found)


def steps() -> dict[tuple[str, str], tuple[int, int]]:
    rows = Arrival.objects.filter(minutes=10).select_related("source")
    return {(row.source.calling_ae_title, f"{row.start:%H:%M}"): (row.objects_received, row.size_bytes) for row in rows}


def test_counts_by_source_in_steps_and_hours() -> None:
    sent("CT_1", NOON + 5 * MINUTE)  # 11:55, 12:00, 12:05
    sent("MR_1", NOON + 40 * MINUTE, instances=2)  # 12:30, 12:40
    assert counted() == ["CT_1", "MR_1"]
    assert steps() == {
        ("CT_1", "11:50"): (1, 1000),
        ("CT_1", "12:00"): (2, 2000),
        ("MR_1", "12:30"): (1, 1000),
        ("MR_1", "12:40"): (1, 1000),
    }
    hours = Arrival.objects.filter(minutes=60, start=NOON).aggregate(n=Sum("objects_received"))
    assert hours["n"] == 4
    source = SourceActivity.objects.get(calling_ae_title="CT_1")
    assert (source.objects_received, source.size_bytes) == (3, 3000)
    assert (source.first_at, source.last_at) == (NOON - 5 * MINUTE, NOON + 5 * MINUTE)


def test_repeating_it_counts_nothing_twice_and_later_ones_are_added() -> None:
    sent("CT_1", NOON)
    counted()
    assert counted() == []
    before = steps()
    sent("CT_1", NOON)
    assert counted() == ["CT_1"]
    assert {key: (2 * n, 2 * size) for key, (n, size) in before.items()} == steps()


def test_an_index_that_is_there_is_counted_in_chunks_over_several_calls(monkeypatch) -> None:
    monkeypatch.setattr(arrivals, "CHUNK", 7)
    for number in range(5):
        sent(f"CT_{number % 2}", NOON + number * 60 * MINUTE, instances=10)
    arrivals.arrivals_count(seconds=0)  # only sees what is there
    seen = 0
    while seen < 50:
        arrivals._chunk_count()
        total = activity.sources_totals().objects
        assert total - seen in range(1, 8)
        seen = total
    assert seen == 50
    assert Arrival.objects.filter(minutes=60).aggregate(n=Sum("objects_received"))["n"] == 50


def test_a_chunk_that_fails_leaves_no_trace(monkeypatch) -> None:
    sent("CT_1", NOON)

    def fails(*_args: object) -> None:
        raise RuntimeError

    arrivals.arrivals_count(seconds=0)  # only sees what is there
    with monkeypatch.context() as patch:
        patch.setattr(arrivals, "_arrivals_add", fails)
        with pytest.raises(RuntimeError):
            arrivals.arrivals_count()
    assert not SourceActivity.objects.exists()
    assert counted() == ["CT_1"]
    assert SourceActivity.objects.get().objects_received == 3


@pytest.mark.django_db(transaction=True)
def test_what_becomes_visible_late_is_counted_once(monkeypatch) -> None:
    """PostgreSQL: a row of a lower id may be committed after one of a higher id was seen."""
    monkeypatch.setattr(arrivals.connection, "vendor", "postgresql", raising=False)
    sent("CT_1", NOON)
    late = Instance.objects.order_by("pk").first()
    values = {field.attname: getattr(late, field.attname) for field in Instance._meta.concrete_fields}
    Instance.objects.filter(pk=late.pk).delete()
    assert arrivals.arrivals_count() == []  # seen, not counted
    Instance.objects.create(**values)  # committed only now
    assert arrivals.arrivals_count() == ["CT_1"]
    assert SourceActivity.objects.get().objects_received == 3


def test_settled_revisions_are_counted_in_all() -> None:
    for _ in range(3):
        study = study_make()
        series_make(study)
        revision_make(study)
    counted()
    counted()
    assert RollupMark.objects.get(pk="revisions").total == 3


def test_old_rows_are_forgotten_and_totals_stay() -> None:
    sent("CT_1", NOON)
    counted()
    assert arrivals.arrivals_trim(NOON + dt.timedelta(days=2)) == 0
    assert arrivals.arrivals_trim(NOON + dt.timedelta(days=4)) == 2
    assert Arrival.objects.filter(minutes=60).count() == 2
    assert arrivals.arrivals_trim(NOON + dt.timedelta(days=121)) == 2
    assert activity.sources_totals().objects == 3


def test_stored_bytes_follow_deleted_files() -> None:
    sent("CT_1", NOON)
    counted()
    assert SourceActivity.objects.get().stored_bytes == 3000
    Instance.objects.filter(pk=Instance.objects.first().pk).update(file_deleted_at=now())
    arrivals.stored_measure()
    source = SourceActivity.objects.get()
    assert (source.stored_bytes, source.size_bytes) == (2000, 3000)


def a_day() -> float | None:
    return activity.received_bytes_a_day(NOON, first_at=activity.sources_totals().first_at)


def test_bytes_a_day_is_the_mean_of_the_last_week_and_unknown_on_the_first_day() -> None:
    assert a_day() is None
    sent("CT_1", NOON - dt.timedelta(hours=20))
    counted()
    assert a_day() is None
    sent("CT_1", NOON - dt.timedelta(days=2))
    counted()
    assert a_day() == pytest.approx(6000 / 2, rel=0.01)
    sent("CT_1", NOON - dt.timedelta(days=60))
    counted()
    assert a_day() == pytest.approx(6000 / 7, rel=0.01)


def test_a_chunk_costs_the_same_queries_whatever_its_size(django_assert_max_num_queries) -> None:
    def cost(instances: int) -> int:
        sent("CT_1", NOON, instances=instances)
        arrivals.arrivals_count(seconds=0)
        with django_assert_max_num_queries(30) as queries:
            arrivals.arrivals_count()
        return len(queries.captured_queries)

    cost(5)
    assert cost(400) == cost(5)


def test_the_database_is_not_asked_for_the_whole_table() -> None:
    """The range over ids is answered by the primary key."""
    if connection.vendor != "sqlite":
        pytest.skip("the plan of a small table says nothing with PostgreSQL")
    rows = Instance.objects.filter(pk__gt=5, pk__lte=50).order_by("pk").values_list("pk", "source_ae_title")
    with transaction.atomic():
        plan = rows.explain()
    assert "INTEGER PRIMARY KEY" in plan
