"""Quarantine: one row and one file for each content, a quota, and what every refusal leaves behind."""

import datetime as dt
from pathlib import Path

import pytest

from gateway_project.core.models import Alert, AuditEvent
from studies.models import QuarantinedObject, QuarantineState
from studies.services import quarantine as quarantine_module
from studies.services.quarantine import (
    quarantine_alerts_heal,
    quarantine_bytes,
    quarantine_discard,
    quarantine_sweep,
    quarantine_take,
)
from tests.core.job_rows import together
from tests.studies.house import House, Killed, arrival

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 5, 4, 12, 0, tzinfo=dt.UTC)
A, B = "a" * 64, "b" * 64
GB = 10**9


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    path = tmp_path / "refused"
    path.write_bytes(b"refused")
    return path


def take(
    house: House, path: Path, sha256: str = A, *, seconds: float = 0, code: str = "dataset-truncated", **fields: str
) -> QuarantinedObject:
    row = quarantine_take(
        house.store,
        path,
        arrival(**fields),
        sha256=sha256,
        size_bytes=7,
        code=code,
        reason="It ends too soon.",
        now=NOW + dt.timedelta(seconds=seconds),
    )
    assert row is not None
    return row


def open_alerts() -> set[str]:
    return set(Alert.objects.filter(healed_at=None).values_list("code", flat=True))


def test_first_refusal_makes_the_row_with_all_that_is_known(house: House, refused: Path) -> None:
    row = take(house, refused)
    assert (row.sha256, row.size_bytes, row.code, row.reason) == (A, 7, "dataset-truncated", "It ends too soon.")
    assert (row.count, row.state, row.kept) == (1, QuarantineState.OPEN, True)
    assert (row.source_ae_title, row.receiving_ae_title, row.peer_address) == ("CT_1", "GATEWAY", "10.0.0.7")
    assert (row.first_at, row.latest_at) == (NOW, NOW)
    assert house.files("quarantine") == {f"quarantine/{A}.bin"}


def test_same_content_again_is_counted_and_keeps_its_first_reason(house: House, refused: Path) -> None:
    take(house, refused)
    row = take(house, refused, code="another", seconds=60, source_ae_title="CT_2")
    assert (row.count, row.code, row.source_ae_title) == (2, "dataset-truncated", "CT_1")
    assert (row.first_at, row.latest_at) == (NOW, NOW + dt.timedelta(seconds=60))
    take(house, refused, B)
    assert QuarantinedObject.objects.count() == 2


def test_every_refusal_is_in_the_trail_and_one_alert_counts_them(house: House, refused: Path) -> None:
    row = take(house, refused)
    take(house, refused, source_ae_title="x" * 300)
    events = list(AuditEvent.objects.order_by("id").values_list("event", "actor", "subject", "outcome"))
    assert events == [
        ("Data Import", "ae:CT_1", f"quarantine:{row.pk}", "refused"),
        ("Data Import", "ae:" + "x" * 16, f"quarantine:{row.pk}", "refused"),
    ]
    assert (Alert.objects.get().code, Alert.objects.get().count) == ("quarantined", 2)


def test_what_a_peer_says_is_cut_to_its_column(house: House, refused: Path) -> None:
    row = take(house, refused, source_ae_title="s" * 99, peer_address="p" * 99, transfer_syntax_uid="1" * 99)
    assert [len(t) for t in (row.source_ae_title, row.peer_address, row.transfer_syntax_uid)] == [16, 64, 64]


@pytest.mark.django_db(transaction=True)
def test_many_refusals_of_one_content_at_once_are_one_row(house: House, refused: Path) -> None:
    together(*[lambda: take(house, refused)] * 5)
    assert QuarantinedObject.objects.get().count == 5
    assert AuditEvent.objects.count() == 5


