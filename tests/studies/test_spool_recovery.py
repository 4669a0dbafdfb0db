"""What a dead owner's directory gives back, and what a living one keeps. With real kills: test_spool_crash.py."""

import fcntl
import hashlib
import os
from pathlib import Path

import pytest

from studies.dicom.spool import Intake, SpooledObject, SpoolError, Store, abandoned, file_hash


def receive(intake: Intake) -> SpooledObject:
    part = intake.begin()
    part.write(b"dataset")
    return part.commit()


def test_living_owner_is_never_recovered(store: Store, intake: Intake) -> None:
    kept = receive(intake)
    assert list(abandoned(store)) == []
    intake.close()
    found = list(abandoned(store))
    assert [list(one.objects()) for one in found] == [[kept.path]]
    assert list(abandoned(store)) == []  # ours now
    with pytest.raises(SpoolError):
        found[0].release(store.incoming / ("other-" + "0" * 16) / "00000001" / kept.path.name)
    found[0].release(kept.path)
    found[0].finish()
    found[0].finish()
    assert found[0].remaining == 0
    assert list(store.incoming.iterdir()) == []


def test_recovery_reports_what_it_leaves(store: Store, intake: Intake, caplog: pytest.LogCaptureFixture) -> None:
    kept = receive(intake)
    stray = kept.path.with_name("Doe^John.txt")
    stray.write_bytes(b"?")
    intake.close()
    (dead,) = abandoned(store)
    assert list(dead.objects()) == [kept.path]
    dead.finish()
    assert dead.remaining == 2
    assert [r.message for r in caplog.records] == ["spool.recovery.remaining"]
    assert "Doe" not in repr([vars(r) for r in caplog.records])
    (again,) = abandoned(store)
    with again:
        again.release(kept.path)
    assert again.remaining == 1
    assert stray.exists()


def test_recovered_objects_come_oldest_first(store: Store, intake: Intake) -> None:
    kept = [receive(intake) for _ in range(6)]
    for age, one in enumerate(kept):
        os.utime(one.path, ns=(0, 10**9 * (5 - age if age < 4 else age)))
    intake.close()
    (dead,) = abandoned(store)
    assert list(dead.objects()) == [one.path for one in (*reversed(kept[:4]), *kept[4:])]
    dead.finish()


def test_directory_whose_lock_file_a_power_cut_lost_is_recovered(store: Store, intake: Intake) -> None:
    kept = receive(intake)
    intake.close()
    (kept.path.parent.parent / "lock").unlink()
    (dead,) = abandoned(store)
    assert list(dead.objects()) == [kept.path]
    dead.finish()


def test_directory_that_another_recovery_just_finished_is_not_taken(
    store: Store, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our opening the lock file and our locking it, its last holder may remove it."""
    receive(intake)
    intake.close()
    lock = store.incoming / intake.owner / "lock"
    flock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        lock.unlink()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    assert list(abandoned(store)) == []


def test_sick_and_unknown_entries_do_not_hide_the_others(
    store: Store, intake: Intake, caplog: pytest.LogCaptureFixture
) -> None:
    kept = receive(intake)
    intake.close()
    sick = store.incoming / ("aaa-" + "0" * 16)
    sick.mkdir()
    (sick / "lock").symlink_to("/etc/passwd")
    (store.incoming / "README").write_text("?")
    unborn = store.incoming / (".new-recv-" + "1" * 16)
    unborn.mkdir()
    found = list(abandoned(store))
    assert [list(one.objects()) for one in found] == [[kept.path]]
    assert [r.message for r in caplog.records] == ["spool.recovery.failed", "spool.incoming.unknown"]
    assert not unborn.exists()
    found[0].finish()


def test_slot_that_cannot_be_read_holds_up_no_other(
    store: Store, intake: Intake, caplog: pytest.LogCaptureFixture
) -> None:
    unfinished, kept = intake.begin(), receive(intake)
    unfinished.write(bytes(300_000))
    sick = [kept.path.with_name(f"{digit * 32}.slot") for digit in "0f"]
    sick[0].mkdir()
    sick[1].symlink_to("/etc/passwd")
    intake.close()
    (dead,) = abandoned(store)
    assert dead.discard_parts() == 1
    assert list(dead.objects()) == [kept.path]
    dead.release(kept.path)
    dead.finish()
    assert dead.remaining == 2
    assert [r.message for r in caplog.records] == [*["spool.slot.not_readable"] * 2, "spool.recovery.remaining"]


def test_file_hash_needs_the_whole_file_meta(tmp_path: Path) -> None:
    path = tmp_path / "object"
    data = os.urandom(3_000_000)
    path.write_bytes(data)
    assert file_hash(path, 1000) == (hashlib.sha256(data[1000:]).hexdigest(), 2_999_000)
    assert file_hash(path, 3_000_000)[1] == 0
    with pytest.raises(SpoolError) as caught:
        file_hash(path, 3_000_001)
    assert caught.value.code == "file-truncated"
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(SpoolError) as caught:
        file_hash(tmp_path / "link")
    assert caught.value.code == "store-symlink"
