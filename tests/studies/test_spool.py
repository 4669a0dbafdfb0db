"""The spool as its callers see it: what is durable, refused, left behind. Crashes are in test_spool_crash.py."""

import errno
import fcntl
import hashlib
import os
import resource
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from studies.dicom.errors import DicomError
from studies.dicom.mark import mark_read
from studies.dicom.spool import Intake, SpooledObject, SpoolError, Store, file_hash
from tests.studies.house import holds_something

META = b"\0" * 128 + b"DICM" + b"meta"
STUDY, SERIES = "aa" * 8, "bb" * 8


def receive(intake: Intake, data: bytes = b"dataset") -> SpooledObject:
    part = intake.begin()
    part.write_meta(META)
    part.write(data)
    return part.commit()


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if holds_something(p))


def slots(intake: Intake) -> list[Path]:
    """Those that nobody has used yet."""
    return [slot for slot in Path(intake._directory.path).rglob("*.slot") if slot.stat().st_size == 0]


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def code_of(caught: pytest.ExceptionInfo[SpoolError]) -> str:
    assert isinstance(caught.value, DicomError)
    return caught.value.code


# Receiving


def test_object_is_whole_and_hashed_as_on_the_wire(store: Store, intake: Intake) -> None:
    part = intake.begin()
    part.write_meta(META)
    part.write(b"one")
    part.write(memoryview(b"two"))
    assert part.size_bytes == 6
    kept = part.commit()
    raw = kept.path.read_bytes()
    assert raw[128:] == META[128:] + b"onetwo"
    mark = mark_read(raw[:128], kept.instance_key)
    assert mark is not None
    assert mark.fits(sha256=kept.sha256, size_bytes=6, meta=META)
    assert kept.path.name == f"{kept.instance_key}.slot"
    assert (kept.sha256, kept.size_bytes, kept.meta_bytes) == (hashlib.sha256(b"onetwo").hexdigest(), 6, len(META))
    assert file_hash(kept.path, kept.meta_bytes) == (kept.sha256, kept.size_bytes)
    assert files(store.root) == [str(kept.path.relative_to(store.root))]


