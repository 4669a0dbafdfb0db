"""Faults of disk, clock and file system, by number, tried on receiving.

S05, SIGKILL at every step, is tests/crash/; S06 and S20 of the whole gateway are in tests/flow/test_gateway_run.py.
"""

import datetime as dt
import os
import threading
from pathlib import Path

import pytest

from gateway_project.core.models import Alert
from studies import selectors
from studies.dicom import spool as spool_module
from studies.dicom.spool import SpoolError
from studies.models import Instance, Study, StudyRevision
from studies.services import receive as receive_module
from studies.services.settle import studies_settle_due
from tests.studies.house import House
from tests.studies.test_store import PREPARE, in_own_mounts

DAY = dt.timedelta(days=1)

FULL = """
import os, pathlib, sys
os.environ["GATEWAY_STORAGE__STOP_SPACE_GB"] = os.environ["GATEWAY_STORAGE__LOW_SPACE_GB"] = "0"
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
os.environ["GATEWAY_STORAGE__STOP_SPACE_GB"] = "0"
from tests.studies.house import House
from studies.services.receive import ReceiveError
folder, size = pathlib.Path(sys.argv[1]), int(sys.argv[2])
house = House(folder / "store")
fillers = [folder / f"filler-{n}" for n in range(10)]
for filler in fillers:
    filler.write_bytes(bytes(size))
kept = []
def fill():
    try:
        while True:
            kept.append(house.receive(f"1.2.3.{len(kept)}", pixels=bytes(size)).spooled)
    except ReceiveError as error:
        return error.code, error.busy
print(fill(), len(kept) > 3, len(house.files("incoming")) - len(kept))
print(all(one.path.stat().st_size == one.size_bytes + one.meta_bytes for one in kept))
before = len(kept)
for filler in fillers:
    filler.unlink()
print(fill(), len(kept) > before)
"""


@pytest.mark.parametrize(
    ("options", "size"), [pytest.param("size=600k", "20000", id="s01"), pytest.param("nr_inodes=60", "10", id="s02")]
)
def test_s01_s02_disk_or_inodes_full_in_mid_write(tmp_path: Path, options: str, size: str) -> None:
    """Refused for now (A700), nothing half-written stays, what was acknowledged is whole; it resumes by itself."""
    mount = f"mount -t tmpfs -o mode=700,{options} none {tmp_path}"
    output = in_own_mounts(mount, FULL, str(tmp_path), size).splitlines()
    assert output[-3:] == ["('disk-full', True) True 0", "True", "('disk-full', True) True"]


@pytest.mark.django_db
def test_s04_slow_flush_delays_its_own_sender_and_loses_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one object's flush hangs, another sender is answered; Success comes only after the flush."""
    house.receive("1.2.3.0")
    hanging, go_on, real = threading.Event(), threading.Event(), os.fdatasync
    slow = threading.local()

    def flush(fd: int) -> None:
        if getattr(slow, "yes", False):
            hanging.set()
            go_on.wait(30)
        real(fd)

    monkeypatch.setattr(spool_module.os, "fdatasync", flush)
    answered: list[str] = []

    def send() -> None:
        slow.yes = True
        house.receive("1.2.3.1")
        answered.append("slow")

    thread = threading.Thread(target=send)
    thread.start()
    assert hanging.wait(10)
    house.receive("1.2.3.2")
    answered.append("other")
    go_on.set()
    thread.join(10)
    assert answered == ["other", "slow"]
    house.index()
    assert Instance.objects.count() == 3
    house.check()


@pytest.mark.django_db
@pytest.mark.parametrize("jump", [DAY, -dt.timedelta(hours=1)])
def test_s09_clock_that_jumps_loses_nothing_and_blocks_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch, jump: dt.timedelta
) -> None:
    """Deadlines of this process are monotonic; a study is settled early at worst, and then has another revision."""
    start = dt.datetime.now(dt.UTC)
    clock = [start]
    monkeypatch.setattr(receive_module, "time_now", lambda: clock[0])
    house.receive("1.2.3.1")
    house.index()
    clock[0] = start + jump
    house.receive("1.2.3.2")
    house.index()
    studies_settle_due(now=clock[0])
    clock[0] = start + dt.timedelta(minutes=1)
    house.receive("1.2.3.3")
    house.index()
    latest = selectors.settles_at(Study.objects.get())
    assert latest is not None
    assert latest <= start + DAY + dt.timedelta(hours=1)
    studies_settle_due(now=latest)
    assert not Instance.objects.filter(revision=None).exists()
    assert sum(revision.instance_count for revision in StudyRevision.objects.all()) == 3
    house.check()


def test_s14_parts_of_the_store_on_other_file_systems(tmp_path: Path) -> None:
    store = tmp_path / "store"
    in_own_mounts("true", PREPARE, str(store))
    mount = f"mount -t tmpfs -o mode=700 none {store}/incoming"
    assert in_own_mounts(mount, PREPARE, str(store)) == "store-not-one-filesystem"


@pytest.mark.django_db
def test_s16_bit_rot_is_never_taken_for_what_came(house: House) -> None:
    """The same object comes again: repeated, its rotten file is found by whoever reads it (uploads, the scrub) -
    but an object that is compared with rotten bytes counts as changed, and both are kept."""
    house.receive(pixels=b"pixels")
    house.index()
    row = Instance.objects.get()
    path = house.store.root / row.path
    rotten = bytearray(path.read_bytes())
    rotten[-3] ^= 0x40
    path.write_bytes(rotten)
    house.receive(pixels=b"pixels", patient_name="Doe^Janet")
    house.index()
    rows = list(Instance.objects.order_by("version"))
    assert [known.current for known in rows] == [False, True]
    assert (Alert.objects.get().code, house.data_set_of(rows[1])[-6:]) == ("instance-changed", b"pixels")


@pytest.mark.parametrize("name", ["", "objects", "incoming", "quarantine"])
def test_s20_store_that_others_can_read(house: House, name: str) -> None:
    (house.store.root / name).chmod(0o755)
    with pytest.raises(SpoolError) as caught:
        house.store.prepare()
    assert (caught.value.code, "chmod" in str(caught.value)) == ("store-exposed", True)
    (house.store.root / name).chmod(0o700)
    house.store.prepare()