def test_full_quarantine_counts_without_keeping_and_says_so(
    house: House, refused: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__QUARANTINE_GB", str(10 / GB))
    first = take(house, refused)
    row = take(house, refused, B)
    assert (row.kept, row.count, quarantine_bytes()) == (False, 1, 7)
    assert take(house, refused, B).count == 2
    assert house.files("quarantine") == {f"quarantine/{A}.bin"}
    assert take(house, refused).kept  # what is there already costs nothing more
    assert open_alerts() == {"quarantined", "quarantine-full"}
    quarantine_discard(first, actor="user:anna", store=house.store)
    assert open_alerts() == {"quarantined"}
    assert take(house, refused, B).kept
    assert house.files("quarantine") == {f"quarantine/{B}.bin"}


def test_no_peer_can_fill_the_database(house: House, refused: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__QUARANTINE_OBJECTS", "1")
    first = take(house, refused)
    assert quarantine_take(house.store, refused, arrival(), sha256=B, size_bytes=7, code="x", reason="") is None
    assert QuarantinedObject.objects.count() == AuditEvent.objects.count() == 1
    assert open_alerts() == {"quarantined", "quarantine-full"}
    assert take(house, refused).count == 2  # what is known is counted as ever
    quarantine_discard(first, actor="user:anna", store=house.store)
    assert open_alerts() == set()
    assert take(house, refused, B).kept


def test_discarding_removes_the_file_after_the_row_says_so(house: House, refused: Path) -> None:
    row = take(house, refused)
    quarantine_discard(row, actor="user:anna", store=house.store, now=NOW)
    row.refresh_from_db()
    assert (row.state, row.kept, row.decided_by, row.decided_at) == ("discarded", False, "user:anna", NOW)
    assert house.files("quarantine") == set()
    event = AuditEvent.objects.order_by("-id")[0]
    assert (event.actor, event.subject, event.detail["action"]) == ("user:anna", f"quarantine:{row.pk}", "discarded")
    assert open_alerts() == set()
    quarantine_discard(row, actor="user:bert", store=house.store)  # twice is once
    assert (AuditEvent.objects.count(), QuarantinedObject.objects.get().decided_by) == (2, "user:anna")


def test_alert_stays_until_the_last_open_object_is_decided(house: House, refused: Path) -> None:
    rows = [take(house, refused), take(house, refused, B)]
    quarantine_discard(rows[0], actor="user:anna", store=house.store)
    assert open_alerts() == {"quarantined"}
    quarantine_discard(rows[1], actor="user:anna", store=house.store)
    assert open_alerts() == set()


def test_discarded_content_that_comes_again_is_open_and_kept_again(house: House, refused: Path) -> None:
    quarantine_discard(take(house, refused), actor="user:anna", store=house.store)
    row = take(house, refused)
    assert (row.state, row.kept, row.count, row.decided_by) == (QuarantineState.OPEN, True, 2, "")
    assert house.files("quarantine") == {f"quarantine/{A}.bin"}
    assert open_alerts() == {"quarantined"}


def test_crash_between_row_and_file_leaves_a_file_that_the_sweep_removes(
    house: House, refused: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, other = take(house, refused), take(house, refused, B)

    def kill(*_args: object) -> None:
        raise Killed

    monkeypatch.setattr(quarantine_module, "quarantine_file_remove", kill)
    with pytest.raises(Killed):
        quarantine_discard(row, actor="user:anna", store=house.store)
    monkeypatch.undo()
    assert len(house.files("quarantine")) == 2
    house.store.quarantine(b"without a row yet", sha256="c" * 64)
    assert quarantine_sweep(house.store) == 1
    assert house.files("quarantine") == {f"quarantine/{B}.bin", f"quarantine/{'c' * 64}.bin"}
    assert QuarantinedObject.objects.get(pk=other.pk).kept


def test_refusal_that_comes_while_the_alert_heals_is_told(
    house: House, refused: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quarantine_discard(take(house, refused), actor="user:anna", store=house.store)
    take(house, refused, B)
    real, asked = quarantine_module._any_open, []

    def late() -> bool:
        """The first look is older than the refusal."""
        asked.append(1)
        return len(asked) > 1 and real()

    monkeypatch.setattr(quarantine_module, "_any_open", late)
    quarantine_alerts_heal()
    assert open_alerts() == {"quarantined"}
