"""SIGKILL between every two steps of the spool, in real processes: the crash table, row by row.

The child receives, tells its parent "ACK" where a peer would get Success, and indexes into a journal of rows. The
parent recovers what the child left, as a receiver does at its start, and holds it to the promises.
"""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from studies.dicom.spool import Intake, Store, abandoned, file_hash

PROJECT = Path(__file__).parents[2]
STUDY, SERIES = "aa" * 8, "bb" * 8
META = b"\0" * 128 + b"DICM"

CHILD = """
import os, pathlib, sys, threading
from studies.dicom.spool import Intake, Store

root, threads, count, size = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:5])
store = Store(root / "store")
store.prepare()
intake = Intake(store, owner="recv", batch_objects=4)
rows = os.open(root / "rows", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

def say(text):
    os.write(1, text.encode() + b"\\n")

def receive(number):
    for index in range(count):
        part = intake.begin()
        part.write_meta(b"\\0" * 128 + b"DICM")
        part.write(b"%d/%d " % (number, index) * size)
        kept = part.commit()
        say(f"ACK {kept.instance_key} {kept.sha256}")
        name = store.object_name("aa" * 8, "bb" * 8, kept.instance_key)
        store.place(kept.path, name)
        store.sync([name])
        os.write(rows, name.encode() + b"\\n")
        intake.release(kept.path)

workers = [threading.Thread(target=receive, args=(n,)) for n in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
say("DONE")
sys.stdin.read()
"""


def start(root: Path, *, threads: int, count: int, failpoint: str = "", repeats: int = 2000) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), str(threads), str(count), str(repeats)],
        env={**os.environ, "GATEWAY_FAILPOINT": failpoint},
        cwd=PROJECT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def acknowledged(lines: list[str]) -> dict[str, str]:
    """Instance key -> hash of what the peer was told is safe; a last line cut by the kill was not told."""
    return dict(line.split()[1:] for line in lines if line.startswith("ACK ") and line.endswith("\n"))


