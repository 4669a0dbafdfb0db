"""S15: the file system is another machine's, which refuses locks, loses them, or lets handles go stale."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from gateway_project.core import mounts
from gateway_project.core.machine import machine_key
from gateway_project.core.models import Alert
from gateway_project.core.mounts import remote_file_system
from gateway_project.wiring import file_systems
from gateway_project.wiring.file_systems import file_systems_judge, store_locks_check
from gateway_project.wiring.locks import LocksRefusedError
from network.dimse import statuses
from studies.dicom.spool import Intake, SpoolError, Store
from studies.services.receive import ReceiveError
from studies.services.recover import spool_recover
from tests.faults.conftest import Wired
from tests.faults.wire_peers import A_RELEASE_RP, RELEASE_REQUEST, associated, object_sent
from tests.gateway_harness import Gateway
from tests.network.dimse_fixtures import read_pdu
from tests.studies.datasets import CT, EXPLICIT
from tests.studies.house import House, arrival, content

TABLE = """rootfs / rootfs rw 0 0
/dev/sda1 / ext4 rw 0 0
nas:/export /srv/data nfs4 rw,vers=4.2 0 0
/dev/sdb1 /srv/data/fast ext4 rw 0 0
//nas/share /srv/with\\040space cifs rw 0 0
gluster /srv/gluster fuse.glusterfs rw 0 0
/dev/sdc1 /srv/usb fuseblk rw 0 0
tmpfs /srv/twice tmpfs rw 0 0
nas:/x /srv/twice nfs rw 0 0
torn line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/data", "nfs4"),
        ("/srv/data/studies/objects", "nfs4"),
        ("/srv/data/fast/store", ""),
        ("/srv/database", ""),
        ("/srv/with space/x", "cifs"),
        ("/srv/gluster/x", "fuse.glusterfs"),
        ("/srv/usb/x", ""),
        ("/srv/twice", "nfs"),
        ("/", ""),
    ],
)
def test_s15_network_file_system_is_told_by_the_table_of_mounts(path: str, kind: str) -> None:
    assert remote_file_system(Path(path), TABLE) == kind


