"""The store's directories and names: who may be there, what a name may be, what stands under it."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from studies.dicom.spool import Intake, SpooledObject, SpoolError, Store

STUDY, SERIES, INSTANCE = "aa" * 8, "bb" * 8, "cc" * 8
NAME = f"objects/{STUDY}/{SERIES}/{INSTANCE}.dcm"
SHA = hashlib.sha256(b"refused").hexdigest()
PROJECT = Path(__file__).parents[2]


def test_name_of_the_store_is_given_once_and_is_the_same_for_all_who_open_it(store: Store) -> None:
    name = store.name()
    assert len(name) == 32
    assert Store(store.root).name() == store.name() == name
    assert [path.name for path in store.root.iterdir() if path.is_file()] == ["store.name"]
    (store.root / "store.name").write_text("../x")
    with pytest.raises(SpoolError, match="damaged"):
        store.name()


def receive(store: Store, data: bytes = b"dataset") -> SpooledObject:
    part = Intake(store, owner="recv").begin()
    part.write(data)
    return part.commit()


# Start-up


def test_prepare_may_be_repeated_and_leaves_nothing_else(store: Store) -> None:
    store.prepare()
    assert sorted(p.name for p in store.root.rglob("*")) == ["incoming", "objects", "quarantine"]


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777])
@pytest.mark.parametrize("name", [".", "incoming", "objects", "quarantine"])
def test_store_that_others_can_reach_is_refused(store: Store, name: str, mode: int) -> None:
    (store.root / name).chmod(mode)
    with pytest.raises(SpoolError) as caught:
        store.prepare()
    assert caught.value.code == "store-exposed"


def test_foreign_owner_is_refused(store: Store) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a directory away")
    os.chown(store.root / "objects", 12345, -1)
    with pytest.raises(SpoolError) as caught:
        store.prepare()
    assert caught.value.code == "store-exposed"


@pytest.mark.parametrize("name", ["incoming", "objects", "quarantine"])
def test_symlink_in_place_of_a_directory_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    (store.root / name).rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (store.root / name).symlink_to(elsewhere)
    with pytest.raises(SpoolError) as caught:
        store.prepare()
    assert caught.value.code == "store-symlink"


def test_directory_on_another_file_system_is_refused(store: Store) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == store.root.stat().st_dev:
        pytest.skip("no second file system here")
    (store.root / "objects").rmdir()
    (store.root / "objects").symlink_to(other)
    with pytest.raises(SpoolError) as caught:
        store.prepare()
    assert caught.value.code == "store-not-one-filesystem"


def in_own_mounts(commands: str, script: str, *arguments: str) -> str:
    """Output of a Python script that runs after mounts which only it sees, and which end with it."""
    shell = f'{commands} && exec {sys.executable} -c "$SCRIPT" {" ".join(arguments)}'
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount here")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", shell], env={**os.environ, "SCRIPT": script}, cwd=PROJECT, text=True,
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


PREPARE = """
import sys, pathlib
from studies.dicom.spool import Store, SpoolError
try:
    Store(pathlib.Path(sys.argv[1])).prepare()
except SpoolError as exc:
    print(exc.code)
"""


@pytest.mark.parametrize("mount", ["mount -t tmpfs -o mode=700 none", "mount --bind"])
def test_mount_inside_the_store_is_refused(store: Store, tmp_path: Path, mount: str) -> None:
    """A bind mount has the same device, yet no link crosses it."""
    source = ""
    if "bind" in mount:
        (tmp_path / "source").mkdir(mode=0o700)
        source = str(tmp_path / "source")
    output = in_own_mounts(f"{mount} {source} {store.root}/objects", PREPARE, str(store.root))
    assert output == "store-not-one-filesystem"


FILL = """
import sys, pathlib
from studies.dicom.spool import Intake, Store, SpoolError
store = Store(pathlib.Path(sys.argv[1]) / "store")
store.prepare()
intake = Intake(store, owner="recv", batch_objects=1000)
kept = []
try:
    while True:
        part = intake.begin()
        part.write(bytes(int(sys.argv[2])))
        kept.append(part.commit())
