"""Our own requestor: exactly the bytes of the file go out, and every way to fail has its own name."""

import socket
import threading
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from network.dimse import scu, statuses
from network.dimse.contexts import storage_sop_classes
from network.dimse.errors import AssociationError, ConfigurationError
from network.dimse.part10_head import sendable_file
from network.dimse.ports import StoreResult
from network.dimse.scu import Timeouts
from tests.network.dimse_fixtures import FakePort, LocalReceiver, pdu, write_instance

BUNDLED = ["CT_small.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "JPEG2000.dcm", "ExplVR_BigEnd.dcm"]


def test_bytes_on_the_wire_are_the_bytes_of_the_file():
    files = [Path(get_testdata_file(name)) for name in BUNDLED]
    port = FakePort()
    with LocalReceiver(port) as local:
        report = scu.send_instances(files, **local.peer)
    assert report.stored == len(files)
    for path, request in zip(files, port.requests, strict=True):
        head = sendable_file(path)
        assert head is not None
        assert request.dataset == path.read_bytes()[head.dataset_offset :]
        assert request.transfer_syntax_uid == head.transfer_syntax_uid
    assert {request.transfer_syntax_uid for request in port.requests} >= {
        ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, JPEG2000
    }  # fmt: skip


def test_results_come_in_order_while_sending(tmp_path: Path):
    paths = [tmp_path / f"{number}.dcm" for number in range(5)]
    for number, path in enumerate(paths):
        write_instance(path, sop_instance_uid=f"1.2.{number}")
    heard: list[scu.SendResult] = []
    with LocalReceiver(FakePort()) as local:
        report = scu.send_instances(paths, on_result=heard.append, **local.peer)
    assert heard == report.results
    assert [result.path for result in heard] == paths
    assert all(result.is_stored and result.bytes_sent for result in heard)
    assert report.associations == 1


def test_more_than_128_contexts_take_several_associations(tmp_path: Path):
    paths = []
    for number, sop_class in enumerate(storage_sop_classes()[:130]):
        paths.append(tmp_path / f"{number}.dcm")
        write_instance(paths[-1], sop_class_uid=sop_class, sop_instance_uid=f"1.2.{number}")
    port = FakePort()
    with LocalReceiver(port) as local:
        report = scu.send_instances(paths, **local.peer)
    assert (report.stored, report.associations) == (130, 2)
    assert len(port.opened) == 2


def test_file_of_a_class_that_the_peer_does_not_take_is_reported_and_the_others_sent(tmp_path: Path):
    write_instance(tmp_path / "private.dcm", sop_class_uid="1.2.3.4.5.6")
    write_instance(tmp_path / "good.dcm")
    with LocalReceiver(FakePort()) as local:
        report = scu.send_instances([tmp_path / "private.dcm", tmp_path / "good.dcm"], **local.peer)
        alone = scu.send_instances([tmp_path / "private.dcm"], **local.peer)
    assert [result.code for result in report.results] == ["context-rejected", ""]
    assert [result.code for result in alone.results] == ["context-rejected"]


def test_files_that_are_not_part_10_are_reported(tmp_path: Path):
    good = tmp_path / "good.dcm"
    write_instance(good)
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "text.dcm").write_text("no DICOM" * 100)
    (tmp_path / "cut.dcm").write_bytes(good.read_bytes()[:150])
    (tmp_path / "no-dataset.dcm").write_bytes(good.read_bytes()[: sendable_file(good).dataset_offset])  # type: ignore[union-attr]
    bad = [tmp_path / name for name in ("empty.dcm", "text.dcm", "cut.dcm", "no-dataset.dcm", "missing.dcm")]
    with LocalReceiver(FakePort()) as local:
        report = scu.send_instances([*bad, good], **local.peer)
    assert [result.code for result in report.results] == ["file-unreadable"] * 5 + [""]


def test_warning_counts_as_stored(tmp_path: Path):
    write_instance(tmp_path / "a.dcm")
    with LocalReceiver(FakePort(answer=lambda _request: StoreResult(0xB000))) as local:
        (result,) = scu.send_instances([tmp_path / "a.dcm"], **local.peer).results
    assert result.is_stored
    assert result.code == ""


def test_refused_connection_has_a_name():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(AssociationError) as caught:
        scu.echo(address="127.0.0.1", port=port, calling_ae_title="A", called_ae_title="B")
    assert caught.value.code == "connection-refused"