def test_every_flush_comes_before_success(store: Store, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    receive(intake)  # so that the batch is there
    steps: list[str] = []
    flush, rename, pwrite = os.fdatasync, os.rename, os.pwrite

    def recording_pwrite(fd: int, data: bytes, offset: int) -> int:
        steps.append(f"write at {offset}")
        return pwrite(fd, data, offset)

    def recording_flush(fd: int) -> None:
        steps.append("flush " + Path(f"/proc/self/fd/{fd}").readlink().suffix)
        flush(fd)

    def recording_rename(*args: str, **options: int) -> None:
        steps.append("rename")
        rename(*args, **options)

    monkeypatch.setattr(os, "pwrite", recording_pwrite)
    monkeypatch.setattr(os, "fdatasync", recording_flush)
    monkeypatch.setattr(os, "rename", recording_rename)
    receive(intake)
    assert steps == ["write at 0", "flush .slot"]
    steps.clear()
    receive(intake, bytes(600_000))  # the mark, which says that all of it is there, is the last to be written
    assert steps == ["write at 0", "write at 262144", "write at 524288", "write at 0", "flush .slot"]


def test_slots_and_their_batch_are_durable_before_use(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def recording(fd: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", recording)
    part = intake.begin()
    assert flushed == [intake.owner, "00000001"]
    part.abort()


def test_failed_flush_refuses_the_object_and_is_never_repeated(
    store: Store, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = receive(intake)
    part = intake.begin()
    part.write_meta(META)
    part.write(b"lost")
    sibling = intake.begin()  # of the same batch, still on its way
    calls: list[int] = []

    def broken(fd: int) -> None:
        calls.append(fd)
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(SpoolError) as caught:
        part.commit()
    assert (code_of(caught), caught.value.permanent) == ("spool-io", False)
    assert len(calls) == 1
    monkeypatch.undo()
    with pytest.raises(SpoolError):
        part.commit()
    sibling.commit()
    assert kept.path.exists()
    assert not [name for name in files(store.root) if part.instance_key in name]


@pytest.mark.parametrize("size", [0, 1, 262_007, 262_008, 262_009, 300_000, 524_288, 1_000_001])
def test_every_size_is_written_as_it_came(store: Store, intake: Intake, size: int) -> None:
    """Around one buffer (256 KiB, file meta included) and several; the pieces are of a peer's choosing."""
    data = bytes(os.urandom(997) * (size // 997 + 1))[:size]
    part = intake.begin()
    part.write_meta(META)
    for at in range(0, size, 130_001):
        part.write(memoryview(data)[at : at + 130_001])
    kept = part.commit()
    assert (kept.size_bytes, kept.sha256) == (size, hashlib.sha256(data).hexdigest())
    name = store.object_name(STUDY, SERIES, kept.instance_key)
    store.place(kept.path, name)
    intake.release(kept.path)
    assert (store.root / name).read_bytes() == META + data


def test_file_system_without_direct_writes_serves_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.fcntl

    def refusing(fd: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETFL and argument & os.O_DIRECT:
            raise OSError(errno.EINVAL, "injected")
        return real(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", refusing)
    intake = Intake(store, owner="recv")
    kept = receive(intake, bytes(700_000))
    assert kept.path.read_bytes()[128:] == META[128:] + bytes(700_000)
    intake.release(kept.path)
    intake.close()
    assert list(store.incoming.iterdir()) == []


def test_abort_leaves_nothing_and_may_follow_anything(store: Store, intake: Intake) -> None:
    part = intake.begin()
    part.write(b"half")
    part.abort()
    part.abort()
    assert files(store.root) == []
    with pytest.raises(SpoolError) as caught:
        part.write(b"more")
    assert code_of(caught) == "spool-misused"
    with intake.begin() as unfinished:
        unfinished.write(b"forgotten")
    assert files(store.root) == []
    with intake.begin() as finished:
        kept = finished.commit()
    finished.abort()
    assert kept.path.exists()


def test_file_meta_after_the_dataset_is_refused(intake: Intake) -> None:
    with intake.begin() as part:
        part.write_meta(META)
        part.write(b"dataset")
        with pytest.raises(SpoolError) as caught:
            part.write_meta(META)
    assert code_of(caught) == "spool-misused"


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = Store(tmp_path / "open" / "store")
        store.prepare()
        intake = Intake(store, owner="recv")
        kept = receive(intake)
        store.place(kept.path, store.object_name(STUDY, SERIES, kept.instance_key))
        store.quarantine(b"bad", sha256=hashlib.sha256(b"bad").hexdigest())
    finally:
        os.umask(before)
    for path in [store.root, *store.root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    intake.release(kept.path)
    intake.close()


def test_batches_roll_and_vanish_when_finished_and_empty(store: Store, intake: Intake) -> None:
    kept = [receive(intake) for _ in range(9)]  # batches of four
    numbers = [one.path.parent.name for one in kept]
    assert numbers == ["00000001"] * 4 + ["00000002"] * 4 + ["00000003"]
    late = kept.pop(0)
    for one in kept:
        intake.release(one.path)
    home = store.incoming / intake.owner
    assert sorted(p.name for p in home.iterdir()) == ["00000001", "00000003", "lock"]
    intake.release(late.path)
    intake.release(late.path)
    assert sorted(p.name for p in home.iterdir()) == ["00000003", "lock"]
    intake.close()
    intake.close()
    assert not home.exists()
    with pytest.raises(SpoolError) as caught:
        intake.begin()
    assert code_of(caught) == "spool-closed"


def test_part_in_flight_keeps_its_finished_batch(store: Store, intake: Intake) -> None:
    slow = intake.begin()
    for _ in range(4):
        intake.release(receive(intake).path)
    slow.write(b"at last")
    kept = slow.commit()
    assert kept.path.parent.name == "00000001"
    intake.release(kept.path)
    assert not kept.path.parent.exists()


def test_finished_batches_hold_no_descriptor(store: Store) -> None:
    before = open_descriptors()
    intake = Intake(store, owner="recv", batch_objects=2)
    slow = [intake.begin() for _ in range(6)]
    for part in slow[:5]:
        part.commit()
    slow[5].abort()
    assert open_descriptors() == before + 2  # the lock and the current batch
    intake.close()
    assert open_descriptors() == before


def test_release_takes_no_path_but_its_own(store: Store, intake: Intake, tmp_path: Path) -> None:
    other = Intake(store, owner="recv")
    theirs = receive(other)
    stranger = tmp_path / "precious.dcm"
    stranger.write_bytes(b"x")
    for path in (
        theirs.path,
        stranger,
        store.incoming / intake.owner / ".." / other.owner / "00000001" / theirs.path.name,
    ):
        with pytest.raises(SpoolError) as caught:
            intake.release(path)
        assert code_of(caught) == "name-invalid"
    assert theirs.path.exists()
    assert stranger.exists()
    other.release(theirs.path)
    other.close()


def test_eight_threads_receive_at_once(store: Store) -> None:
    intake = Intake(store, owner="recv", batch_objects=16)
    start = threading.Barrier(8)

    def associate(number: int) -> list[tuple[SpooledObject, bytes]]:
        start.wait()
        sent = [f"{number}/{index}".encode() * 50 for index in range(25)]
        kept = [(receive(intake, data), data) for data in sent]
        for one, _ in kept[::2]:
            store.place(one.path, store.object_name(STUDY, SERIES, one.instance_key))
            intake.release(one.path)
        return kept

    with ThreadPoolExecutor(8) as pool:
        everything = [one for kept in pool.map(associate, range(8)) for one in kept]
    assert len({one.instance_key for one, _ in everything}) == 200
    for one, data in everything:
        name = store.object_name(STUDY, SERIES, one.instance_key)
        path = one.path if one.path.exists() else store.root / name
        assert path.read_bytes()[128:] == META[128:] + data
    for one, _ in everything:
        intake.release(one.path)
    intake.close()
    assert list(store.incoming.iterdir()) == []
    assert len(files(store.root / "objects")) == 104


def first_batch(intake: Intake) -> Path:
    return Path(intake._directory.path) / "00000001"


# Resources


def test_file_size_limit_refuses_the_object_for_good(store: Store, intake: Intake) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    part = intake.begin()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        part.write(b"x" * 8192)
        with pytest.raises(SpoolError) as caught:
            part.commit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code_of(caught), caught.value.permanent) == ("file-too-large", True)
    assert files(store.root) == []
    receive(intake)


def test_descriptor_limit_refuses_and_recovers(intake: Intake) -> None:
    receive(intake)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        with pytest.raises(SpoolError) as caught:
            intake.begin()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (code_of(caught), caught.value.permanent) == ("spool-io", False)
    receive(intake)


def test_errors_name_no_path(store: Store, intake: Intake) -> None:
    with pytest.raises(SpoolError) as caught:
        store.open(store.object_name(STUDY, SERIES, "cc" * 8))
    assert code_of(caught) == "object-missing"
    assert str(store.root) not in str(caught.value)
    assert "ENOENT" in str(caught.value)


def test_free_bytes_is_what_the_system_says(store: Store) -> None:
    usage = os.statvfs(store.root)
    assert 0 < store.free_bytes() <= usage.f_blocks * usage.f_frsize
