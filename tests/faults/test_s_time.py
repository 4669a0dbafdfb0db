"""S10: clocks put forward and back, a leap second, another time zone. Stored is UTC, and only what has passed counts.

A clock that jumps is S09, in test_s_host.py; a vault's time windows on such days are in tests/uploads/test_windows.py.
"""

import datetime as dt
from typing import Any

import pytest
from django.db import connection

from network.dimse.ports import AssociationSummary, Peer
from network.models import AssociationRecord
from network.selectors import associations_latest
from network.services.associations import association_record
from studies import selectors
from studies.dicom import tags
from studies.models import Instance, Study, StudyRevision
from studies.services import receive as receive_module
from studies.services.settle import studies_settle_due
from tests.studies.datasets import dataset, element, scan
from tests.studies.house import House

pytestmark = pytest.mark.django_db

QUIET = 600
BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"  # the last shifts half an hour
FORWARD = dt.datetime(2026, 3, 29, 1, 0, tzinfo=dt.UTC)  # in Berlin 02:00 becomes 03:00
BACK = dt.datetime(2026, 10, 25, 1, 0, tzinfo=dt.UTC)  # in Berlin 03:00 becomes 02:00


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SETTLING__INACTIVITY_SECONDS", str(QUIET))


def minutes(number: float) -> dt.timedelta:
    return dt.timedelta(minutes=number)


def received_at(house: House, monkeypatch: pytest.MonkeyPatch, moment: dt.datetime, instance: str) -> None:
    monkeypatch.setattr(receive_module, "time_now", lambda: moment)
    house.receive(instance)
    house.index()


def stored_texts() -> list[str]:
    """What stands in the table, without Django's reading of it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT CAST(received_at AS TEXT) FROM studies_instance ORDER BY sop_instance_uid")
        return [row[0] for row in cursor.fetchall()]


@pytest.mark.parametrize("zone", ["UTC", BERLIN, NEW_YORK, LORD_HOWE])
@pytest.mark.parametrize("change", [FORWARD, BACK], ids=["forward", "back"])
def test_s10_study_over_the_change_of_clocks_settles_after_real_time(
    house: House, settings: Any, monkeypatch: pytest.MonkeyPatch, zone: str, change: dt.datetime
) -> None:
    """Five minutes before and five after the change are ten minutes, whatever the clock on the wall says."""
    settings.TIME_ZONE = zone
    received_at(house, monkeypatch, change - minutes(5), "1.2.3.1")
    received_at(house, monkeypatch, change + minutes(5), "1.2.3.2")
    assert [text[:16] for text in stored_texts()] == [
        f"{change - minutes(5):%Y-%m-%d %H:%M}",
        f"{change + minutes(5):%Y-%m-%d %H:%M}",
    ]
    study = Study.objects.get()
    assert selectors.settles_at(study) == change + minutes(15)
    assert studies_settle_due(now=change + minutes(14.9)) == []
    (revision,) = studies_settle_due(now=change + minutes(15))
    assert (revision.opened_at, revision.received_at) == (change - minutes(5), change + minutes(5))
    assert revision.instance_count == 2


def test_s10_time_zone_that_changes_between_two_starts_moves_nothing(
    house: House, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for number, zone in enumerate((BERLIN, NEW_YORK, "Asia/Kolkata", "UTC"), start=1):
        settings.TIME_ZONE = zone
        received_at(house, monkeypatch, BACK + minutes(number), f"1.2.3.{number}")
        study = Study.objects.get()
        found.append((study.open_since, study.received_at, Instance.objects.latest("received_at").sop_instance_uid))
    assert found == [(BACK + minutes(1), BACK + minutes(n), f"1.2.3.{n}") for n in range(1, 5)]
    assert studies_settle_due(now=BACK + minutes(13)) == []
    assert len(studies_settle_due(now=BACK + minutes(14))) == 1


def test_s10_leap_second_on_a_clock_that_repeats_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second before midnight comes twice: the later object has the earlier time, and both are in one revision."""
    midnight = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    received_at(house, monkeypatch, midnight - dt.timedelta(milliseconds=100), "1.2.3.1")
    received_at(house, monkeypatch, midnight - dt.timedelta(milliseconds=900), "1.2.3.2")
    study = Study.objects.get()
    assert study.received_at == midnight - dt.timedelta(milliseconds=100)
    studies_settle_due(now=midnight + minutes(10))
    assert StudyRevision.objects.get().instance_count == 2
    assert not Instance.objects.filter(revision=None).exists()


@pytest.mark.parametrize(("raw", "time"), [(b"235960", dt.time(23, 59, 59)), (b"235961", None), (b"240000", None)])
def test_s10_leap_second_in_an_object(raw: bytes, time: dt.time | None) -> None:
    assert scan(dataset(element(tags.STUDY_TIME, "TM", raw))).time(tags.STUDY_TIME) == time


@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE])
def test_s10_history_of_associations_is_in_the_order_of_what_happened(settings: Any, zone: str) -> None:
    """In the hour that comes twice, and with a zone that changes while it is written."""
    moments = [BACK + minutes(number) for number in (-50, -10, 5, 20, 50)]
    for number, moment in enumerate(moments):
        settings.TIME_ZONE = zone if number % 2 else "UTC"
        peer = Peer(f"assoc-{number}", "CT_1", "GATEWAY", "10.0.0.7", 50000, tls=False)
        summary = AssociationSummary(
            outcome="released",
            reason="",
            opened_at=moment - minutes(1),
            closed_at=moment,
            objects_stored=1,
            objects_refused=0,
            bytes_received=1,
        )
        association_record(peer, summary)
    assert [row.association_id for row in associations_latest()] == [f"assoc-{n}" for n in (4, 3, 2, 1, 0)]
    assert [row.closed_at for row in AssociationRecord.objects.order_by("closed_at")] == moments