@pytest.mark.django_db
@pytest.mark.parametrize("option", ["nolock", "local_lock=all", "local_lock=flock", "nobrl", "localflock"])
def test_s15_locks_that_other_machines_do_not_see_are_refused_where_there_may_be_others(
    tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    settings.DATA_DIR = tmp_path / "data"
    table = tmp_path / "mounts"
    monkeypatch.setattr(mounts, "MOUNTS", table)
    table.write_text(f"/dev/sda1 / ext4 rw 0 0\nnas:/export {tmp_path} nfs4 rw,{option},vers=4.2 0 0\n")
    monkeypatch.setattr(file_systems, "database_is_shared", lambda: False)
    store_locks_check()
    monkeypatch.setattr(file_systems, "database_is_shared", lambda: True)
    with pytest.raises(LocksRefusedError, match=option):
        store_locks_check()
    table.write_text(f"/dev/sda1 / ext4 rw 0 0\nnas:/export {tmp_path} nfs4 rw,local_lock=none,vers=4.2 0 0\n")
    store_locks_check()


@pytest.mark.django_db
def test_s15_warned_of_once_at_the_start_and_healed_after_the_move(
    tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DATA_DIR = tmp_path / "data"
    table = tmp_path / "mounts"
    monkeypatch.setattr(mounts, "MOUNTS", table)
    table.write_text(f"/dev/sda1 / ext4 rw 0 0\nnas:/export {tmp_path} nfs4 rw 0 0\n")
    for _start in range(3):
        assert "data directory (nfs4) and the object store (nfs4)" in file_systems_judge()
    alert = Alert.objects.get(healed_at=None)
    assert (alert.key, alert.code) == (machine_key("file-system"), "file-system-remote")
    assert [record.message for record in caplog.records].count("state lies on a network file system") == 1
    table.write_text("/dev/sda1 / ext4 rw 0 0\n")
    assert file_systems_judge() == ""
    table.unlink()
    assert file_systems_judge() == "", "a kernel that does not tell"
    assert not Alert.objects.filter(healed_at=None).exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_s15_store_whose_locks_are_refused_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(_fd: int, _operation: int) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(SpoolError) as caught:
        Store(tmp_path / "store").prepare()
    assert (caught.value.code, caught.value.permanent) == ("store-no-locks", True)
    assert list((tmp_path / "store" / "incoming").iterdir()) == []


def test_s15_store_whose_locks_keep_nobody_out_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount with local or pretended locks grants each of them: a living receiver would be taken for a dead one."""
    monkeypatch.setattr(fcntl, "flock", lambda _fd, _operation: None)
    with pytest.raises(SpoolError) as caught:
        Store(tmp_path / "store").prepare()
    assert caught.value.code == "store-no-locks"


REFUSED = """
import errno, fcntl
from django.core.management import CommandError, call_command
def refused(fd, operation):
    raise OSError(errno.ENOLCK, "refused")
fcntl.flock = refused
for start in ("rungateway", "runlisteners"):
    try:
        call_command(start)
    except CommandError as error:
        print(start, error)
"""


def test_s15_gateway_without_locks_refuses_to_start_with_words(gateway: Gateway) -> None:
    told = [line for line in gateway.code(REFUSED).stdout.splitlines() if "no lock (ENOLCK)" in line]
    assert [line.split()[0] for line in told] == ["rungateway", "runlisteners"]
    assert all("GATEWAY_DATA_DIR" in line for line in told)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
def test_s15_flush_of_a_stale_file_is_no_success(
    house: House, wired: Wired, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A700, nothing stays, the descriptor is not used again; the other peer does not notice, the next try works."""
    real, broken = os.fdatasync, [True]

    def flush(fd: int) -> None:
        if broken and os.fstat(fd).st_size > 40_000:
            raise OSError(number, "stale")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", flush)
    data = content("1.2.3.1", pixels=bytes(50_000))
    with wired() as local, associated(local, contexts=((CT, (EXPLICIT,)),)) as connection:
        assert object_sent(connection, data, sop_instance_uid="1.2.3.1")[1] == statuses.OUT_OF_RESOURCES
        assert not [name for name in house.files("incoming") if (house.store.root / name).stat().st_size > 40_000]
        broken.clear()
        assert object_sent(connection, data, sop_instance_uid="1.2.3.1")[1] == statuses.SUCCESS
        connection.sendall(RELEASE_REQUEST)
        assert read_pdu(connection)[0] == A_RELEASE_RP


@pytest.mark.django_db
def test_s15_directory_gone_stale_is_left_for_a_new_one(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the server has come back its old handles stay stale: one object is refused, then a new batch is begun."""
    house.receive("1.2.3.1")
    batch = house.intake._current
    assert batch is not None
    stale, real = batch.fd, os.open

    def opened(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd == stale:
            raise OSError(errno.ESTALE, "stale")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(ReceiveError) as caught:
        house.receive("1.2.3.2")
    assert caught.value.busy
    for number in range(3, 9):
        house.receive(f"1.2.3.{number}")
    monkeypatch.undo()
    assert house.index().created == 7
    house.check()


@pytest.mark.django_db
@pytest.mark.parametrize("size", [10, 600_000])
def test_s15_lost_lock_never_makes_a_success_without_a_file(house: House, size: int) -> None:
    """Another process takes the living receiver for dead and removes what is under way: that is not acknowledged."""
    under_way = house.receiver.begin(arrival("1.2.3.1"))
    data = content("1.2.3.1", pixels=bytes(size))
    under_way.write(data[:50])
    fcntl.flock(house.intake._directory._lock, fcntl.LOCK_UN)  # what a server that forgot its locks does
    spool_recover(house.store)
    under_way.write(data[50:])
    with pytest.raises(ReceiveError) as caught:
        under_way.commit()
    assert caught.value.busy
    assert house.waiting == []
    house.intake = Intake(house.store, owner="receiver-0")  # the next life
