"""Endpoints come and go while associations live; TLS files are tried; other processes can ask and end."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest

from network.dimse import scu
from network.dimse.access import Policy
from network.dimse.channel import Ticket, socket_send
from network.dimse.control import ControlError, ControlServer, control_call
from network.dimse.endpoints import Endpoint, Listeners
from network.dimse.errors import ConfigurationError
from network.dimse.part10_head import sendable_file
from network.dimse.scu import association
from network.dimse.scu.store import store_each
from network.dimse.tls import HandshakeError, TlsSettings, context_of, handshake
from tests.gateway_harness import free_ports
from tests.network.certificates import issue
from tests.network.dimse_fixtures import (
    FakePort,
    Gateway,
    LocalReceiver,
    associate_request,
    read_pdu,
    wait_until,
    write_instance,
)

ECHO = [scu.VERIFICATION_PROPOSAL]


def endpoint(port: int, **values) -> Endpoint:
    return Endpoint("127.0.0.1", port, ae_title="GATEWAY", **values)


def peer(port: int) -> dict:
    return {"address": "127.0.0.1", "port": port, "calling_ae_title": "MODALITY", "called_ae_title": "GATEWAY"}


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_association_outlives_its_endpoint_and_the_new_one_serves(tmp_path: Path):
    first, second = free_ports(2)
    write_instance(tmp_path / "a.dcm")
    store = [scu.Proposal("1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.1.2.1",))]
    with Gateway(tmp_path, endpoints=[endpoint(first)]) as gateway, association(store, **peer(first)) as opened:
        gateway.acceptor.endpoints_set([endpoint(second, name="other")])
        wait_until(lambda: listens(second) and not listens(first))
        ((_file, answer),) = store_each(opened, [sendable_file(tmp_path / "a.dcm")])
        assert answer.is_stored
        scu.echo(**peer(second))
        gateway.acceptor.endpoints_set([endpoint(first), endpoint(second, name="other")])
        wait_until(lambda: listens(first))
        scu.echo(**peer(first))
        scu.echo(**peer(second))


def test_endpoint_that_cannot_be_had_keeps_no_other_out_and_is_tried_again(tmp_path: Path):
    first, second = free_ports(2)
    with Gateway(tmp_path, endpoints=[endpoint(first)]) as gateway:
        with socket.create_server(("127.0.0.1", 0)) as blocker:
            blocked = blocker.getsockname()[1]
            wanted = [endpoint(first), endpoint(blocked, name="blocked"), endpoint(second, name="other")]
            gateway.acceptor.endpoints_set(wanted)
            wait_until(lambda: listens(second))
            assert {name: error.code for name, error in gateway.acceptor.endpoints_failed().items()} == {
                "blocked": "port-in-use"
            }
            scu.echo(**peer(first))
        gateway.acceptor.endpoints_set(wanted)
        wait_until(lambda: gateway.acceptor.endpoints_failed() == {})
        scu.echo(**peer(blocked))


def test_endpoint_that_changes_its_title_keeps_its_socket_and_who_waits_there():
    (port,) = free_ports(1)
    listeners = Listeners()
    listeners.open_all([endpoint(port)])
    (_, before), *_ = listeners.items()
    with socket.create_connection(("127.0.0.1", port)):
        listeners.follow([Endpoint("127.0.0.1", port, ae_title="OTHER")])
        ((now, after),) = listeners.items()
        assert (after is before, now.ae_title) == (True, "OTHER")
        wait_until(lambda: _accepted(after))
    listeners.follow([Endpoint("0.0.0.0", port)])
    ((_, wide),) = listeners.items()
    assert wide.getsockname() == ("0.0.0.0", port)  # the narrower one made room first
    listeners.close()


def _accepted(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_each_endpoint_has_an_ae_title_of_its_own(tmp_path: Path):
    first, second = free_ports(2)
    endpoints = [endpoint(first), Endpoint("127.0.0.1", second, name="other", ae_title="OTHER")]
    with Gateway(tmp_path, endpoints=endpoints, policy=Policy(check_called=True)):
        scu.echo(**peer(first))
        scu.echo(**peer(second) | {"called_ae_title": "OTHER"})
        with pytest.raises(scu.AssociationError) as caught:
            scu.echo(**peer(second))
    assert caught.value.reason == "called-ae-title-not-recognised"


def test_rules_that_change_hold_for_the_next_and_leave_the_living(tmp_path: Path):
    with (
        Gateway(tmp_path, endpoints=[endpoint(0)], policy=Policy()) as gateway,
        association(ECHO, **gateway.peer) as one,
    ):
        gateway.acceptor.rules_set(
            policy=Policy(blocked_calling=frozenset({"MODALITY"})), limits=gateway.acceptor._limits
        )

        def refused() -> bool:
            try:
                scu.echo(**gateway.peer)
            except scu.AssociationError as error:
                return error.reason == "calling-ae-title-not-recognised"
            return False

        wait_until(refused)
        scu.echo_on(one)


def test_ended_association_hears_an_abort_and_others_go_on(tmp_path: Path):
    with Gateway(tmp_path, endpoints=[endpoint(0)], policy=Policy()) as gateway:
        with (
            association(ECHO, **gateway.peer) as other,
            contextlib.suppress(scu.AssociationError),
            association(ECHO, **gateway.peer) as one,
        ):
            rows = wait_until(lambda: [row for row in gateway.acceptor.live() if row.association_id][1:])
            assert gateway.acceptor.end(rows[0].association_id)
            assert wait_until(lambda: not one.is_quiet())
            with pytest.raises(scu.AssociationError) as caught:
                scu.echo_on(one)
            assert caught.value.code == "association-aborted"
            scu.echo_on(other)
        assert not gateway.acceptor.end("")
        assert not gateway.acceptor.end("unknown")
        (ended,) = [event for event in gateway.events("closed") if event["outcome"] == "aborted"]
        assert ended["reason"] == "ended-by-operator"


def test_control_socket_answers_below_a_path_of_any_length(tmp_path: Path):
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    path = deep / "listeners.sock"
    with pytest.raises(ControlError):
        control_call(path, {})
    path.touch()  # left by a process that was killed
    server = ControlServer(path, lambda request: {"echo": request["word"]})
    server.start()
    try:
        assert path.stat().st_mode & 0o777 == 0o600
        assert control_call(path, {"word": "x"}) == {"echo": "x"}
        with pytest.raises(ControlError):
            control_call(path, {})  # its answer failed: the server goes on
        assert control_call(path, {"word": "y"}) == {"echo": "y"}
    finally:
        server.stop()
    assert not path.exists()
    with pytest.raises(ControlError):
        control_call(path, {"word": "z"})


def test_certificate_that_is_replaced_is_used_without_a_restart(tmp_path: Path):
    first, second = issue(tmp_path, "first"), issue(tmp_path, "second")
    served = tmp_path / "served.pem"
    served.write_bytes(first.pem.read_bytes())
    settings = TlsSettings(str(served))
    before = context_of(settings)
    assert context_of(settings) is before
    (tmp_path / "new").write_bytes(second.pem.read_bytes())
    (tmp_path / "new").replace(served)
    assert context_of(settings) is not before


def test_pfx_and_encrypted_key_serve_with_their_password_only(tmp_path: Path):
    house = issue(tmp_path, "house")
    pfx = house.pfx(tmp_path / "house.pfx", "secret word")
    settings = TlsSettings(str(pfx), password="secret word")
    ours, theirs = socket.socketpair()
    client = ssl.create_default_context(cafile=str(house.public))
    client.check_hostname = False
    found: list[bytes | None] = []

    def connect() -> None:
        with client.wrap_socket(theirs) as secured:
            found.append(secured.getpeercert(binary_form=True))

    thread = threading.Thread(target=connect)
    thread.start()
    secured, fingerprint = handshake(ours, settings)
    thread.join(10)
    secured.close()
    assert fingerprint == ""
    assert len(found) == 1
    for wrong in ("", "other"):
        with pytest.raises(ConfigurationError) as caught:
            context_of(TlsSettings(str(pfx), password=wrong))
        assert caught.value.code == "tls-certificate-invalid"
        assert "secret" not in str(caught.value) + repr(settings)


def test_files_that_are_missing_or_do_not_belong_together_are_clear_errors(tmp_path: Path):
    one, other = issue(tmp_path, "one"), issue(tmp_path, "other")
    with pytest.raises(ConfigurationError) as missing:
        context_of(TlsSettings(str(tmp_path / "nowhere.pem")))
    with pytest.raises(ConfigurationError) as mixed:
        context_of(TlsSettings(str(one.public), private_key=str(other.pem)))
    assert (missing.value.code, mixed.value.code) == ("tls-file-unreadable", "tls-certificate-invalid")
    assert "nowhere.pem" in str(missing.value)


def test_handshake_that_fails_closes_the_connection(tmp_path: Path):
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(HandshakeError) as caught:
            handshake(ours, TlsSettings(str(issue(tmp_path, "x").pem)))
        assert caught.value.code == "tls-handshake-failed"
        theirs.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            while theirs.recv(100):
                pass


def test_receiver_that_stops_does_not_wait_for_a_verdict_that_cannot_come():
    port = FakePort()
    with (
        LocalReceiver(port, acse_seconds=600.0) as local,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0] as theirs,
    ):
        socket_send(local.channel, Ticket(77, "10.0.0.1", 5, ask=True), theirs)
        ours.sendall(associate_request())
        wait_until(lambda: [report for report in local.read_reports() if report.event == "asked"])
        local.receiver.stop(grace_seconds=60.0)
        ours.settimeout(20)
        kind, body = read_pdu(ours)
    assert (kind, body[1:]) == (0x03, bytes((2, 3, 1)))
    assert port.summary().reason == "stopping"
