"""From the DIMSE port to our services: the only place where our codes become statuses."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from network.dimse import statuses
from network.dimse.ports import AssociationSummary, Peer, StoreRequest, StoreResult
from network.handlers import StorageHandlers, status_of
from network.models import AssociationRecord
from studies.models import Instance, QuarantinedObject
from studies.services.indexer import Indexer
from studies.services.receive import InstanceReceiver, ReceiveError
from tests.studies.datasets import CT, EXPLICIT
from tests.studies.house import House, content

pytestmark = pytest.mark.django_db(transaction=True)

PEER = Peer("assoc-9", "CT_1", "GATEWAY", "10.0.0.7", 50123, tls=False)
OPENED = dt.datetime(2026, 5, 4, 12, 0, tzinfo=dt.UTC)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "store")
    yield house
    house.intake.close()


@pytest.fixture
def handlers(house: House) -> Iterator[StorageHandlers]:
    indexer = Indexer(house.store, house.intake)
    indexer.start()
    yield StorageHandlers(InstanceReceiver(house.store, house.intake, indexer), indexer)
    indexer.stop(timeout_seconds=20)


def store(
    handlers: StorageHandlers,
    instance: str = "1.2.3.1",
    *,
    dataset: bytes | None = None,
    peer: Peer = PEER,
    **fields: str,
) -> StoreResult:
    values = {"sop_class_uid": CT, "sop_instance_uid": instance, "transfer_syntax_uid": EXPLICIT} | fields
    data = content(instance) if dataset is None else dataset
    sink = handlers.begin(StoreRequest(peer=peer, message_id=1, context_id=1, **values))
    for start in range(0, len(data), 1 << 16):
        sink.write(memoryview(data)[start : start + (1 << 16)])
    result = sink.commit()
    sink.abort()
    return result


def summary(stored: int = 0, *, outcome: str = "released", **fields: Any) -> AssociationSummary:
    values = {
        "objects_refused": 0,
        "bytes_received": 0,
        "opened_at": OPENED,
        "closed_at": OPENED,
        "reason": "",
    } | fields
    return AssociationSummary(outcome=outcome, objects_stored=stored, **values)  # type: ignore[arg-type]


def test_stored_object_is_success_and_indexed_when_the_release_is_answered(
    house: House, handlers: StorageHandlers
) -> None:
    handlers.association_opened(PEER)
    assert store(handlers).status == statuses.SUCCESS
    handlers.association_releasing(PEER)
    handlers.association_closed(PEER, summary(1))
    row = Instance.objects.get()
    assert (row.association_id, row.source_ae_title, row.receiving_ae_title) == ("assoc-9", "CT_1", "GATEWAY")
    assert AssociationRecord.objects.get().objects_stored == 1
    house.check()


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"instance": "1.2.3.2", "dataset": content("1.2.3.1")}, 0xA900, "instance-uid-differs"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4"}, 0xA900, "class-uid-differs"),
        ({"abstract_syntax_uid": "1.2.840.10008.5.1.4.1.1.4"}, 0xA900, "class-uid-differs"),
        ({"dataset": content()[:-3]}, 0xC000, "dataset-truncated"),
        ({"dataset": b""}, 0xC000, "dataset-empty"),
        ({"instance": "../../../etc/passwd", "dataset": content()}, 0xC000, "uid-invalid"),
        ({"instance": "1.2\\..\\x", "dataset": content()}, 0xC000, "uid-invalid"),
    ],
)
def test_refusal_has_its_status_and_keeps_the_bytes(
    house: House, handlers: StorageHandlers, wrong: dict[str, Any], status: int, code: str
) -> None:
    result = store(handlers, **wrong)
    assert (result.status, result.comment) == (status, code)
    assert QuarantinedObject.objects.get().code == code
    assert len(house.files("quarantine")) == 1
    assert house.files("incoming") == set()
    assert not Instance.objects.exists()


def test_full_disk_is_out_of_resources(handlers: StorageHandlers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__STOP_SPACE_GB", "1e9")
    result = store(handlers)
    assert (result.status, result.comment) == (0xA700, "disk-full")
    assert not QuarantinedObject.objects.exists()


def test_every_code_has_a_status_and_a_comment_that_fits() -> None:
    assert status_of(ReceiveError("", code="x", busy=True)) == 0xA700
    assert status_of(ReceiveError("", code="x", mismatch=True)) == 0xA900
    assert status_of(ReceiveError("", code="x")) == 0xC000
    from studies.dicom.errors import _ADVICE

    assert all(len(code) <= 64 and code.isascii() for code in _ADVICE)


def test_large_object_goes_through_in_pieces(house: House, handlers: StorageHandlers) -> None:
    data = content(pixels=bytes(range(256)) * 10_000)
    assert store(handlers, dataset=data).status == statuses.SUCCESS
    handlers.association_releasing(PEER)
    assert house.data_set_of(Instance.objects.get()) == data


def test_hostile_titles_reach_rows_and_logs_as_text(
    house: House, handlers: StorageHandlers, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Peer("assoc-1", "A\0\n\x1b[31m" + "x" * 50, "GATE\0", "10.0.0.7", 1, tls=False)
    handlers.association_opened(peer)
    assert store(handlers, peer=peer).status == statuses.SUCCESS
    assert store(handlers, peer=peer, dataset=b"").status == statuses.CANNOT_UNDERSTAND
    handlers.association_releasing(peer)
    handlers.association_closed(peer, summary(1))
    assert Instance.objects.get().source_ae_title == "A???[31mxxxxxxxx"
    assert QuarantinedObject.objects.get().receiving_ae_title == "GATE?"
    assert AssociationRecord.objects.get().calling_ae_title == "A???[31mxxxxxxxx"
    assert not any("\0" in str(vars(record)) or "\x1b" in str(vars(record)) for record in caplog.records)
    house.check()


def test_logs_of_a_whole_association_tell_nothing_of_the_patient(
    handlers: StorageHandlers, caplog: pytest.LogCaptureFixture
) -> None:
    marked = {"patient_name": "Mark^Patient", "patient_id": "MARKED-ID"}
    with caplog.at_level("DEBUG"):
        handlers.association_opened(PEER)
        store(handlers, dataset=content("1.2.3.1", **marked))
        store(handlers, dataset=content("1.2.3.1", **marked)[:-3])
        handlers.association_releasing(PEER)
        handlers.association_closed(PEER, summary(1))
    ours = [record for record in caplog.records if not record.name.startswith("django.db")]
    assert ours
    assert not [record for record in ours if "mark" in str(vars(record)).lower().replace("marker", "")]


def test_rejected_association_is_counted_by_the_acceptor_and_not_recorded_here(handlers: StorageHandlers) -> None:
    handlers.association_closed(PEER, summary(0, outcome="rejected", reason="called-ae-unknown"))
    assert AssociationRecord.objects.count() == 0
