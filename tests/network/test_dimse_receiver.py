"""One receiver and its peers, over real sockets: what the port hears, what the peer hears, and nothing twice."""

import logging
import threading
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from network.dimse import scu, statuses
from network.dimse.contexts import VERIFICATION
from network.dimse.errors import AssociationError, ConfigurationError
from network.dimse.ports import StoreResult
from network.dimse.receiver import ReceiverConfig
from tests.network.dimse_fixtures import (
    CT_IMAGE,
    FakePort,
    LocalReceiver,
    WholeRequest,
    associate_request,
    data_pdu,
    pdu,
    raw_connection,
    read_pdu,
    store_command,
    wait_until,
    write_instance,
)

A_ASSOCIATE_AC, A_ASSOCIATE_RJ, P_DATA, A_RELEASE_RP, A_ABORT = 2, 3, 4, 6, 7
RELEASE_REQUEST = pdu(0x05, bytes(4))
ABORT_REQUEST = pdu(0x07, bytes(4))


def test_object_arrives_with_the_strings_and_the_bytes_that_were_sent(tmp_path: Path):
    dataset = write_instance(tmp_path / "a.dcm", transfer_syntax_uid=JPEGBaseline8Bit, size_bytes=700_000)
    port = FakePort()
    with LocalReceiver(port) as local:
        report = scu.send_instances([tmp_path / "a.dcm"], **local.peer)
    assert [result.status for result in report.results] == [statuses.SUCCESS]
    (request,) = port.requests
    assert request.dataset == dataset
    assert (request.sop_class_uid, request.abstract_syntax_uid) == (CT_IMAGE, CT_IMAGE)
    assert request.sop_instance_uid == "1.2.3.4"
    assert request.transfer_syntax_uid == JPEGBaseline8Bit
    assert (request.peer.calling_ae_title, request.peer.called_ae_title) == ("MODALITY", "GATEWAY")
    assert request.peer.address == "127.0.0.1"
    assert request.peer in port.opened
    summary = port.summary()
    assert (summary.outcome, summary.reason) == ("released", "")
    assert (summary.objects_stored, summary.objects_refused) == (1, 0)
    assert summary.bytes_received == len(dataset)
    assert summary.opened_at.tzinfo is not None
    assert summary.opened_at <= summary.closed_at


def test_every_call_comes_in_the_associations_own_thread(tmp_path: Path):
    write_instance(tmp_path / "a.dcm")
    port = FakePort()
    with LocalReceiver(port) as local:
        scu.send_instances([tmp_path / "a.dcm"], **local.peer)
        port.summary()
    assert len(port.threads) == 3
    assert set(port.threads) == {f"AcceptorThread-{port.opened[0].association_id}"}


def test_port_hears_of_a_release_before_it_is_answered_if_something_was_stored(tmp_path: Path):
    write_instance(tmp_path / "a.dcm")
    port = FakePort()
    with LocalReceiver(port) as local:
        scu.echo(**local.peer)
        assert port.releasing == []
        scu.send_instances([tmp_path / "a.dcm"], **local.peer)
        assert len(port.releasing) == 1
        wait_until(lambda: len(port.closed) == 2)
    assert {summary.outcome for _peer, summary in port.closed} == {"released"}


def test_abort_by_the_peer_is_told_from_a_lost_connection():
    for sent, expected in ((ABORT_REQUEST, ("aborted", "by-peer")), (b"", ("lost", "connection-closed"))):
        port = FakePort()
        with LocalReceiver(port) as local:
            with raw_connection(local.address, associate_request()) as connection:
                assert read_pdu(connection)[0] == A_ASSOCIATE_AC
                connection.sendall(sent)
            summary = port.summary()
        assert (summary.outcome, summary.reason) == expected


def test_connection_lost_within_an_object_gives_no_object():
    port = FakePort()
    with LocalReceiver(port) as local:
        with raw_connection(local.address, associate_request()) as connection:
            assert read_pdu(connection)[0] == A_ASSOCIATE_AC
            connection.sendall(data_pdu(3, store_command()) + data_pdu(0, b"half an object"))
        assert port.summary().outcome == "lost"
    assert port.requests == []