def test_unknown_host_has_a_name():
    with pytest.raises(AssociationError) as caught:
        scu.echo(address="no-such-host.invalid", port=104, calling_ae_title="A", called_ae_title="B")
    assert caught.value.code == "address-unknown"


def test_bad_title_is_our_fault_and_permanent():
    with pytest.raises(ConfigurationError) as caught:
        scu.echo(address="127.0.0.1", port=104, calling_ae_title="SEVENTEEN LETTERS", called_ae_title="B")
    assert caught.value.code == "ae-title-invalid"


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        (pdu(0x03, bytes([0, 1, 1, 7])), "association-rejected", "called-ae-title-not-recognised"),
        (pdu(0x03, bytes([0, 1, 1, 3])), "association-rejected", "calling-ae-title-not-recognised"),
        (pdu(0x03, bytes([0, 2, 3, 1])), "association-rejected", "temporary-congestion"),
        (pdu(0x07, bytes([0, 0, 0, 0])), "association-aborted", ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "response-invalid", ""),
        (b"", "connection-lost", ""),
        (None, "association-timeout", ""),
    ],
)
def test_every_answer_to_an_association_request_has_a_name(answer: bytes | None, code: str, reason: str):
    with _AnsweringPeer(answer) as peer, pytest.raises(AssociationError) as caught:
        scu.echo(timeouts=Timeouts(acse_seconds=0.5 if answer is None else 20.0), **peer.arguments)
    assert (caught.value.code, caught.value.reason) == (code, reason)


def test_peer_that_does_not_answer_a_store_is_a_response_timeout(tmp_path: Path):
    write_instance(tmp_path / "a.dcm")
    go_on = threading.Event()

    def never(_request: object) -> StoreResult:
        go_on.wait(20)
        return StoreResult(statuses.SUCCESS)

    with LocalReceiver(FakePort(answer=never)) as local:
        with pytest.raises(AssociationError) as caught:
            scu.send_instances([tmp_path / "a.dcm"], timeouts=Timeouts(dimse_seconds=0.3), **local.peer)
        go_on.set()
    assert caught.value.code == "response-timeout"


def test_connection_lost_in_the_middle_tells_what_was_stored(tmp_path: Path):
    write_instance(tmp_path / "a.dcm")
    write_instance(tmp_path / "b.dcm", sop_instance_uid="1.2.3.5")
    heard: list[scu.SendResult] = []
    port = FakePort()
    with LocalReceiver(port) as local:

        def cut_at_the_second(request: object) -> StoreResult:
            if len(port.requests) == 2:
                for association in list(local.receiver._server._associations):
                    association.disconnect()
            return StoreResult(statuses.SUCCESS)

        port.answer = cut_at_the_second
        with pytest.raises(AssociationError) as caught:
            scu.send_instances([tmp_path / "a.dcm", tmp_path / "b.dcm"], on_result=heard.append, **local.peer)
    assert caught.value.code == "connection-lost"
    assert [result.path.name for result in heard] == ["a.dcm"]


def test_implicit_little_endian_is_sent_as_it_is(tmp_path: Path):
    dataset = write_instance(tmp_path / "a.dcm", transfer_syntax_uid=ImplicitVRLittleEndian, size_bytes=33_000)
    port = FakePort()
    with LocalReceiver(port, max_pdu_bytes=4096) as local:
        scu.send_instances([tmp_path / "a.dcm"], **local.peer)
    assert port.requests[0].dataset == dataset


def test_deflated_data_set_may_begin_like_an_element_of_the_file_meta(tmp_path: Path):
    """Found by fuzzing: an empty block at the beginning of a deflated stream is 02 00."""
    path = tmp_path / "deflated.dcm"
    dataset = write_instance(path, transfer_syntax_uid=DeflatedExplicitVRLittleEndian)
    head = path.read_bytes()[: -len(dataset)]
    path.write_bytes(head + b"\2\0UI\1\0more")
    found = sendable_file(path)
    assert found is not None
    assert found.dataset_offset == len(head)


class _AnsweringPeer:
    """Takes one connection, reads an association request, sends `answer` and closes; None: stays silent."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.arguments = {
            "address": "127.0.0.1", "port": self._server.getsockname()[1],
            "calling_ae_title": "A", "called_ae_title": "B",
        }  # fmt: skip

    def _run(self) -> None:
        connection, _address = self._server.accept()
        with connection:
            connection.recv(65_536)
            if self._answer is None:
                self._over.wait(20)
            else:
                connection.sendall(self._answer)

    def __enter__(self) -> "_AnsweringPeer":
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join(20)
        self._server.close()
