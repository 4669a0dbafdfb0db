"""The periodic work that the wiring adds: settling, and an eye on the disk."""

import pytest
from django.utils.timezone import now

from gateway_project.core.models import Alert, Severity
from gateway_project.core.queues import REGISTRY
from gateway_project.wiring import tasks
from studies.dicom.spool import Store
from tests.uploads.upload_house import House
from uploads.models import UploadJob

pytestmark = pytest.mark.django_db


def disk(monkeypatch: pytest.MonkeyPatch, free_gb: float) -> Alert | None:
    monkeypatch.setattr(Store, "free_bytes", lambda _store: int(free_gb * 10**9))
    tasks.disk_watch(now())
    return Alert.objects.filter(key="disk", healed_at=None).first()


def test_settling_takes_a_quiet_study_to_its_uploads(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.vault_row()
    house.receive(1, [1])
    tasks.settle(now())
    assert not UploadJob.objects.exists(), "it is not quiet yet"
    monkeypatch.setenv("GATEWAY_SETTLING__INACTIVITY_SECONDS", "0")
    tasks.settle(now())
    assert UploadJob.objects.count() == 1


def test_a_disk_that_runs_low_is_told_of_and_heals_by_itself(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__STOP_SPACE_GB", "1")
    assert disk(monkeypatch, 5.0) is None
    low = disk(monkeypatch, 4.9)
    assert (low.code, low.severity) == ("disk-low", Severity.WARNING)
    full = disk(monkeypatch, 0.9)
    assert (full.pk, full.code, full.severity) == (low.pk, "disk-full", Severity.CRITICAL)
    assert "A700" in full.words
    assert disk(monkeypatch, 6.0) is None


def test_a_store_that_cannot_be_used_is_told_of(house: House) -> None:
    house.store.root.chmod(0o777)
    tasks.disk_watch(now())
    alert = Alert.objects.get(key="disk")
    assert (alert.code, alert.severity) == ("store-exposed", Severity.CRITICAL)
    house.store.root.chmod(0o700)
    tasks.disk_watch(now())
    assert Alert.objects.get(key="disk").healed_at is not None


def test_both_are_rung_for() -> None:
    assert {"settle", "disk"} <= set(REGISTRY.periodics)