def test_p22_release_within_an_object_gives_no_object():
    port = FakePort()
    with LocalReceiver(port) as local:
        with raw_connection(local.address, associate_request()) as connection:
            assert read_pdu(connection)[0] == A_ASSOCIATE_AC
            connection.sendall(data_pdu(3, store_command()) + data_pdu(0, b"half") + RELEASE_REQUEST)
            assert read_pdu(connection)[0] == A_RELEASE_RP
        assert port.summary().objects_stored == 0
    assert port.requests == []


def test_refused_object_is_counted_and_answered_with_status_and_comment(tmp_path: Path):
    write_instance(tmp_path / "a.dcm")
    port = FakePort(answer=lambda _request: StoreResult(statuses.OUT_OF_RESOURCES, "disk full"))
    with LocalReceiver(port) as local:
        (result,) = scu.send_instances([tmp_path / "a.dcm"], **local.peer).results
    assert (result.status, result.code, result.comment) == (statuses.OUT_OF_RESOURCES, "refused", "disk full")
    assert not result.is_stored
    assert (port.summary().objects_stored, port.summary().objects_refused) == (0, 1)


def test_d14_port_that_raises_gives_a_failure_without_its_text(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_instance(tmp_path / "a.dcm")

    def fail(request: WholeRequest) -> StoreResult:
        raise ValueError(request.dataset.decode("latin-1"))

    port = FakePort(answer=fail)
    with caplog.at_level(logging.DEBUG), LocalReceiver(port) as local:
        (result,) = scu.send_instances([tmp_path / "a.dcm"], **local.peer).results
    assert result.status == statuses.HANDLER_FAILED
    assert "CANARY" not in result.comment
    assert port.summary().objects_refused == 1
    records = [record for record in caplog.records if record.message == "port failed on an object"]
    assert [record.__dict__["exception"] for record in records] == ["ValueError"]
    assert "CANARY" not in " ".join(str(record.__dict__) for record in caplog.records)


def test_association_survives_a_port_that_fails_on_opening_and_closing(tmp_path: Path):
    write_instance(tmp_path / "a.dcm")

    class Failing(FakePort):
        def association_opened(self, peer: object) -> None:
            raise OSError

        def association_releasing(self, peer: object) -> None:
            raise OSError

        def association_closed(self, peer: object, summary: object) -> None:
            raise OSError

    with LocalReceiver(Failing()) as local:
        assert scu.send_instances([tmp_path / "a.dcm"], **local.peer).stored == 1
        assert scu.send_instances([tmp_path / "a.dcm"], **local.peer).stored == 1


def test_p18_wrong_called_ae_title_is_rejected_with_the_right_reason():
    port = FakePort()
    with LocalReceiver(port, check_called=True) as local:
        scu.echo(**local.peer)
        with pytest.raises(AssociationError) as caught:
            scu.echo(**local.peer | {"called_ae_title": "OTHER"})
        wait_until(lambda: len(port.closed) == 2)
    assert (caught.value.code, caught.value.reason) == ("association-rejected", "called-ae-title-not-recognised")
    assert caught.value.permanent
    peer, summary = port.closed[1]
    assert (peer.called_ae_title, summary.outcome, summary.reason) == ("OTHER", "rejected", "called-ae-title")
    assert len(port.opened) == 1


def test_called_ae_title_does_not_matter_unless_it_is_checked():
    with LocalReceiver(FakePort()) as local:
        assert scu.echo(**local.peer | {"called_ae_title": "OTHER"}) >= 0


def test_over_the_limit_of_associations_is_a_transient_rejection():
    port = FakePort()
    with LocalReceiver(port, max_associations=1) as local:
        with scu.association([scu.VERIFICATION_PROPOSAL], **local.peer):
            with pytest.raises(AssociationError) as caught:
                scu.echo(**local.peer)
            assert (caught.value.reason, caught.value.permanent) == ("local-limit-exceeded", False)
        wait_until(lambda: len(port.closed) == 2)
        scu.echo(**local.peer)
    assert {summary.reason for _peer, summary in port.closed} == {"", "too-many-associations"}


def test_p28_http_on_the_port_is_cut_at_once():
    port = FakePort()
    with LocalReceiver(port, acse_seconds=3600) as local:
        with raw_connection(local.address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
            while connection.recv(4096):
                pass
        wait_until(lambda: [report for report in local.read_reports() if report.event == "closed"])
    assert port.closed == []


def test_p01_silent_connection_ends_at_artim():
    port = FakePort()
    with LocalReceiver(port, acse_seconds=0.3) as local:
        with raw_connection(local.address) as connection:
            assert connection.recv(1) == b""
        wait_until(lambda: [report for report in local.read_reports() if report.event == "closed"])
    assert port.closed == []


def test_half_a_pdu_header_ends_too():
    with (
        LocalReceiver(FakePort(), acse_seconds=0.3) as local,
        raw_connection(local.address, b"\x01\x00\x00") as connection,
    ):
        assert connection.recv(1) == b""


def test_16_silent_connections_do_not_stop_an_echo():
    with LocalReceiver(FakePort(), max_associations=2) as local:
        silent = [raw_connection(local.address) for _ in range(16)]
        opened = [connection.__enter__() for connection in silent]
        assert scu.echo(**local.peer) >= 0
        for connection in opened:
            connection.close()


def test_silent_association_is_aborted_and_told_as_idle():
    port = FakePort()
    with LocalReceiver(port, network_seconds=0.3) as local:
        with raw_connection(local.address, associate_request()) as connection:
            assert read_pdu(connection)[0] == A_ASSOCIATE_AC
            assert read_pdu(connection)[0] == A_ABORT
        assert (port.summary().outcome, port.summary().reason) == ("aborted", "idle")


def test_d01_garbled_command_set_is_answered_with_an_abort(caplog: pytest.LogCaptureFixture):
    port = FakePort()
    with LocalReceiver(port) as local:
        with raw_connection(local.address, associate_request()) as connection:
            assert read_pdu(connection)[0] == A_ASSOCIATE_AC
            connection.sendall(data_pdu(3, b"CANARY^PATIENT garbage"))
            assert read_pdu(connection)[0] == A_ABORT
        assert (port.summary().outcome, port.summary().reason) == ("aborted", "command-garbled")
        assert scu.echo(**local.peer) >= 0
    assert "CANARY" not in " ".join(str(record.__dict__) for record in caplog.records)


def test_message_that_was_not_negotiated_is_answered_with_an_abort():
    find_request = store_command().replace(b"\x02\x00\x00\x00\x01\x00", b"\x02\x00\x00\x00\x20\x00", 1)
    port = FakePort()
    with LocalReceiver(port) as local:
        with raw_connection(local.address, associate_request()) as connection:
            assert read_pdu(connection)[0] == A_ASSOCIATE_AC
            connection.sendall(data_pdu(3, find_request) + data_pdu(2, b"\0\0"))
            assert read_pdu(connection)[0] == A_ABORT
        assert port.summary().reason == "unexpected-message"
    assert port.requests == []


@pytest.mark.parametrize(
    ("sop_class_uid", "sop_instance_uid"), [("1.2.3", "../../../tmp/x"), ("1.2.840.10008.1.1", "1.2.3"), ("1", "01.02")]
)
def test_d05_d06_uids_of_the_command_reach_the_port_unchanged(sop_class_uid: str, sop_instance_uid: str):
    port = FakePort(answer=lambda _request: StoreResult(statuses.DATASET_MISMATCH))
    with LocalReceiver(port) as local, raw_connection(local.address, associate_request()) as connection:
        assert read_pdu(connection)[0] == A_ASSOCIATE_AC
        command = store_command(sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid)
        connection.sendall(data_pdu(3, command) + data_pdu(2, b"xy"))
        kind, body = read_pdu(connection)
    assert kind == P_DATA
    assert statuses.DATASET_MISMATCH.to_bytes(2, "little") in body
    (request,) = port.requests
    assert (request.sop_class_uid, request.sop_instance_uid) == (sop_class_uid, sop_instance_uid)
    assert request.abstract_syntax_uid == CT_IMAGE


def test_storing_in_a_verification_context_is_refused_without_the_port():
    port = FakePort()
    contexts = ((VERIFICATION, (ImplicitVRLittleEndian,)),)
    with (
        LocalReceiver(port) as local,
        raw_connection(local.address, associate_request(contexts=contexts)) as connection,
    ):
        assert read_pdu(connection)[0] == A_ASSOCIATE_AC
        connection.sendall(data_pdu(3, store_command()) + data_pdu(2, b"xy"))
        _kind, body = read_pdu(connection)
    assert statuses.SOP_CLASS_NOT_SUPPORTED.to_bytes(2, "little") in body
    assert port.requests == []


def test_syntax_is_chosen_by_the_peers_order():
    for offered in (
        (JPEGBaseline8Bit, ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        (ImplicitVRLittleEndian, JPEGBaseline8Bit),
        ("1.2.3.4", ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    ):
        port = FakePort()
        with (
            LocalReceiver(port) as local,
            raw_connection(local.address, associate_request(contexts=((CT_IMAGE, offered),))) as connection,
        ):
            assert read_pdu(connection)[0] == A_ASSOCIATE_AC
            connection.sendall(data_pdu(3, store_command()) + data_pdu(2, b"xy"))
            assert read_pdu(connection)[0] == P_DATA
        known = [syntax for syntax in offered if syntax != "1.2.3.4"]
        assert port.requests[0].transfer_syntax_uid == known[0]


def test_s06_stop_finishes_the_object_under_way_and_refuses_the_next(tmp_path: Path):
    write_instance(tmp_path / "a.dcm")
    write_instance(tmp_path / "b.dcm", sop_instance_uid="1.2.3.5")
    storing, go_on = threading.Event(), threading.Event()

    def slow(_request: WholeRequest) -> StoreResult:
        storing.set()
        assert go_on.wait(20)
        return StoreResult(0x0000)

    port = FakePort(answer=slow)
    results: list[scu.SendResult] = []
    local = LocalReceiver(port)
    with local:
        idle = raw_connection(local.address, associate_request())
        with idle as idle_connection:
            assert read_pdu(idle_connection)[0] == A_ASSOCIATE_AC
            failures: list[AssociationError] = []

            def send() -> None:
                try:
                    scu.send_instances([tmp_path / "a.dcm", tmp_path / "b.dcm"], on_result=results.append, **local.peer)
                except AssociationError as exc:
                    failures.append(exc)

            sender = threading.Thread(target=send)
            sender.start()
            assert storing.wait(20)
            local.receiver.stop(grace_seconds=20)
            assert read_pdu(idle_connection)[0] == A_ABORT  # idle: ended at once, while the other is still busy
            go_on.set()
            sender.join(20)
        local.serving.join(20)
        assert not local.serving.is_alive()
    assert [result.status for result in results] == [statuses.SUCCESS]
    assert [failure.code for failure in failures] == ["association-aborted"]
    assert {summary.reason for _peer, summary in port.closed} == {"stopping"}
    assert len(port.requests) == 1


def test_stop_ends_within_its_grace_when_an_object_never_ends():
    port = FakePort()
    with LocalReceiver(port) as local, raw_connection(local.address, associate_request()) as connection:
        assert read_pdu(connection)[0] == A_ASSOCIATE_AC
        connection.sendall(data_pdu(3, store_command()) + data_pdu(0, b"and then silence"))
        local.receiver.stop(grace_seconds=0.3)
        local.serving.join(20)
        assert not local.serving.is_alive()
        assert port.summary().reason == "stopping"
    assert port.requests == []


def test_reports_tell_the_acceptor_of_every_connection(tmp_path: Path):
    dataset = write_instance(tmp_path / "a.dcm")
    with LocalReceiver(FakePort()) as local:
        scu.send_instances([tmp_path / "a.dcm"], **local.peer)
    events = [report.event for report in local.reports if report.event != "progress"]
    assert events.index("over") < events.index("closed")  # its place is free before the peer hears of the release
    events.remove("over")
    assert events == ["ready", "opened", "closed", "stopping"] or events == ["ready", "opened", "stopping", "closed"]
    closed = next(report for report in local.reports if report.event == "closed")
    assert (closed.connection, closed.objects_stored, closed.bytes_received) == (1, 1, len(dataset))
    assert closed.calling_ae_title == "MODALITY"


def test_title_that_the_standard_forbids_is_refused():
    for title in ("", "   ", "SEVENTEEN LETTERS", "BACK\\SLASH", "ÄRZTE"):
        with pytest.raises(ConfigurationError) as caught:
            ReceiverConfig(ae_title=title)
        assert caught.value.code == "ae-title-invalid"
