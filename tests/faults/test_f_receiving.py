"""Faults of objects, by number, tried on receiving as a whole: durable, indexed, settled - and others are served."""

import datetime as dt
import hashlib
import resource
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from gateway_project.core.models import Alert
from studies import selectors
from studies.dicom import tags
from studies.dicom.part10 import file_meta, preamble_kind
from studies.dicom.spool import SpooledObject
from studies.models import Instance, QuarantinedObject, Study, StudyRevision
from studies.services.accept import quarantine_accept
from studies.services.quarantine import quarantine_take
from studies.services.receive import ReceiveError
from studies.services.settle import studies_settle_due
from tests.studies.datasets import CT, DEFLATED, EXPLICIT, IMPLICIT, UNDEFINED, dataset, element, implicit, item, uid
from tests.studies.house import House, arrival, content

pytestmark = pytest.mark.django_db
MIB = 1 << 20
HOUR = dt.timedelta(hours=1)


@pytest.fixture(autouse=True)
def _another_peer_is_served(house: House) -> Iterator[None]:
    """Whatever was sent: another device's object that was under way all the time is stored, and so is its next one."""
    objects = {number: content(f"9.9.{number}", "9.9", "9.9.9", pixels=bytes(300_000)) for number in (1, 2)}
    under_way = house.receiver.begin(arrival("9.9.1", source_ae_title="OTHER"))
    under_way.write(objects[1][:280_000])
    yield
    under_way.write(objects[1][280_000:])
    assert under_way.commit() is not None
    house.receiver.receive(arrival("9.9.2", source_ae_title="OTHER"), [objects[2]])
    house.index()
    assert Instance.objects.filter(study__study_instance_uid="9.9").count() == 2
    house.check()


def refused(house: House, chunks: Iterator[bytes] | list[bytes], **fields: str) -> str:
    with pytest.raises(ReceiveError) as caught:
        house.receiver.receive(arrival(**fields), chunks)
    assert not caught.value.busy
    assert house.waiting == []
    return caught.value.code


def alerts() -> set[str]:
    return set(Alert.objects.filter(healed_at=None).values_list("code", flat=True))


