"""Faults of DIMSE messages, by number, from raw sockets; each time another peer is served meanwhile."""

import logging
import re
import threading
from pathlib import Path

import pytest

from gateway_project.wiring.listeners import receiver_config
from network.dimse import statuses
from network.dimse.ports import StoreRequest, StoreResult
from network.handlers import StorageHandlers
from studies.models import Instance, QuarantinedObject
from tests.faults.conftest import Wired
from tests.faults.wire_peers import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_RELEASE_RP,
    BOTH_PATHS,
    HONEST,
    P_DATA,
    RELEASE_REQUEST,
    abort_reason,
    associated,
    attacked,
    attacks_stored,
    command,
    context_results,
    ended,
    object_sent,
    response_status,
    served,
)
from tests.network.dimse_fixtures import (
    CollectingSink,
    FakePort,
    LocalReceiver,
    WholeRequest,
    associate_request,
    data_pdu,
    element,
    pdu,
    raw_connection,
    read_pdu,
    store_command,
    wait_until,
)
from tests.studies.datasets import CT, EXPLICIT, dataset, uid
from tests.studies.house import House, content

MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT_CT = ((CT, (EXPLICIT,)),)


@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize(
    "garbage",
    [
        b"CANARY^PATIENT garbage",
        b"",
        command((0x0110, 1), (0x0800, 1)),
        command((0x0100, 1), (0x0110, 1)),
        command((0x0100, 1), (0x0100, 1), (0x0800, 1)),
        element((0x10, 0x10), b"US", b"\1\0", explicit=False),
        store_command()[:-3],
        element((0, 0x0100), b"US", b"\1", explicit=False)[:-1] + element((0, 0x0800), b"US", b"\1\0", explicit=False),
    ],
    ids=["text", "empty", "no-field", "no-type", "twice", "another-group", "cut", "cut-inside"],
)
def test_d01_command_set_that_is_none(
    tmp_path: Path, fast: bool, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    port = FakePort()
    with attacked(port, tmp_path, fast=fast) as local:
        with associated(local) as connection:
            connection.sendall(data_pdu(3, garbage))
            assert read_pdu(connection)[0] == A_ABORT
        assert ended(port) == ("aborted", "command-garbled")
    assert attacks_stored(port) == []
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize("size", [100, 16_000])
def test_d02_command_that_never_ends(tmp_path: Path, fast: bool, size: int) -> None:
    port = FakePort()
    with attacked(port, tmp_path, fast=fast, dimse_seconds=20.0) as local:
        with associated(local) as connection:
            try:
                for _ in range(0, 3 << 20, size):
                    connection.sendall(data_pdu(1, bytes(size)))
            except OSError:
                pass  # we were cut off
        assert ended(port) == ("aborted", "command-too-long")


@pytest.mark.parametrize("fast", BOTH_PATHS)
def test_d08_data_set_that_was_announced_and_does_not_come(tmp_path: Path, fast: bool) -> None:
    port = FakePort()
    with attacked(port, tmp_path, fast=fast) as local:
        with associated(local) as connection:
            connection.sendall(data_pdu(3, store_command()) * 2)
            assert read_pdu(connection)[0] == A_ABORT
        assert ended(port) == ("aborted", "data-set-missing")
    assert attacks_stored(port) == []


@pytest.mark.parametrize("fast", BOTH_PATHS)
def test_d08_data_set_that_was_not_announced(tmp_path: Path, fast: bool) -> None:
    port = FakePort()
    with attacked(port, tmp_path, fast=fast) as local:
        with associated(local) as connection:
            connection.sendall(data_pdu(2, b"xy"))
            assert read_pdu(connection)[0] == A_ABORT
        assert ended(port) == ("aborted", "data-set-unannounced")
    assert attacks_stored(port) == []


@pytest.mark.parametrize("fast", BOTH_PATHS)
def test_d08_store_without_a_data_set_is_no_success(tmp_path: Path, fast: bool) -> None:
    port = FakePort(answer=lambda request: StoreResult(0 if request.dataset else statuses.CANNOT_UNDERSTAND))
    without = store_command().replace(b"\0\0\0\x08\2\0\0\0\1\0", b"\0\0\0\x08\2\0\0\0\1\1", 1)
    with attacked(port, tmp_path, fast=fast) as local, associated(local) as connection:
        connection.sendall(data_pdu(3, without))
        kind, body = read_pdu(connection)
        assert kind == A_ABORT or response_status(body)[1] == statuses.CANNOT_UNDERSTAND


@pytest.mark.parametrize("fast", BOTH_PATHS)
def test_d09_same_message_id_again_and_cancel_of_nothing(tmp_path: Path, fast: bool) -> None:
    port = FakePort()
    cancel = data_pdu(3, command((0x0100, 0x0FFF), (0x0120, 7), (0x0800, 0x0101)))
    with attacked(port, tmp_path, fast=fast) as local, associated(local) as connection:
        for _ in range(15):
            connection.sendall(cancel + data_pdu(3, store_command(message_id=5)) + data_pdu(2, b"xy"))
            kind, body = read_pdu(connection)
            assert (kind, response_status(body)) == (P_DATA, (5, 0))
        connection.sendall(RELEASE_REQUEST)
    assert len(attacks_stored(port)) == 15


class RaisingSink(CollectingSink):
    """Fails in one of its calls, as a port with a fault would."""

    where = "write"

    def write(self, data: memoryview) -> None:
        if self.where == "write":
            raise RecursionError("CANARY^PATIENT")
        super().write(data)

    def commit(self) -> StoreResult:
        if self.where == "commit":
            raise RecursionError("CANARY^PATIENT")
        return super().commit()

    def abort(self) -> None:
        super().abort()
        raise RecursionError("CANARY^PATIENT")


class RaisingPort(FakePort):
    """Fails for every object but the honest peer's."""

    where = "write"

    def begin(self, request: StoreRequest) -> CollectingSink:
        if request.peer.calling_ae_title != "RAW":
            return super().begin(request)
        if self.where == "begin":
            raise RecursionError("CANARY^PATIENT")
        sink = RaisingSink(request, self._keep)
        sink.where = self.where
        return sink


@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize("where", ["begin", "write", "commit"])
def test_d14_port_that_raises(tmp_path: Path, fast: bool, where: str, caplog: pytest.LogCaptureFixture) -> None:
    port = RaisingPort()
    port.where = where
    with caplog.at_level(logging.DEBUG), attacked(port, tmp_path, fast=fast) as local, associated(local) as connection:
        for number in (1, 2):  # the association goes on
            connection.sendall(data_pdu(3, store_command(message_id=number)) + data_pdu(0, b"ab") + data_pdu(2, b"cd"))
            kind, body = read_pdu(connection)
            assert (kind, response_status(body)) == (P_DATA, (number, statuses.HANDLER_FAILED))
    assert attacks_stored(port) == []
    assert "CANARY" not in " ".join(str(record.__dict__) for record in caplog.records)


@pytest.mark.parametrize("fast", BOTH_PATHS)
def test_d14_port_that_hangs_hangs_alone(tmp_path: Path, fast: bool) -> None:
    go_on = threading.Event()

    def answer(request: WholeRequest) -> StoreResult:
        assert request.peer.calling_ae_title != "RAW" or go_on.wait(60)
        return StoreResult(0)

    port = FakePort(answer=answer)
    with attacked(port, tmp_path, fast=fast) as local, associated(local) as connection:
        connection.sendall(data_pdu(3, store_command()) + data_pdu(2, b"xy"))
        served(local, port, tmp_path)
        go_on.set()
        assert read_pdu(connection)[0] == P_DATA


# With the house's own handlers behind the wire


def attackers_rows() -> list[str]:
    """What is indexed of anybody but the neighbour."""
    return list(Instance.objects.exclude(sop_instance_uid=HONEST).values_list("sop_instance_uid", flat=True))


PATHS = ["../../../tmp/x", "/etc/passwd", "..", "1.2.3/../../4", "C:\\1.2", "~root", "%2e%2e%2f", "*"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fast", BOTH_PATHS)
def test_d06_uid_that_is_a_path(house: House, wired: Wired, fast: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Whether the command alone says so or the data set too: C000, quarantine, and every name is of our own making."""
    before = set(house.store.root.parent.rglob("*"))
    caplog.set_level(logging.DEBUG)
    with wired(fast=fast) as local, associated(local, contexts=EXPLICIT_CT) as connection:
        for hostile in PATHS:
            for sent in (content("1.2.3.1"), content(hostile)):
                answer = object_sent(connection, sent, sop_instance_uid=hostile)
                assert answer == (P_DATA, statuses.CANNOT_UNDERSTAND), hostile
    assert {row.code for row in QuarantinedObject.objects.all()} == {"uid-invalid"}
    assert attackers_rows() == []
    made = {path for path in house.store.root.parent.rglob("*") if path.is_file()} - before
    names = re.compile(
        r"store/(objects/[0-9a-f]{32}/[0-9a-f]{32}/[0-9a-f]{32}\.dcm|quarantine/[0-9a-f]{64}\.bin|incoming/.+)"
    )
    assert [path for path in made if not names.fullmatch(str(path.relative_to(house.store.root.parent)))] == []
    assert not Path("/tmp/x").exists()
    assert not [record for record in caplog.records if "passwd" in str(record.__dict__)]


PRIVATE_CLASS = "1.2.826.0.1.3680043.10.77.1"
NOT_STORAGE = {
    "f36-dicomdir": "1.2.840.10008.1.3.10",
    "d10-commitment": "1.2.840.10008.1.20.1",
    "d12-move": "1.2.840.10008.5.1.4.1.2.2.2",
    "find": "1.2.840.10008.5.1.4.1.2.2.1",
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fast", BOTH_PATHS)
def test_d16_unsupported_sop_class(wired: Wired, fast: bool) -> None:
    """Its context is rejected (3: abstract syntax not supported), the others of the association work; an object sent
    in it all the same ends the association."""
    others = [(abstract, (EXPLICIT,)) for abstract in NOT_STORAGE.values()]
    contexts = ((PRIVATE_CLASS, (EXPLICIT,)), (CT, (EXPLICIT,)), (CT, ("1.2.3.99",)), *others)
    with wired(fast=fast) as local, raw_connection(local.address, associate_request(contexts=contexts)) as connection:
        kind, body = read_pdu(connection)
        assert (kind, context_results(body)) == (A_ASSOCIATE_AC, {1: 3, 3: 0, 5: 4, 7: 3, 9: 3, 11: 3, 13: 3})
        stored = object_sent(connection, content("1.2.3.9"), context_id=3, sop_instance_uid="1.2.3.9")
        assert stored == (P_DATA, statuses.SUCCESS)
        private = {"sop_class_uid": PRIVATE_CLASS, "sop_instance_uid": "1.2.3.10"}
        assert object_sent(connection, content("1.2.3.10"), context_id=1, **private)[0] == A_ABORT
    assert wait_until(attackers_rows) == ["1.2.3.9"]  # an abort does not wait for the index


@pytest.mark.django_db(transaction=True)
def test_d16_sop_class_that_the_settings_add(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DICOM__EXTRA_SOP_CLASSES", PRIVATE_CLASS)
    whole = dataset(sop_class=uid(PRIVATE_CLASS), instance=uid("1.2.3.9"))
    extra = {"extra_sop_classes": receiver_config().extra_sop_classes}
    with wired(**extra) as local, associated(local, contexts=((PRIVATE_CLASS, (EXPLICIT,)),)) as connection:
        sent = object_sent(connection, whole, sop_class_uid=PRIVATE_CLASS, sop_instance_uid="1.2.3.9")
        assert sent == (P_DATA, statuses.SUCCESS)
        connection.sendall(RELEASE_REQUEST)
        assert read_pdu(connection)[0] == A_RELEASE_RP
    assert attackers_rows() == ["1.2.3.9"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize(
    ("sent", "data", "status", "code"),
    [
        (store_command(sop_instance_uid="1.2.3.2"), content("1.2.3.1"), 0xA900, "instance-uid-differs"),
        (store_command(sop_class_uid=MR, sop_instance_uid="1.2.3.1"), content("1.2.3.1"), 0xA900, "class-uid-differs"),
        (store_command(sop_instance_uid="1.2.3.1"), content("1.2.3.1")[:-3], 0xC000, "dataset-truncated"),
        (store_command(sop_instance_uid="1.2.3.1"), b"CANARY random bytes", 0xC000, "dataset-truncated"),
    ],
    ids=["d04-instance", "d05-class", "f02-cut", "f01-random"],
)
def test_d04_d05_object_that_is_not_what_it_says(
    wired: Wired, fast: bool, sent: bytes, data: bytes, status: int, code: str
) -> None:
    good = content("1.2.3.9")
    with wired(fast=fast) as local, associated(local, contexts=EXPLICIT_CT) as connection:
        connection.sendall(data_pdu(3, sent) + data_pdu(0, data[:100]) + data_pdu(2, data[100:]))
        kind, body = read_pdu(connection)
        assert (kind, response_status(body)) == (P_DATA, (1, status))
        connection.sendall(data_pdu(3, store_command(sop_instance_uid="1.2.3.9")) + data_pdu(2, good))
        kind, body = read_pdu(connection)
        assert (kind, response_status(body)) == (P_DATA, (1, 0))
        connection.sendall(RELEASE_REQUEST)
        assert read_pdu(connection)[0] == 6
    assert [row.code for row in QuarantinedObject.objects.all()] == [code]
    assert attackers_rows() == ["1.2.3.9"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fast", BOTH_PATHS)
def test_d15_full_disk_is_a_status_and_heals_by_itself(
    house: House, handlers: StorageHandlers, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's objects are stored meanwhile; the other peer is answered too, and served as soon as there is room."""
    send = data_pdu(3, store_command(sop_instance_uid="1.2.3.9")) + data_pdu(2, content("1.2.3.9"))
    with LocalReceiver(handlers, fast=fast) as local, associated(local, contexts=EXPLICIT_CT) as connection:  # type: ignore[arg-type]
        monkeypatch.setenv("GATEWAY_STORAGE__STOP_SPACE_GB", "1e9")
        connection.sendall(send)
        assert response_status(read_pdu(connection)[1]) == (1, statuses.OUT_OF_RESOURCES)
        with associated(local, contexts=EXPLICIT_CT, calling="OTHER") as other:
            assert object_sent(other, content("1.2.3.8"), sop_instance_uid="1.2.3.8")[1] == statuses.OUT_OF_RESOURCES
        monkeypatch.delenv("GATEWAY_STORAGE__STOP_SPACE_GB")
        connection.sendall(send)
        assert response_status(read_pdu(connection)[1]) == (1, statuses.SUCCESS)
        with associated(local, contexts=EXPLICIT_CT, calling="OTHER") as other:
            assert object_sent(other, content("1.2.3.8"), sop_instance_uid="1.2.3.8")[1] == statuses.SUCCESS
            other.sendall(RELEASE_REQUEST)
            assert read_pdu(other)[0] == A_RELEASE_RP
        connection.sendall(RELEASE_REQUEST)
        assert read_pdu(connection)[0] == 6
    assert house.files("quarantine") == set()
    assert sorted(attackers_rows()) == ["1.2.3.8", "1.2.3.9"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fast", BOTH_PATHS)
@pytest.mark.parametrize("ending", [b"", RELEASE_REQUEST, pdu(0x07, bytes(4)), pdu(0x09, b"")])
def test_p22_object_that_is_cut_leaves_nothing(house: House, wired: Wired, fast: bool, ending: bytes) -> None:
    with wired(fast=fast) as local, associated(local, contexts=EXPLICIT_CT) as connection:
        connection.sendall(data_pdu(3, store_command()) + data_pdu(0, content()[:50]) + ending)
        if ending.startswith(b"\x09"):
            assert abort_reason(connection) == (2, 1)
    assert house.files("incoming") == house.files("quarantine") == set()
    assert attackers_rows() == []
