"""The rollup of the time to the vault: every upload once, in the bucket that it belongs to."""

import datetime as dt

import pytest
from django.utils.timezone import now

from gateway_project.core.models import JobState
from tests.web.factories import revision_make, study_make, upload_make, vault_make
from uploads.models import DeliveryTimes, UploadJob
from uploads.selectors.lines import deliveries_since, delivery_totals
from uploads.services import delivery

pytestmark = pytest.mark.django_db
MINUTE = dt.timedelta(minutes=1)


def ended(source: str, seconds: float, *, ago: dt.timedelta = MINUTE, stow: bool = False) -> UploadJob:
    end = now() - ago
    study = study_make(source_ae_title=source, received_at=end - dt.timedelta(seconds=seconds))
    vault = vault_make(f"v{UploadJob.objects.count()}")
    revision = revision_make(study, size_bytes=1000)
    return upload_make(revision, vault, receipt_at=None if stow else end, ended_at=end)


def test_each_upload_counts_once_in_its_bucket_by_source() -> None:
    for seconds in (59, 60, 61, 640, 10**6):
        ended("CT_1", seconds)
    ended("MR_1", 700, stow=True)
    assert delivery.deliveries_count(now()) == 6
    assert delivery.deliveries_count(now()) == 0
    times = DeliveryTimes.objects.get(source_ae_title="CT_1")
    assert times.counts == {"60": 2, "120": 1, "660": 1, "+Inf": 1}
    assert (times.uploads, times.size_bytes, round(times.seconds)) == (5, 5000, 1_000_820)
    assert DeliveryTimes.objects.get(source_ae_title="MR_1").counts == {"720": 1}
    assert delivery_totals() == {"uploads": 6, "size_bytes": 6000}


def test_what_has_just_ended_waits_until_it_is_certain_to_be_seen() -> None:
    ended("CT_1", 60, ago=dt.timedelta(seconds=5))
    assert delivery.deliveries_count(now()) == 0
    assert delivery.deliveries_count(now() + dt.timedelta(seconds=31)) == 1


@pytest.mark.parametrize("state", [JobState.READY, JobState.RUNNING, JobState.PARKED, JobState.CANCELLED])
def test_unfinished_ones_do_not_count(state: str) -> None:
    job = ended("CT_1", 60)
    UploadJob.objects.filter(pk=job.pk).update(state=state)
    assert delivery.deliveries_count(now()) == 0


def test_many_are_counted_in_chunks_with_all_of_one_moment_together(monkeypatch) -> None:
    monkeypatch.setattr(delivery, "CHUNK", 3)
    for _ in range(10):
        ended("CT_1", 90)
    end = now() - MINUTE
    UploadJob.objects.filter(pk__in=UploadJob.objects.order_by("pk").values("pk")[:5]).update(ended_at=end)
    assert delivery.deliveries_count(now(), chunks=1) >= 3
    delivery.deliveries_count(now())
    assert DeliveryTimes.objects.get().uploads == 10


def test_a_failure_in_the_middle_counts_nothing(monkeypatch) -> None:
    ended("CT_1", 90)
    with monkeypatch.context() as patch:
        patch.setattr(delivery.RollupMark, "save", _fails)
        with pytest.raises(RuntimeError):
            delivery.deliveries_count(now())
    assert not DeliveryTimes.objects.exists()
    assert delivery.deliveries_count(now()) == 1


def _fails(*_args: object, **_named: object) -> None:
    raise RuntimeError


def test_deliveries_of_a_time_in_one_query_of_an_index(django_assert_num_queries) -> None:
    ended("CT_1", 90, ago=3 * MINUTE)
    ended("CT_1", 120, ago=2 * MINUTE)
    ended("CT_1", 5, ago=100 * MINUTE)
    with django_assert_num_queries(1):
        found = deliveries_since(now() - 60 * MINUTE)
    assert [round(one.seconds) for one in found] == [90, 120]
