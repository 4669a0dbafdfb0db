"""Recovery: what was acknowledged is found again, whatever was killed where, and however often it is repeated."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from gateway_project.core.models import Alert
from studies.dicom.recovery import Abandoned
from studies.dicom.spool import SpoolError
from studies.models import Instance, QuarantinedObject, Study
from studies.services import index as index_module
from studies.services import receive as receive_module
from studies.services import recover as recover_module
from studies.services.index import index_objects
from studies.services.receive import ReceiveError
from studies.services.recover import Recovered, object_read, spool_recover
from studies.services.settle import study_settle
from tests.core.job_rows import together
from tests.studies.datasets import CT
from tests.studies.house import House, Killed, arrival, content

pytestmark = pytest.mark.django_db


def recovered(house: House, **counts: int) -> None:
    """One recovery with exactly these counts, and a second one that finds nothing to do."""
    assert spool_recover(house.store) == Recovered(owners=1, **counts)
    assert spool_recover(house.store) == Recovered()
    assert house.files("incoming") == set()
    house.check()


def test_nothing_left_is_nothing_done(house: House) -> None:
    assert spool_recover(house.store) == Recovered()


def test_what_a_living_receiver_holds_is_not_touched(house: House) -> None:
    house.receive()
    part = house.intake.begin()
    before = house.files("incoming")
    assert spool_recover(house.store) == Recovered()
    assert house.files("incoming") == before
    part.abort()


def test_durable_object_without_a_row_is_adopted_as_it_came(house: House) -> None:
    item = house.receive()
    house.dies()
    recovered(house, adopted=1)
    row = Instance.objects.get()
    assert (row.sha256, row.size_bytes, row.key) == (
        item.spooled.sha256,
        item.spooled.size_bytes,
        item.spooled.instance_key,
    )
    assert (row.source_ae_title, row.receiving_ae_title, row.sop_class_uid) == ("CT_1", "GATEWAY", CT)
    assert Study.objects.get().patient_name == "Doe^Jane"


def test_file_alone_tells_all_that_the_receiver_knew(house: House) -> None:
    item = house.receive()
    read = object_read(item.spooled.path)
    assert (read.spooled, read.header) == (item.spooled, item.header)


def test_parts_were_never_acknowledged_and_go(house: House) -> None:
    parts = [house.intake.begin() for _ in range(3)]
    parts[0].write(bytes(300_000))  # some of it is on the disk already
    house.receive()
    house.dies()
    recovered(house, parts=1, adopted=1)
    assert not list(house.store.incoming.iterdir())


def test_release_that_was_cut_short_after_the_mark_had_gone_costs_nothing(house: House) -> None:
    item = house.receive()
    index_objects(house.store, [item])
    with item.spooled.path.open("r+b") as slot:
        slot.write(bytes(128))
    house.dies()
    recovered(house, parts=1)
    assert Instance.objects.get().sha256 == item.spooled.sha256
    house.check()


@pytest.mark.parametrize("place", ["meta", "pixels"])
def test_object_that_is_not_what_its_mark_says_is_never_adopted(house: House, place: str) -> None:
    """A block that never reached the disk although the mark did: the data set still ends where it should."""
    item = house.receive(pixels=b"\xab" * 5000)
    raw = bytearray(item.spooled.path.read_bytes())
    at = raw.index(b"CT_1") if place == "meta" else len(raw) - 100
    raw[at] ^= 1
    item.spooled.path.write_bytes(raw)
    house.dies()
    recovered(house, quarantined=1)
    assert QuarantinedObject.objects.get().code == "object-damaged"
    assert not Instance.objects.exists()


def test_stored_file_begins_with_nothing(house: House) -> None:
    for number in range(3):
        house.receive(f"1.2.3.{number}", pixels=bytes(300_000 * number))
    house.index()
    for row in Instance.objects.all():
        with house.store.open(row.path) as stream:
            assert stream.read(132) == bytes(128) + b"DICM"


def test_object_that_is_indexed_already_is_only_released(house: House) -> None:
    items = [house.receive("1.2.3.1"), house.receive("1.2.3.2")]
    index_objects(house.store, items)
    study_settle(Study.objects.get().pk, now=dt.datetime.now(dt.UTC), reason="quiet")
    house.dies()
    recovered(house, adopted=2)
    assert Instance.objects.filter(revision__number=1).count() == 2
    assert Study.objects.get().open_since is None


def test_object_that_cannot_be_read_is_quarantined_under_the_hash_of_what_was_sent(house: House) -> None:
    item = house.receive()
    raw = item.spooled.path.read_bytes()
    item.spooled.path.write_bytes(raw[:-3])
    house.dies()
    recovered(house, quarantined=1)
    row = QuarantinedObject.objects.get()
    assert (row.code, row.source_ae_title, row.size_bytes) == ("dataset-truncated", "CT_1", len(content()) - 3)
    assert house.files("quarantine") == {f"quarantine/{row.sha256}.bin"}
    assert (house.store.root / "quarantine" / f"{row.sha256}.bin").read_bytes() == bytes(128) + raw[128:-3]


def test_object_for_which_the_quarantine_has_no_room_stays_where_it_is(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = house.receive()
    item.spooled.path.write_bytes(item.spooled.path.read_bytes()[:-3])
    house.dies()
    monkeypatch.setenv("GATEWAY_STORAGE__QUARANTINE_GB", "0")
    assert spool_recover(house.store).left == 1
    assert item.spooled.path.exists()
    monkeypatch.undo()
    recovered(house, quarantined=1)


@pytest.mark.parametrize("junk", [b"", b"junk", bytes(128) + b"DICM", bytes(200)])
def test_file_without_meta_is_quarantined_and_never_thrown_away(house: House, junk: bytes) -> None:
    path = house.receive().spooled.path
    path.rename(path.with_suffix(".dcm")).write_bytes(junk)  # as what is refused before it has any meta is kept
    house.dies()
    recovered(house, quarantined=1)
    assert QuarantinedObject.objects.get().size_bytes == len(junk)


@pytest.mark.parametrize("junk", [b"junk", b"GWSPOOL1", b"GWSPOOL1" * 16, b"\0" * 127 + b"\1"])
def test_slot_whose_mark_the_disk_has_harmed_is_judged_by_its_content(house: House, junk: bytes) -> None:
    item = house.receive()
    raw = item.spooled.path.read_bytes()
    item.spooled.path.write_bytes(junk + raw[len(junk) :])
    house.dies()
    recovered(house, adopted=1)  # its data set can still be read, and is all there
    assert Instance.objects.get().sha256 == item.spooled.sha256


def test_object_refused_before_the_crash_is_refused_again_and_not_adopted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was durable for the quarantine's sake; its file says what the command said, so the mismatch is found again."""

    def kill(_self: Any, _source: Any, *, sha256: str) -> bool:
        raise Killed(sha256)

    monkeypatch.setattr(type(house.store), "quarantine", kill)
    with pytest.raises(Killed):
        house.receiver.receive(arrival("9.9.9"), [content("1.2.3.1")])
    monkeypatch.undo()
    house.dies()
    recovered(house, quarantined=1)
    assert QuarantinedObject.objects.get().code == "instance-uid-differs"
    assert not Instance.objects.exists()


