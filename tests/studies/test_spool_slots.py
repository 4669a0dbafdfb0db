"""Slots, made before they are needed, and the marks that say of a file that it is whole."""

import errno
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from studies.dicom import spool as spool_module
from studies.dicom.mark import mark_read
from studies.dicom.spool import Intake, SpoolError, Store
from tests.studies.test_spool import META, code_of, first_batch, receive, slots


@pytest.fixture
def none_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots are made when they are needed, by whoever needs them."""
    monkeypatch.setattr(spool_module, "_MOST_SLOTS", 0)


def fsync_fails_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, calls = os.fsync, []

    def broken(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(errno.EIO, "injected")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", broken)


@pytest.mark.usefixtures("none_ahead")
def test_batch_whose_directory_could_not_be_flushed_takes_no_more_objects(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports an error once only: no later flush there can be believed."""
    intake._batch_objects = 100
    kept = [receive(intake) for _ in range(4)]  # the first slots are used up
    fsync_fails_once(monkeypatch)
    with pytest.raises(SpoolError) as caught:
        intake.begin()
    assert code_of(caught) == "spool-io"
    assert receive(intake).path.parent != kept[0].path.parent
    assert all(one.path.exists() for one in kept)
    assert {slot.parent.name for slot in slots(intake)} == {"00000002"}


def test_object_without_meta_is_named_durably_because_it_bears_no_mark(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(intake)
    part, sibling = intake.begin(), intake.begin()
    for one in (part, sibling):
        one.write(b"what a peer sent, for the quarantine")
    fsync_fails_once(monkeypatch)
    with pytest.raises(SpoolError):
        part.commit()
    with pytest.raises(SpoolError):
        sibling.commit()
    assert not list(first_batch(intake).glob(f"{part.instance_key}*"))


def test_mark_is_one_file_s_alone(store: Store, intake: Intake) -> None:
    kept, other = receive(intake), receive(intake)
    forged = kept.path.read_bytes()[:128] + META[128:] + b"dataset"
    other.path.write_bytes(forged)
    assert mark_read(forged, other.instance_key) is None
    for one in (kept, other):
        store.place(one.path, f"objects/{'aa' * 8}/{'bb' * 8}/{one.instance_key}.dcm")
        intake.release(one.path)
    placed = store.root / "objects" / ("aa" * 8) / ("bb" * 8)
    assert (placed / f"{kept.instance_key}.dcm").read_bytes()[:128] == bytes(128)
    assert (placed / f"{other.instance_key}.dcm").read_bytes() == forged
    flipped = bytearray(receive(intake).path.read_bytes())
    flipped[40] ^= 1
    assert mark_read(bytes(flipped), kept.instance_key) is None


def test_mark_that_cannot_be_taken_away_does_not_keep_the_slot(
    store: Store, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that copies on write may have no room for it; removing the name may be what makes room."""
    kept = receive(intake)
    name = f"objects/{'aa' * 8}/{'bb' * 8}/{kept.instance_key}.dcm"
    store.place(kept.path, name)

    def full(_fd: int, _data: bytes, _offset: int) -> int:
        raise OSError(errno.ENOSPC, "injected")

    monkeypatch.setattr(os, "pwrite", full)
    intake.release(kept.path)
    assert not kept.path.exists()
    assert (store.root / name).read_bytes()[128:] == META[128:] + b"dataset"


def test_unused_slots_are_few_and_vanish(intake: Intake) -> None:
    intake._batch_objects = 300
    intake.release(receive(intake).path)
    assert len(slots(intake)) == 3  # who sends one object costs no more
    made = []
    for _ in range(250):
        intake.release(receive(intake).path)
        made.append(len(slots(intake)))
    assert 4 < max(made) <= 32 + 64
    batch = first_batch(intake)
    intake.close()
    assert not batch.exists()


def test_many_threads_use_every_slot_once_and_no_more_than_a_batch_holds(store: Store) -> None:
    intake = Intake(store, owner="recv", batch_objects=20)
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda _: receive(intake), range(400)))
    assert len({one.instance_key for one in kept}) == 400
    by_batch = Counter(one.path.parent for one in kept)
    assert set(by_batch.values()) == {20}
    for one in kept:
        intake.release(one.path)
    intake.close()
    assert list(store.incoming.iterdir()) == []


@pytest.mark.usefixtures("none_ahead")
def test_slots_that_the_disk_grants_are_used(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    receive(intake)
    for _ in range(3):
        receive(intake)
    opened, real = [], os.open

    def scarce(path: str, flags: int, *args: object, **more: object) -> int:
        if flags & os.O_CREAT:
            opened.append(path)
            if len(opened) > 2:
                raise OSError(errno.ENOSPC, "injected")
        return real(path, flags, *args, **more)  # type: ignore[arg-type]

    intake._batch_objects = 100
    monkeypatch.setattr(os, "open", scarce)
    receive(intake)
    receive(intake)
    with pytest.raises(SpoolError) as caught:
        intake.begin()
    assert code_of(caught) == "disk-full"
