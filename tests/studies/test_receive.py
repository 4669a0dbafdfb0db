"""Receiving: success only when the object is durable, and every refusal keeps what was sent."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError

from gateway_project.core.models import Alert, AuditEvent
from studies.dicom import spool as spool_module
from studies.dicom.part10 import file_meta_read
from studies.dicom.spool import SpoolError
from studies.models import Instance, QuarantinedObject
from studies.services import receive as receive_module
from studies.services.receive import ReceiveError
from studies.services.recover import spool_recover
from tests.studies.datasets import EXPLICIT, IMPLICIT
from tests.studies.house import House, arrival, content

pytestmark = pytest.mark.django_db
GOOD = content()


def refused(house: House, data: bytes = GOOD, **fields: str) -> ReceiveError:
    with pytest.raises(ReceiveError) as caught:
        house.receiver.receive(arrival(**fields), [data])
    return caught.value


def test_object_is_whole_and_durable_before_it_is_acknowledged(house: House) -> None:
    spooled = house.receiver.receive(arrival(), [GOOD[:50], memoryview(GOOD)[50:]])
    with spooled.path.open("rb") as stream:
        meta = file_meta_read(stream)
        assert stream.read() == GOOD
    assert (spooled.size_bytes, spooled.sha256) == (len(GOOD), hashlib.sha256(GOOD).hexdigest())
    assert (meta.source_ae_title, meta.receiving_ae_title, meta.transfer_syntax_uid) == ("CT_1", "GATEWAY", EXPLICIT)
    assert [item.spooled for item in house.waiting] == [spooled]
    assert not QuarantinedObject.objects.exists()


def test_every_byte_is_flushed_before_success(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.receive("1.2.3.1")  # the batch, and a few slots, are there from now on
    flushed: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (flushed.append(os.fstat(fd).st_ino), real(fd)))
    item = house.receive("1.2.3.2")
    assert flushed == [item.spooled.path.stat().st_ino]


@pytest.mark.parametrize("step", ["fdatasync", "pwrite"])
def test_failing_disk_leaves_nothing_and_is_no_fault_of_the_object(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    house.receive("1.2.3.9")
    before = house.files("incoming")

    def fail(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool_module.os, step, fail)
    error = refused(house)
    monkeypatch.undo()
    assert (error.code, error.busy) == ("disk-full", True)
    assert house.files("incoming") == before
    assert len(house.waiting) == 1
    assert not house.files("quarantine")


REFUSALS = {
    "truncated": (GOOD[:-3], {}, "dataset-truncated", False),
    "empty": (b"", {}, "dataset-empty", False),
    "garbage": (b"\xff" * 64, {}, "transfer-syntax-mismatch", False),
    "no identity": (GOOD.replace(b"1.2.5\0", b"\0\0\0\0\0\0"), {}, "identity-missing", False),
    "other instance": (GOOD, {"instance": "1.2.3.2"}, "instance-uid-differs", True),
    "other class": (GOOD, {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4"}, "class-uid-differs", True),
    "wrong syntax": (GOOD, {"transfer_syntax_uid": IMPLICIT}, "transfer-syntax-mismatch", False),
    "hostile instance": (GOOD, {"instance": "../../../etc/passwd"}, "uid-invalid", False),
    "hostile class": (GOOD, {"sop_class_uid": "\0\n"}, "uid-invalid", False),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_every_refusal_keeps_the_bytes_once_and_counts(house: House, kind: str) -> None:
    data, fields, code, mismatch = REFUSALS[kind]
    for _ in range(3):
        error = refused(house, data, **fields)
        assert (error.code, error.busy, error.mismatch) == (code, False, mismatch)
    row = QuarantinedObject.objects.get()
    sha256 = hashlib.sha256(data).hexdigest()
    assert (row.sha256, row.size_bytes, row.code, row.count) == (sha256, len(data), code, 3)
    assert (row.source_ae_title, row.peer_address) == ("CT_1", "10.0.0.7")
    assert house.files("quarantine") == {f"quarantine/{sha256}.bin"}
    assert (house.store.root / f"quarantine/{sha256}.bin").read_bytes().endswith(data)
    assert (house.files("incoming"), house.files("objects"), house.waiting) == (set(), set(), [])
    assert Alert.objects.get().code == "quarantined"


def test_refusal_tells_nothing_of_the_patient(house: House, caplog: pytest.LogCaptureFixture) -> None:
    refused(house, content(patient_name="Mark^Patient", patient_id="MARKED-ID")[:-3])
    row, alert = QuarantinedObject.objects.get(), Alert.objects.get()
    said = [
        row.reason,
        row.code,
        alert.words,
        alert.key,
        *[str(e.detail) + e.subject for e in AuditEvent.objects.all()],
    ]
    said += [str(vars(record)) for record in caplog.records]
    assert not [text for text in said if "mark" in text.lower()]


def test_refused_object_that_could_not_be_recorded_is_found_by_the_next_recovery(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise DatabaseError

    monkeypatch.setattr(receive_module, "quarantine_take", fail)
    assert refused(house, GOOD[:-3]).code == "dataset-truncated"
    assert (len(house.files("quarantine")), len(house.files("incoming"))) == (0, 1)
    house.dies()
    assert spool_recover(house.store).quarantined == 1
    assert (QuarantinedObject.objects.get().code, house.files("incoming")) == ("dataset-truncated", set())


def test_title_that_no_file_may_hold_costs_nobody_an_object(house: House) -> None:
    for number, title in enumerate(["A\\B", "Ä", "x" * 17, ""]):
        spooled = house.receiver.receive(
            arrival(f"1.2.3.{number}", source_ae_title=title), [content(f"1.2.3.{number}")]
        )
        with spooled.path.open("rb") as stream:
            assert file_meta_read(stream).source_ae_title == ""


def test_full_disk_refuses_before_anything_is_written(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__STOP_SPACE_GB", str(house.store.free_bytes() / (1 << 30) + 1000))
    error = refused(house)
    assert (error.code, error.busy) == ("disk-full", True)
    assert not house.files("incoming")
    monkeypatch.setenv("GATEWAY_STORAGE__STOP_SPACE_GB", "0")
    house.receive()


def test_index_that_is_behind_refuses(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__INDEX_BACKLOG", "3")
    monkeypatch.setenv("GATEWAY_STORAGE__BACKPRESSURE_SECONDS", "0")
    house.backlog_now = 3
    assert refused(house).code == "index-behind"
    house.backlog_now = 2
    house.receive()


def test_store_that_cannot_be_asked_is_busy_and_not_broken(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: Any) -> int:
        raise SpoolError("spool-io")

    monkeypatch.setattr(type(house.store), "free_bytes", fail)
    assert refused(house).busy


def test_sender_that_breaks_off_leaves_nothing(house: House) -> None:
    def chunks() -> Any:
        yield GOOD[:40]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        house.receiver.receive(arrival(), chunks())
    assert (house.files("incoming"), house.waiting) == (set(), [])


def test_same_object_may_come_from_many_associations_at_once(house: House) -> None:
    from tests.core.job_rows import together

    together(*[lambda n=n: house.receive(f"1.2.3.{n % 3}") for n in range(12)])  # type: ignore[misc]
    assert len({item.spooled.path for item in house.waiting}) == 12
    house.index()
    assert Instance.objects.count() == 3
    house.check()
    assert house.files("incoming") == set()


def test_root_of_the_store_holds_no_name_of_the_peer(house: House) -> None:
    house.receive(patient_name="Doe^Jane")
    house.index()
    names = "".join(str(path.relative_to(house.store.root)) for path in Path(house.store.root).rglob("*"))
    assert "1.2." not in names
    assert "Doe" not in names
