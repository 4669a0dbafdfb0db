"""Whether there is room for one more: disk, quotas, index - refused with A700 in time, admitted again by itself."""

import datetime as dt
import threading

import pytest
from django.db import DatabaseError

from gateway_project.core.models import Alert
from studies import selectors
from studies.models import Instance
from studies.services import admit as admit_module
from studies.services import watch as watch_module
from studies.services.receive import ReceiveError
from studies.services.watch import disk_watch, spool_watch
from tests.studies.house import House

pytestmark = pytest.mark.django_db
GB = 10**9
NOW = dt.datetime(2026, 5, 4, 12, 0, tzinfo=dt.UTC)


class Clock:
    """Stands for `time` in the admission: sleeping only moves it on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(admit_module, "time", clock)
    return clock


def refused(house: House, source: str = "CT_1") -> str:
    try:
        house.receiver.admit(source)
    except ReceiveError as error:
        if not error.busy:
            raise
        return error.code
    return ""


def quota(monkeypatch: pytest.MonkeyPatch, key: str, size: float) -> None:
    monkeypatch.setenv(f"GATEWAY_STORAGE__{key}", str(size / GB))


def alerts() -> dict[str, str]:
    return dict(Alert.objects.filter(healed_at=None).values_list("key", "code"))


# Disk


def test_free_space_is_asked_for_five_times_a_second_at_most(
    house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admit_module, "FREE_SECONDS", 0.2)
    asked, free = [], [5 * GB]
    monkeypatch.setattr(type(house.store), "free_bytes", lambda _store: (asked.append(1), free[0])[1])
    for _ in range(100):
        assert refused(house) == ""
    assert len(asked) == 1
    free[0] = 0
    clock.now += 0.2
    assert refused(house) == "disk-full"
    free[0] = 5 * GB
    clock.now += 0.2
    assert refused(house) == ""


# Index


def test_index_that_catches_up_in_time_slows_the_sender_and_refuses_nothing(
    house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__INDEX_BACKLOG", "3")
    monkeypatch.setattr(house, "backlog", lambda: 3 if clock.slept < 1 else 2)
    assert refused(house) == ""
    assert 1 <= clock.slept < 1.1


def test_index_that_does_not_catch_up_refuses_after_a_bounded_wait(
    house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__INDEX_BACKLOG", "3")
    house.backlog_now = 3
    assert refused(house) == "index-behind"
    assert 2 <= clock.slept < 2.1
    house.backlog_now = 2
    assert refused(house) == ""


def test_old_backlog_refuses_however_short_it_is(house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "backlog_seconds", lambda: 300.0)
    assert refused(house) == "index-behind"
    monkeypatch.setattr(house, "backlog_seconds", lambda: 299.0)
    assert refused(house) == ""


# Quotas


def test_quota_counts_what_is_stored_and_what_has_come_since(
    house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = house.receive()
    house.index()
    size = item.spooled.size_bytes
    quota(monkeypatch, "QUOTA_GB", 2.5 * size)
    assert refused(house) == ""
    house.receive("1.2.3.2")
    house.receive("1.2.3.3")  # neither is in the index yet
    assert refused(house) == "quota-full"
    house.index()
    clock.now += admit_module.USAGE_SECONDS
    assert refused(house) == "quota-full"
    Instance.objects.filter(sop_instance_uid__in=["1.2.3.1", "1.2.3.2"]).update(file_deleted_at=NOW)
    assert refused(house) == "quota-full"  # seen at the next measure
    clock.now += admit_module.USAGE_SECONDS
    assert refused(house) == ""


def test_quota_of_one_source_leaves_the_others_alone(
    house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = house.receive()
    quota(monkeypatch, "QUOTA_PER_SOURCE_GB", item.spooled.size_bytes)
    house.index()
    assert refused(house, "CT_1") == "source-quota-full"
    assert refused(house, "CT_2") == ""


def test_last_known_usage_rules_while_the_database_cannot_be_asked(
    house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = house.receive().spooled.size_bytes
    house.index()
    quota(monkeypatch, "QUOTA_GB", size)
    assert refused(house) == "quota-full"

    def fail() -> None:
        raise DatabaseError

    monkeypatch.setattr(selectors, "stored_bytes_by_source", fail)
    clock.now += admit_module.USAGE_SECONDS
    assert refused(house) == "quota-full"


def test_no_quota_costs_no_query(house: House, django_assert_num_queries: object) -> None:
    refused(house)
    with django_assert_num_queries(0):  # type: ignore[operator]
        assert refused(house) == ""


# What the watch tells


def test_quota_warns_at_ninety_per_cent_is_critical_when_full_and_heals(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "store_open", lambda: house.store)
    monkeypatch.setenv("GATEWAY_STORAGE__LOW_SPACE_GB", "0")
    size = house.receive().spooled.size_bytes
    house.index()
    quota(monkeypatch, "QUOTA_GB", size / 0.91)
    disk_watch(NOW)
    assert alerts() == {"quota:all": "quota-low"}
    quota(monkeypatch, "QUOTA_GB", size)
    quota(monkeypatch, "QUOTA_PER_SOURCE_GB", size)
    disk_watch(NOW)
    assert alerts() == {"quota:all": "quota-full", "quota:source:CT_1": "quota-full"}
    assert {a.severity for a in Alert.objects.filter(healed_at=None)} == {"critical"}
    quota(monkeypatch, "QUOTA_GB", size / 0.89)
    quota(monkeypatch, "QUOTA_PER_SOURCE_GB", 0)
    disk_watch(NOW)
    assert alerts() == {}


def test_low_disk_warns_a_full_one_is_critical_and_both_heal(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "store_open", lambda: house.store)
    free = [3 * GB]
    monkeypatch.setattr(type(house.store), "free_bytes", lambda _store: free[0])
    disk_watch(NOW)
    assert alerts() == {"disk": "disk-low"}
    free[0] = GB // 2
    disk_watch(NOW)
    assert alerts() == {"disk": "disk-full"}
    free[0] = 9 * GB
    disk_watch(NOW)
    assert alerts() == {}
    monkeypatch.setenv("GATEWAY_STORAGE__STOP_SPACE_GB", "10")  # above LOW_SPACE_GB
    disk_watch(NOW)
    assert alerts() == {"disk": "disk-full"}


def test_what_a_dead_sibling_left_is_taken_over_while_others_live(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "store_open", lambda: house.store)
    house.receive("1.2.3.1")
    house.dies()
    house.lives_again()
    living = house.receive("1.2.3.2")
    spool_watch(NOW)
    assert [row.sop_instance_uid for row in Instance.objects.all()] == ["1.2.3.1"]
    assert living.spooled.path.exists()
    house.index()
    house.check()


def test_many_threads_ask_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One lock guards the usage: nobody counts twice, nobody waits for ever."""
    usage = admit_module._Usage()
    usage._next = float("inf")
    threads = [threading.Thread(target=lambda: [usage.add("CT_1", 1) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert usage.of("CT_1") == (2000, 2000)