@contextmanager
def flat_memory(limit_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit_bytes
    finally:
        tracemalloc.stop()


# The same UID again


def test_f09_two_patients_under_one_study_uid(house: House) -> None:
    house.receive("1.2.3.1", patient_id="4711")
    house.receive("1.2.3.2", patient_id="4712")
    house.index()
    study = Study.objects.get()
    assert (study.conflict, study.patient_id, study.instance_count) == (True, "4711", 2)
    assert alerts() == {"patient-conflict"}


def test_f10_same_object_again(house: House) -> None:
    for _ in range(3):
        house.receive()
    house.index()
    house.receive()
    assert (house.index().repeated, Instance.objects.count(), alerts()) == (1, 1, set())


def test_f11_same_uid_with_other_bytes(house: House) -> None:
    first = house.receive(pixels=b"first ")
    house.index()
    house.receive(pixels=b"second")
    house.index()
    rows = list(Instance.objects.order_by("version"))
    assert [row.current for row in rows] == [False, True]
    assert rows[0].sha256 == first.spooled.sha256
    assert alerts() == {"instance-changed"}


def test_f12_same_uid_re_encoded_only(house: House) -> None:
    explicit = dataset(element(0x00100020, "LO", b"4711"), instance=uid("1.2.3.1"))
    parts = {0x00080016: uid(CT), 0x00080018: uid("1.2.3.1"), 0x00100020: b"4711", 0x0020000D: uid("1.2.5")}
    re_encoded = b"".join(implicit(tag, value) for tag, value in (parts | {0x0020000E: uid("1.2.6")}).items())
    house.receiver.receive(arrival(), [explicit])
    house.index()
    studies_settle_due(now=dt.datetime.now(dt.UTC) + 24 * HOUR)
    house.receiver.receive(arrival(transfer_syntax_uid=IMPLICIT), [re_encoded])
    assert (house.index().repeated, Instance.objects.count(), alerts()) == (1, 1, set())
    assert Study.objects.get().open_since is None


# Size and shape


def test_f14_a_million_empty_items(house: House) -> None:
    def chunks() -> Iterator[bytes]:
        yield dataset() + element(0x00400555, "SQ", length=UNDEFINED)
        for _ in range(1000):
            yield item() * 1000

    with flat_memory(4 * MIB):
        assert refused(house, chunks()) == "dataset-too-many-items"
    assert QuarantinedObject.objects.get().kept


def huge(size: int, *, tag: int, vr: str) -> Callable[[], Iterator[memoryview | bytes]]:
    """A data set of one CT instance with one element of that many zeros, never in memory as a whole."""

    def chunks() -> Iterator[memoryview | bytes]:
        block = memoryview(bytes(MIB))
        head = dataset(element(0x00100020, "LO", b"4711"), instance=uid("1.2.3.1"))
        yield head + element(tag, vr, length=size)
        for at in range(0, size, MIB):
            yield block[: min(MIB, size - at)]

    return chunks


def stored(house: House, chunks: Iterator[memoryview | bytes]) -> SpooledObject:
    spooled = house.receiver.receive(arrival(), chunks)
    assert spooled is not None
    return spooled


@pytest.mark.parametrize("megabytes", [64, pytest.param(500, marks=pytest.mark.soak)])
def test_f15_large_private_sequence_is_streamed(house: House, megabytes: int) -> None:
    with flat_memory(4 * MIB):
        spooled = stored(house, huge(megabytes * MIB, tag=0x60011010, vr="SQ")())
    assert spooled.size_bytes > megabytes * MIB
    assert house.index().created == 1


def test_f16_deflate_bomb_is_refused_and_what_came_is_kept_as_it_is(house: House) -> None:
    packer = zlib.compressobj(9, wbits=-15)
    bomb = packer.compress(dataset(element(tags.PIXEL_DATA, "OW", length=300 * MIB)))
    bomb += b"".join(packer.compress(bytes(MIB)) for _ in range(300)) + packer.flush()
    with flat_memory(4 * MIB):
        assert refused(house, [bomb], transfer_syntax_uid=DEFLATED) == "deflate-too-large"
    (kept,) = house.files("quarantine")
    assert (house.store.root / kept).read_bytes().endswith(bomb)


def test_f16_honest_deflated_object_is_stored_untouched(house: House) -> None:
    packed = zlib.compress(content(pixels=bytes(100_000)), wbits=-15)
    house.receiver.receive(arrival(transfer_syntax_uid=DEFLATED), [packed])
    house.index()
    assert house.data_set_of(Instance.objects.get()) == packed


@pytest.mark.parametrize("program", [b"MZ", b"\x7fELF", b"PK\x03\x04", b"<html>"])
def test_f30_program_in_the_preamble_never_gets_into_the_store(house: House, program: bytes) -> None:
    """A peer sends no preamble; a file that came another way may have one, and is accepted by a person."""
    house.receive("1.2.3.2")
    meta = file_meta(
        sop_class_uid=CT,
        sop_instance_uid="1.2.3.1",
        transfer_syntax_uid=EXPLICIT,
        source_ae_title="CT_1",
        receiving_ae_title="GATEWAY",
    )
    hostile = house.store.root.parent / "hostile.dcm"
    data = content(pixels=b"pixels")[:-1]
    hostile.write_bytes(program.ljust(128, b"\0") + meta[128:] + data)
    row = quarantine_take(
        house.store,
        hostile,
        arrival(),
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        code="dataset-truncated",
        reason="x",
    )
    quarantine_accept(row, actor="user:anna", store=house.store)
    house.index()
    assert Instance.objects.count() == 2
    for instance in Instance.objects.all():
        with house.store.open(instance.path) as stream:
            assert preamble_kind(stream.read(128)) == "zero"
    assert house.files("quarantine") == set()


def test_f34_zero_bytes(house: House) -> None:
    assert refused(house, []) == "dataset-empty"
    row = QuarantinedObject.objects.get()
    assert (row.size_bytes, row.kept) == (0, True)


@pytest.mark.parametrize("size", [32 * MIB + 1, pytest.param((2 << 30) + 1, marks=pytest.mark.soak)])
@pytest.mark.timeout(600)
def test_f34_object_of_any_size_in_flat_memory(house: House, size: int) -> None:
    """2 GB + 1 (in `make soak`): beyond what 32 signed bits count, and of an odd length."""
    house.receive("1.2.3.2")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with flat_memory(4 * MIB):
        spooled = stored(house, huge(size, tag=tags.PIXEL_DATA, vr="OB")())
    assert spooled.size_bytes > size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    house.index()
    row = Instance.objects.get(sop_instance_uid="1.2.3.1")
    assert (row.size_bytes, "odd-length" in row.flags) == (spooled.size_bytes, True)


# Number


def index_cost(house: House, count: int, *, prefix: str, study: Callable[[int], str]) -> int:
    for number in range(count):
        house.receive(f"{prefix}.{number}", study=study(number))
    with CaptureQueriesContext(connection) as queries:
        house.index()
    return len(queries)


def test_f38_series_that_grows_and_studies_of_one_instance(house: House) -> None:
    """Indexing a batch costs as many statements whatever the series holds already, and so many for each study."""
    first = index_cost(house, 20, prefix="1.2.3.1", study=lambda _n: "1.2.5")
    for round_ in range(2, 9):
        last = index_cost(house, 20, prefix=f"1.2.3.{round_}", study=lambda _n: "1.2.5")
    assert last <= first
    one = index_cost(house, 5, prefix="1.3.1", study=lambda n: f"1.3.5.{n}")
    assert index_cost(house, 50, prefix="1.4.1", study=lambda n: f"1.4.5.{n}") <= 10 * one
    assert (Study.objects.count(), Instance.objects.count()) == (56, 215)
    rows = selectors.studies_page(size=50)
    assert (len(rows.rows), rows.older) == (50, True)


def test_f39_study_that_arrives_for_hours_and_instance_after_its_upload(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_SETTLING__MAX_OPEN_SECONDS", "7200")
    start = dt.datetime.now(dt.UTC)
    for hour in range(3):
        house.receive(f"1.2.3.{hour}")
        house.index()
        Study.objects.update(open_since=start - hour * HOUR, received_at=start)
    (first,) = studies_settle_due(now=start + dt.timedelta(seconds=1))
    assert (first.number, first.instance_count, first.reason) == (1, 3, "open-too-long")
    house.receive("1.2.3.99")
    house.index()
    (second,) = studies_settle_due(now=start + 24 * HOUR)
    assert (second.number, second.instance_count) == (2, 1)
    assert selectors.study_instances_through(second).count() == 4
    assert StudyRevision.objects.count() == 2
