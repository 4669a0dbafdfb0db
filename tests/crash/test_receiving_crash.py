"""SIGKILL after every step of receiving, under load from DCMTK's sender: nothing that was acknowledged is ever lost.

The crash table of docs/decisions/0004-spool.md, tried on the real listener: the receiver ends itself at a fail-point,
the acceptor starts another, the listener is stopped and started again, and then everything is compared.
"""

import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from network.dimse import scu
from tests.dicom_samples import dataset_of, study_files, uid_of
from tests.gateway_harness import Gateway, wait_until

pytestmark = [pytest.mark.dcmtk, pytest.mark.timeout(180)]

FAILPOINTS = (
    "spool.begun",
    "spool.written",
    "spool.fsynced",
    "spool.durable",
    "receive.durable",
    "index.begin",
    "spool.placed",
    "spool.synced",
    "index.placed",
    "index.committed",
    "spool.released",
    "index.released",
)
SENDERS = 2


def acknowledged(output: str, files: list[Path]) -> set[str]:
    """SOP Instance UIDs of the files whose C-STORE was answered Success, as `storescu -v` tells it."""
    known = {str(path): uid_of(path) for path in files}
    found, current = set(), ""
    for line in output.splitlines():
        if match := re.search(r"Sending file: (.+)$", line):
            current = match.group(1)
        elif "Received Store Response (Success)" in line:
            found.add(known[current])
    return found


def send_at_once(gateway: Gateway, loads: list[list[Path]]) -> set[str]:
    """Each load by a sender of its own, all at the same time; answers what was acknowledged."""
    command = ["storescu", "-v", "-aec", "GATEWAY", "-aet", "JUDGE", "127.0.0.1", str(gateway.dimse_port)]
    env = os.environ | {"TCP_NODELAY": "1"}
    senders = [
        subprocess.Popen(
            [*command, *map(str, load)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        )
        for load in loads
    ]
    found: set[str] = set()
    for sender, load in zip(senders, loads, strict=True):
        output, _nothing = sender.communicate(timeout=60)
        found |= acknowledged(output, load)
    return found


def deaths(gateway: Gateway) -> int:
    return gateway.log.read_text().count('"receiver ended and is started again"')


def incoming(gateway: Gateway) -> list[Path]:
    """Objects and beginnings of objects that are not indexed yet."""
    found = [Path(folder) / name for folder, _folders, names in os.walk(gateway.store / "incoming") for name in names]
    return [path for path in found if path.suffix in (".dcm", ".slot") and size_of(path) > 0]


def size_of(path: Path) -> int:
    """0 also when it has gone meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def crash_round(gateway: Gateway, folder: Path, failpoint: str, *, passes: int) -> None:
    """One round: load, death, another life, stop, recovery, comparison."""
    loads = [study_files(folder / f"load{n}", count=6, patient_id=f"C{n}") for n in range(SENDERS)]
    files = {uid_of(path): path for load in loads for path in load}
    listeners = gateway.start_listeners(GATEWAY_FAILPOINT=f"{failpoint}:{passes}")
    promised = send_at_once(gateway, loads)
    wait_until(lambda: deaths(gateway) > 0, what=f"the death at {failpoint}")
    gateway.stop(listeners)

    listeners = gateway.start_listeners()
    promised |= send_at_once(gateway, loads)  # a modality sends again what was not acknowledged, and more
    assert promised == set(files), "without a fail-point everything is acknowledged"
    gateway.stop(listeners)
    nothing_lost(gateway, files)


def nothing_lost(gateway: Gateway, files: dict[str, Path]) -> None:
    """Every object has exactly one row and one file with its bytes; no file is without a row; nothing lies about."""
    rows = gateway.rows("SELECT sop_instance_uid, path, version FROM studies_instance")
    assert sorted(uid for uid, _path, _version in rows) == sorted(files), "one row for each object, none twice"
    for uid, path, version in rows:
        assert version == 1
        assert dataset_of(gateway.store / path) == dataset_of(files[uid])
    on_disk = {str(p.relative_to(gateway.store)) for p in (gateway.store / "objects").rglob("*") if p.is_file()}
    assert on_disk == {path for _uid, path, _version in rows}
    assert incoming(gateway) == []
    assert gateway.value("SELECT count(*) FROM studies_quarantinedobject") == 0
    assert gateway.value("SELECT sum(instance_count) FROM studies_study") == len(files)


def other_is_served(gateway: Gateway) -> None:
    """Another peer that comes while the dead one's objects are recovered is answered."""
    scu.echo(address="127.0.0.1", port=gateway.dimse_port, calling_ae_title="NEIGHBOUR", called_ae_title="GATEWAY")


def acknowledged_before_death_is_kept(
    gateway: Gateway, folder: Path, failpoint: str, *, passes: int, **extra: str
) -> None:
    """The promise itself: what was acknowledged before the kill is there afterwards, although nobody sends again."""
    load = study_files(folder / "once", count=8, patient_id="K1")
    files = {uid_of(path): path for path in load}
    listeners = gateway.start_listeners(GATEWAY_FAILPOINT=f"{failpoint}:{passes}", **extra)
    promised = send_at_once(gateway, [load])
    wait_until(lambda: deaths(gateway) > 0, what=f"the death at {failpoint}")
    gateway.stop(listeners)
    listeners = gateway.start_listeners()  # recovery, and no sender
    other_is_served(gateway)
    wait_until(lambda: not incoming(gateway), what="recovery to empty what the dead receiver left")
    gateway.stop(listeners)
    kept = dict(gateway.rows("SELECT sop_instance_uid, path FROM studies_instance"))
    assert promised <= set(kept), "an acknowledged object was lost"
    for uid, path in kept.items():
        assert dataset_of(gateway.store / path) == dataset_of(files[uid])
    on_disk = {str(p.relative_to(gateway.store)) for p in (gateway.store / "objects").rglob("*") if p.is_file()}
    assert on_disk == set(kept.values())


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_s05_acknowledged_objects_survive_a_kill(gateway: Gateway, tmp_path: Path, failpoint: str) -> None:
    passes = 1 if failpoint.startswith("index") or failpoint in ("spool.synced", "spool.placed") else 3
    acknowledged_before_death_is_kept(gateway, tmp_path, failpoint, passes=passes)


@pytest.mark.parametrize("failpoint", ["spool.begun", "spool.fsynced", "spool.durable", "receive.durable"])
def test_s05_acknowledged_objects_survive_kills_on_the_slow_path(
    gateway: Gateway, tmp_path: Path, failpoint: str
) -> None:
    acknowledged_before_death_is_kept(gateway, tmp_path, failpoint, passes=3, GATEWAY_SLOW_STORE="1")


@pytest.mark.parametrize("failpoint", ["spool.fsynced", "index.committed"])
def test_s05_sending_again_after_a_kill_makes_nothing_twice(gateway: Gateway, tmp_path: Path, failpoint: str) -> None:
    crash_round(gateway, tmp_path, failpoint, passes=1 if failpoint.startswith("index") else 4)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("number", range(100))
def test_s05_random_kills_under_load(gateway: Gateway, tmp_path: Path, number: int) -> None:
    chance = random.Random(number)
    failpoint = chance.choice(FAILPOINTS)
    passes = (
        1 if failpoint.startswith("index") or failpoint in ("spool.synced", "spool.placed") else chance.randint(1, 10)
    )
    crash_round(gateway, tmp_path, failpoint, passes=passes)