except SpoolError as exc:
    print(exc.code, exc.permanent, len(kept) > 5)
print(all(one.path.stat().st_size == int(sys.argv[2]) for one in kept))
print(sum(slot.stat().st_size > 0 for slot in store.root.rglob("*.slot")))
for one in kept[:3]:
    intake.release(one.path)
with intake.begin() as part:
    part.write(b"goes on by itself")
    print(part.commit().size_bytes)
"""


@pytest.mark.parametrize(("options", "size"), [("size=256k", "20000"), ("nr_inodes=40", "10")])
def test_full_disk_refuses_one_object_keeps_the_others_and_goes_on(tmp_path: Path, options: str, size: str) -> None:
    mount = f"mount -t tmpfs -o mode=700,{options} none {tmp_path}"
    output = in_own_mounts(mount, FILL, str(tmp_path), size)
    assert output.splitlines() == ["disk-full False True", "True", "0", "17"]


# Names


BAD_KEYS = ["", "abc", "A" * 8, "g" * 8, "../../etc", "a" * 65, "aaaaaaaa\n", "aaaaaaaa/", "1.2.840.1", "\u0430" * 8]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_nothing_but_hex_becomes_a_path(store: Store, key: str) -> None:
    for keys in ((key, SERIES, INSTANCE), (STUDY, key, INSTANCE), (STUDY, SERIES, key)):
        with pytest.raises(SpoolError) as caught:
            store.object_name(*keys)
        assert caught.value.code == "name-invalid"
    with pytest.raises(SpoolError):
        store.quarantine(b"x", sha256=key)
    with pytest.raises(SpoolError):
        Intake(store, owner=f"{key}/..")


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "objects/../../x", f"{NAME}\n", f"./{NAME}", f"incoming/{STUDY}/{SERIES}/{INSTANCE}.dcm", ""],
)
def test_every_operation_checks_the_name(store: Store, name: str) -> None:
    kept = receive(store)
    operations = [
        lambda: store.open(name),
        lambda: store.size(name),
        lambda: store.remove(name),
        lambda: store.sync([name]),
        lambda: store.place(kept.path, name),
    ]
    for operation in operations:
        with pytest.raises(SpoolError) as caught:
            operation()
        assert caught.value.code == "name-invalid"


@pytest.mark.parametrize(
    "source", ["/etc/passwd", "{root}/incoming/../../secret.dcm", "{root}/incoming/x/00000001/a.dcm"]
)
def test_only_the_spools_own_files_are_placed(store: Store, source: str) -> None:
    with pytest.raises(SpoolError) as caught:
        store.place(Path(source.format(root=store.root)), NAME)
    assert caught.value.code == "name-invalid"


# Placing


def test_placed_object_has_both_names_until_release(store: Store) -> None:
    kept = receive(store)
    store.place(kept.path, NAME)
    store.place(kept.path, NAME)
    store.sync([NAME])
    assert kept.path.samefile(store.root / NAME)
    kept.path.unlink()
    with store.open(NAME) as stream:
        assert stream.read() == b"dataset"
    assert store.size(NAME) == 7


def test_nothing_is_overwritten(store: Store) -> None:
    store.place(receive(store, b"first").path, NAME)
    second = receive(store, b"second")
    with pytest.raises(SpoolError) as caught:
        store.place(second.path, NAME)
    assert caught.value.code == "name-taken"
    assert (store.root / NAME).read_bytes() == b"first"
    assert second.path.exists()


def test_missing_source_is_said(store: Store) -> None:
    kept = receive(store)
    kept.path.unlink()
    with pytest.raises(SpoolError) as caught:
        store.place(kept.path, NAME)
    assert caught.value.code == "object-missing"
    assert list((store.root / "objects").iterdir()) == []


def test_sync_flushes_each_directory_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [store.object_name(STUDY, series, f"{n:08x}") for series in (SERIES, "dd" * 8) for n in range(3)]
    for name in names:
        store.place(receive(store).path, name)
    flushed: list[str] = []
    fsync = os.fsync

    def recording(fd: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", recording)
    store.sync(iter(names))
    assert sorted(flushed) == [STUDY, SERIES, "dd" * 8, "objects"]
    flushed.clear()
    store.sync([])
    assert flushed == []


def test_sync_of_a_directory_that_is_gone_is_an_error(store: Store) -> None:
    with pytest.raises(SpoolError):
        store.sync([NAME])


def test_remove_takes_empty_parents_and_no_others(store: Store) -> None:
    other = store.object_name(STUDY, "dd" * 8, INSTANCE)
    for name in (NAME, other):
        store.place(receive(store).path, name)
    store.remove(NAME)
    store.remove(NAME)
    assert not (store.root / NAME).parent.exists()
    assert store.size(other) == 7
    store.remove(other)
    assert list((store.root / "objects").iterdir()) == []
    store.remove(other)


# Symbolic links


def test_symlinked_study_is_neither_read_nor_flushed_nor_emptied(store: Store, tmp_path: Path) -> None:
    trap = tmp_path / "trap" / SERIES
    trap.mkdir(parents=True)
    (trap / f"{INSTANCE}.dcm").write_bytes(b"precious")
    (store.root / "objects" / STUDY).symlink_to(trap.parent)
    for operation in (lambda: store.open(NAME), lambda: store.sync([NAME]), lambda: store.remove(NAME)):
        with pytest.raises(SpoolError) as caught:
            operation()
        assert caught.value.code == "store-symlink"
    assert (trap / f"{INSTANCE}.dcm").read_bytes() == b"precious"


def test_symlinked_object_and_pipe_are_not_opened(store: Store, tmp_path: Path) -> None:
    path = store.root / NAME
    path.parent.mkdir(parents=True, mode=0o700)
    path.symlink_to("/etc/passwd")
    for operation in (lambda: store.open(NAME), lambda: store.size(NAME)):
        with pytest.raises(SpoolError) as caught:
            operation()
        assert caught.value.code == "store-symlink"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SpoolError) as caught:
        store.open(NAME)
    assert caught.value.code == "store-symlink"


# Quarantine


def test_quarantine_keeps_each_content_once(store: Store) -> None:
    name = store.quarantine_name(SHA)
    assert store.quarantine(b"refused", sha256=SHA) is True
    assert store.quarantine(b"refused", sha256=SHA) is False
    with store.open(name) as stream:
        assert stream.read() == b"refused"
    assert [p.name for p in (store.root / "quarantine").iterdir()] == [f"{SHA}.bin"]
    store.remove(name)
    assert list((store.root / "quarantine").iterdir()) == []


@pytest.mark.parametrize("already_there", [False, True])
def test_quarantine_is_flushed_before_it_answers(
    store: Store, monkeypatch: pytest.MonkeyPatch, already_there: bool
) -> None:
    if already_there:
        store.quarantine(b"refused", sha256=SHA)
    flushed: list[str] = []
    fsync = os.fsync

    def recording(fd: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{fd}").readlink().suffix)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", recording)
    store.quarantine(b"refused", sha256=SHA)
    assert flushed == ([""] if already_there else [".part", ""])


def test_spooled_object_moves_into_quarantine_and_out_again(store: Store) -> None:
    kept = receive(store)
    assert store.quarantine(kept.path, sha256=kept.sha256) is True
    quarantined = store.root / store.quarantine_name(kept.sha256)
    assert quarantined.samefile(kept.path)
    kept.path.unlink()
    store.place(quarantined, NAME)  # "accept anyway"
    store.remove(store.quarantine_name(kept.sha256))
    assert (store.root / NAME).read_bytes() == b"dataset"


def test_foreign_file_is_copied_into_quarantine(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "dropped"
    source.write_bytes(b"refused" * 500_000)
    assert store.quarantine(source, sha256=SHA) is True
    kept = store.root / store.quarantine_name(SHA)
    assert kept.read_bytes() == source.read_bytes()
    assert not kept.samefile(source)
    source.unlink()
    source.symlink_to("/etc/passwd")
    with pytest.raises(SpoolError) as caught:
        store.quarantine(source, sha256="0" * 64)
    assert caught.value.code == "store-symlink"
    assert [p.name for p in kept.parent.iterdir()] == [kept.name]