class Aftermath:
    """What a crash left, and what the recovery made of it."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root / "store")
        self.store.prepare()
        self.journal = root / "rows"
        self.parts = 0
        self.found: list[str] = []
        self.without_row: list[str] = []

    def rows(self) -> set[str]:
        return set(self.journal.read_text().split()) if self.journal.exists() else set()

    def recover(self) -> None:
        for dead in abandoned(self.store):
            with dead:
                self.parts += dead.discard_parts()
                for path in dead.objects():
                    name = self.store.object_name(STUDY, SERIES, path.stem)
                    self.found.append(path.stem)
                    if name not in self.rows():
                        self.without_row.append(path.stem)
                        self.store.place(path, name)
                        self.store.sync([name])
                        with self.journal.open("a") as journal:
                            journal.write(f"{name}\n")
                    dead.release(path)

    def check(self, promised: dict[str, str]) -> None:
        """Nothing acknowledged is lost or changed, no row without its file, no file without its row, no rubbish."""
        names = {f"objects/{STUDY}/{SERIES}/{key}.dcm": sha256 for key, sha256 in promised.items()}
        assert names.keys() <= self.rows()
        for name, sha256 in names.items():
            assert file_hash(self.store.root / name, len(META))[0] == sha256
        objects = {str(p.relative_to(self.store.root)) for p in (self.store.root / "objects").rglob("*.dcm")}
        assert objects == self.rows()
        assert all((self.store.root / name).stat().st_nlink == 1 for name in objects)
        assert list(self.store.incoming.iterdir()) == []
        assert list(self.store.root.rglob("*.slot")) == []


@pytest.mark.parametrize(
    ("failpoint", "acks", "parts", "found", "without_row"),
    [
        ("spool.begun", 1, 0, 0, 0),  # a slot that holds nothing is no part
        ("spool.written", 1, 0, 0, 0),
        ("spool.fsynced", 1, 0, 1, 1),  # its mark says that it is whole
        ("spool.durable", 1, 0, 1, 1),  # adopted, though its sender will send it again
        ("spool.placed", 2, 0, 1, 1),
        ("spool.synced", 2, 0, 1, 1),
        ("spool.released", 2, 0, 0, 0),
    ],
)
def test_kill_at_each_step(tmp_path: Path, failpoint: str, acks: int, parts: int, found: int, without_row: int) -> None:
    """The second object dies at that step; the first is through."""
    child = start(tmp_path, threads=1, count=3, failpoint=f"{failpoint}:2")
    output, _ = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    promised = acknowledged(output.splitlines(keepends=True))
    assert len(promised) == acks
    after = Aftermath(tmp_path)
    after.recover()
    assert (after.parts, len(after.found), len(after.without_row)) == (parts, found, without_row)
    after.check(promised)


def test_kill_between_two_pieces_of_a_large_object(tmp_path: Path) -> None:
    """Each has 800 kB, three buffers of which leave before its end; the second dies when its second one leaves."""
    child = start(tmp_path, threads=1, count=3, failpoint="spool.spilled:5", repeats=200_000)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    promised = acknowledged(output.splitlines(keepends=True))
    after = Aftermath(tmp_path)
    after.recover()
    assert (len(promised), after.parts, after.found) == (1, 1, [])
    after.check(promised)


def test_kill_between_row_and_release_finds_the_row(tmp_path: Path) -> None:
    """Recovery that dies in its turn after each step of its own is only repeated."""
    child = start(tmp_path, threads=1, count=2, failpoint="spool.synced:2")
    output, _ = child.communicate(timeout=60)
    after = Aftermath(tmp_path)
    (dead,) = abandoned(after.store)
    dead.discard_parts()
    (path,) = dead.objects()
    name = after.store.object_name(STUDY, SERIES, path.stem)
    with after.journal.open("a") as journal:
        journal.write(f"{name}\n")
    dead.finish()  # nothing released: the next recovery meets a file that has its row
    assert dead.remaining == 1
    after.recover()
    assert (after.found, after.without_row) == ([path.stem], [])
    after.check(acknowledged(output.splitlines(keepends=True)))


def test_second_process_leaves_a_living_one_alone_until_it_dies(tmp_path: Path) -> None:
    child = start(tmp_path, threads=1, count=1)
    lines = []
    while not lines or lines[-1] != "DONE\n":
        lines.append(child.stdout.readline())  # type: ignore[union-attr]
    after = Aftermath(tmp_path)
    assert list(abandoned(after.store)) == []
    (home,) = after.store.incoming.iterdir()
    child.kill()
    child.wait(60)
    assert home.exists()
    after.recover()
    after.check(acknowledged(lines))


def kill_under_load(tmp_path: Path, *, after_acks: int) -> None:
    child = start(tmp_path, threads=8, count=10_000)
    lines = [child.stdout.readline() for _ in range(after_acks)]  # type: ignore[union-attr]
    child.kill()
    rest, _ = child.communicate(timeout=60)
    promised = acknowledged(lines + rest.splitlines(keepends=True))
    assert len(promised) >= after_acks
    after = Aftermath(tmp_path)
    after.recover()
    after.check(promised)


def test_kill_under_load_of_eight_threads(tmp_path: Path) -> None:
    kill_under_load(tmp_path, after_acks=150)


@pytest.mark.soak
@pytest.mark.parametrize("round_number", range(100))
def test_many_kills_under_load(tmp_path: Path, round_number: int) -> None:
    kill_under_load(tmp_path, after_acks=20 + 7 * round_number)


RECOVER = """
import pathlib, sys
from studies.dicom.spool import Store, abandoned
store = Store(pathlib.Path(sys.argv[1]) / "store")
sys.stdin.readline()
for dead in abandoned(store):
    with dead:
        for path in dead.objects():
            dead.release(path)
            print(path.stem)
"""


def test_two_recoveries_share_the_dead_and_take_none_twice(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    keys = set()
    for _ in range(40):
        intake = Intake(store, owner="recv")
        keys.add(intake.begin().commit().instance_key)
        intake.close()
    command = [sys.executable, "-c", RECOVER, str(tmp_path)]
    pair = [
        subprocess.Popen(command, cwd=PROJECT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in pair:
        process.stdin.write("go\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    found = [line for process in pair for line in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in pair] == [0, 0]
    assert sorted(found) == sorted(keys)
    for dead in abandoned(store):  # an emptied directory may stay behind if the two met in it
        dead.finish()
    assert list(store.incoming.iterdir()) == []


QUARANTINE = """
import os, pathlib, signal, sys
from studies.dicom.spool import Store
store = Store(pathlib.Path(sys.argv[1]) / "store")
store.prepare()
def die(fd):
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = die
store.quarantine(b"refused", sha256=sys.argv[2])
"""


def test_kill_in_quarantine_leaves_nothing_after_the_next_start(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"refused").hexdigest()
    done = subprocess.run(
        [sys.executable, "-c", QUARANTINE, str(tmp_path), sha256], cwd=PROJECT, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    quarantine = tmp_path / "store" / "quarantine"
    assert [p.suffix for p in quarantine.iterdir()] == [".part"]
    store = Store(tmp_path / "store")
    store.prepare()
    assert list(quarantine.iterdir()) == []
    assert store.quarantine(b"refused", sha256=sha256) is True