def test_one_sick_file_does_not_keep_the_others_and_stays_where_it_is(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk's fault says nothing about the object: it is neither quarantined nor adopted, and it is told of."""
    items = [house.receive(f"1.2.3.{n}") for n in range(4)]
    real = recover_module.file_hash

    def sick(path: Path, offset: int = 0) -> tuple[str, int]:
        if path == items[1].spooled.path:
            raise SpoolError("spool-io")
        return real(path, offset)

    monkeypatch.setattr(recover_module, "file_hash", sick)
    house.dies()
    assert spool_recover(house.store) == Recovered(owners=1, adopted=3, left=1)
    assert items[1].spooled.path.exists()
    assert Alert.objects.get(healed_at=None).code == "recovery-left"
    monkeypatch.undo()
    recovered(house, adopted=1)
    assert not Alert.objects.filter(healed_at=None).exists()


def test_object_that_no_row_can_be_made_for_stays_and_the_receiver_starts(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [house.receive(f"1.2.3.{n}") for n in range(3)]

    def fail(study: Any, series: Any, entry: Any, *, minimal: bool) -> Instance:
        if entry.identity.sop_instance_uid == "1.2.3.1":
            raise ValueError
        return real(study, series, entry, minimal=minimal)

    real = index_module._instance_new
    monkeypatch.setattr(index_module, "_instance_new", fail)
    house.dies()
    assert spool_recover(house.store) == Recovered(owners=1, adopted=2, left=1)
    assert items[1].spooled.path.exists()
    monkeypatch.undo()
    recovered(house, adopted=1)


def test_database_that_is_down_leaves_all_and_frees_the_lock(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.receive()

    def down(*_args: object, **_more: object) -> None:
        raise OperationalError

    monkeypatch.setattr(recover_module, "index_objects", down)
    house.dies()
    with pytest.raises(OperationalError):
        spool_recover(house.store)
    monkeypatch.undo()
    recovered(house, adopted=1)


def test_several_dead_owners_with_the_same_object(house: House) -> None:
    for _ in range(3):
        house.receive()
        house.dies()
        house.lives_again()
    assert spool_recover(house.store) == Recovered(owners=3, adopted=3)
    assert Instance.objects.count() == 1
    assert house.files("incoming") == set()
    house.check()


def test_more_than_one_batch(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover_module, "BATCH_OBJECTS", 3)
    for number in range(8):
        house.receive(f"1.2.3.{number}")
    house.dies()
    recovered(house, adopted=8)
    assert Instance.objects.count() == 8


@pytest.mark.parametrize(
    ("module", "place"),
    [(receive_module, "receive.durable"), (index_module, "index.placed"), (index_module, "index.committed")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_killed_receiver_s_objects_are_all_found(
    house: House, monkeypatch: pytest.MonkeyPatch, module: Any, place: str
) -> None:
    house.receive("1.2.3.0")
    house.index()
    house.receive("1.2.3.0")  # a repeat, whose second file nobody needs

    def kill(name: str) -> None:
        if name == place:
            raise Killed

    monkeypatch.setattr(module, "failpoint", kill)
    with pytest.raises(Killed):
        house.receive_and_index("1.2.3.1")
    monkeypatch.undo()
    house.dies()
    assert spool_recover(house.store).left == 0
    assert set(Instance.objects.values_list("sop_instance_uid", flat=True)) == {"1.2.3.0", "1.2.3.1"}
    assert house.files("incoming") == set()
    house.check()


@pytest.mark.parametrize("place", ["index.placed", "index.committed", "released one", "quarantined"])
def test_recovery_may_itself_be_killed_anywhere(house: House, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    items = [house.receive(f"1.2.3.{n}") for n in range(4)]
    index_objects(house.store, items[:1])
    items[1].spooled.path.write_bytes(b"junk")
    part = house.intake.begin()
    part.write(b"x")

    def kill(name: str) -> None:
        if name == place:
            raise Killed

    real_release, real_record = Abandoned.release, recover_module.quarantine_take

    def release(dead: Abandoned, path: Path) -> None:
        real_release(dead, path)
        kill("released one")

    def record(*args: Any, **more: Any) -> Any:
        kill("quarantined")
        return real_record(*args, **more)

    monkeypatch.setattr(index_module, "failpoint", kill)
    monkeypatch.setattr(Abandoned, "release", release)
    monkeypatch.setattr(recover_module, "quarantine_take", record)
    house.dies()
    with pytest.raises(Killed):
        spool_recover(house.store)
    monkeypatch.undo()
    assert spool_recover(house.store).left == 0
    assert (Instance.objects.count(), QuarantinedObject.objects.count()) == (3, 1)
    assert (house.files("incoming"), len(house.files("quarantine"))) == (set(), 1)
    house.check()


@pytest.mark.django_db(transaction=True)
def test_receivers_that_start_at_once_recover_each_object_once(house: House) -> None:
    for _ in range(3):
        for number in range(4):
            house.receive(f"1.2.3.{number}")
        house.dies()
        house.lives_again()
    found: list[int] = []
    together(*[lambda: found.append(spool_recover(house.store).adopted)] * 3)
    assert sum(found) == 12
    assert Instance.objects.count() == 4
    assert house.files("incoming") == set()
    house.check()


def test_refusal_after_recovery_counts_on_the_same_row(house: House) -> None:
    with pytest.raises(ReceiveError):
        house.receiver.receive(arrival(), [content()[:-3]])
    item = house.receive()
    item.spooled.path.write_bytes(item.spooled.path.read_bytes()[:-3])
    house.dies()
    recovered(house, quarantined=1)
    assert QuarantinedObject.objects.get().count == 2
