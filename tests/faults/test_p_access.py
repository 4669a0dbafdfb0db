"""FAULTS: who may come in, how many, and in which way. Raw sockets against real receiver processes; another peer is
served meanwhile, every time.
"""

import contextlib
import os
import signal
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from network.dimse import scu
from network.dimse.acceptor import ConnectionLimits
from network.dimse.access import KnownPeer, Policy, networks_parse
from network.dimse.endpoints import Endpoint
from network.dimse.floods import Refusal
from network.dimse.tls import HANDSHAKE_SECONDS, TlsSettings
from tests.network.certificates import Issued, issue
from tests.network.dimse_fixtures import Gateway, associate_request, raw_connection, read_pdu, wait_until

ACCEPTED, REJECTED = 0x02, 0x03
NEIGHBOUR = "127.0.0.2"
PLAIN = Endpoint("127.0.0.1", 0, ae_title="GATEWAY")
ASSOCIATION_ENDS = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))


def gateway_of(directory: Path, **acceptor) -> Gateway:
    acceptor = {"endpoints": [PLAIN], "policy": Policy()} | acceptor
    options = {"acse_seconds": 5.0, "network_seconds": 60.0} | acceptor.pop("options", {})
    return Gateway(directory, options=options, **acceptor)


@contextlib.contextmanager
def calling(endpoint: tuple[str, int], *sent: bytes, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A raw peer at a loopback address of its own choice."""
    with socket.create_connection(endpoint, timeout=20, source_address=(source, 0)) as connection:
        for data in sent:
            connection.sendall(data)
        yield connection


def answer(connection: socket.socket) -> tuple[int, tuple[int, int, int] | None]:
    """The kind of the next PDU, and (result, source, diagnostic) of a rejection."""
    kind, body = read_pdu(connection)
    return kind, struct.unpack("xBBB", body) if kind == REJECTED else None


def request(*, calling_ae_title: str = "RAW", called: str = "GATEWAY") -> bytes:
    whole = associate_request(called=called)
    return whole[:26] + calling_ae_title.ljust(16).encode() + whole[42:]


def served(gateway: Gateway, *, source: str = NEIGHBOUR) -> bool:
    """Another peer's association is accepted and released."""
    with calling(gateway.endpoints[0], request(calling_ae_title="NEIGHBOUR"), source=source) as connection:
        kind, _ = answer(connection)
        connection.sendall(ASSOCIATION_ENDS)
        return kind == ACCEPTED and answer(connection)[0] == 0x06


def counted(gateway: Gateway, **wanted: int) -> dict[str, Refusal]:
    """The refusals by reason, once each of these has been counted so often; more is a failure."""
    found: dict[str, Refusal] = {}

    def complete() -> bool:
        for one in gateway.acceptor.refusals.take():
            known = found.get(one.reason)
            found[one.reason] = replace(one, count=one.count + (known.count if known else 0))
        return all(found[name].count >= count if name in found else False for name, count in reasons.items())

    reasons = {name.replace("_", "-"): count for name, count in wanted.items()}
    wait_until(complete)
    assert {name: found[name].count for name in reasons} == reasons
    return found


def receiver_pid(gateway: Gateway) -> int:
    return gateway.events("started")[-1]["pid"]


def test_p01_silent_connections_are_capped_and_closed_and_others_are_served(tmp_path: Path):
    limits = ConnectionLimits(in_all=60, per_address=20)
    with gateway_of(tmp_path, limits=limits, options={"acse_seconds": 1.0}) as gateway, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(raw_connection(gateway.endpoints[0])) for _ in range(60)]
        assert served(gateway)
        counted(gateway, too_many_connections_of_address=40)
        assert psutil.Process(receiver_pid(gateway)).num_threads() < 60
        for connection in silent:
            assert connection.recv(1) == b""  # the ones beyond the cap at once, the others at ARTIM
        wait_until(lambda: not gateway.acceptor.live())


def test_p18_unknown_titles_are_rejected_with_the_right_reason_and_counted(tmp_path: Path):
    policy = Policy(accept_unknown=False, allowed_calling=frozenset({"NEIGHBOUR"}), check_called=True)
    with gateway_of(tmp_path, policy=policy) as gateway:
        with raw_connection(gateway.endpoints[0], request()) as connection:
            assert answer(connection) == (REJECTED, (1, 1, 3))
        with raw_connection(gateway.endpoints[0], request(calling_ae_title="NEIGHBOUR", called="X")) as connection:
            assert answer(connection) == (REJECTED, (1, 1, 7))
        assert served(gateway)
        found = counted(gateway, calling_ae_unknown=1, called_ae_unknown=1)
        assert found["calling-ae-unknown"].calling_ae_titles == ("RAW",)
        told = {event["reason"] for event in gateway.events("closed") if event["outcome"] == "rejected"}
        assert told == {"calling-ae-unknown", "called-ae-unknown"}


def test_p18_networks_that_may_not_connect_cost_no_thread(tmp_path: Path):
    with gateway_of(tmp_path, policy=Policy(networks=networks_parse(["127.0.0.2"]))) as gateway:
        with raw_connection(gateway.endpoints[0]) as connection:
            assert connection.recv(1) == b""
        counted(gateway, network_not_allowed=1)
        assert gateway.events("closed") == []
        assert served(gateway)


def test_p19_known_ae_from_the_wrong_address_is_rejected(tmp_path: Path):
    peers = {"CT_1": KnownPeer("CT_1", networks=networks_parse([NEIGHBOUR]))}
    with gateway_of(tmp_path, policy=Policy(peers=peers)) as gateway:
        with calling(gateway.endpoints[0], request(calling_ae_title="CT_1")) as connection:
            assert answer(connection) == (REJECTED, (1, 1, 3))
        with calling(gateway.endpoints[0], request(calling_ae_title="CT_1"), source=NEIGHBOUR) as connection:
            assert answer(connection)[0] == ACCEPTED
        assert counted(gateway, address_of_another=1)["address-of-another"].calling_ae_titles == ("CT_1",)


@pytest.fixture
def house(tmp_path: Path) -> dict[str, Issued]:
    ca = issue(tmp_path, "ca")
    return {"ca": ca, **{name: issue(tmp_path, name, by=ca) for name in ("gateway", "ct", "mr")}}


def tls_endpoint(house: dict[str, Issued], **settings) -> Endpoint:
    tls = TlsSettings(str(house["gateway"].pem), **settings)
    return Endpoint("127.0.0.1", 0, name="tls", ae_title="GATEWAY", tls=tls)


@contextlib.contextmanager
def secured(
    address: tuple[str, int], house: dict[str, Issued], *, who: str = "", **context_values
) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(house["ca"].public))
    for name, value in context_values.items():
        setattr(context, name, value)
    if who:
        context.load_cert_chain(house[who].pem)
    with (
        socket.create_connection(address, timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        yield connection


def test_p19_known_ae_with_anothers_certificate_is_rejected(tmp_path: Path, house: dict[str, Issued]):
    peers = {
        title: KnownPeer(title, certificates=frozenset({house[who].fingerprint}))
        for title, who in (("CT_1", "ct"), ("MR_1", "mr"))
    }
    endpoint = tls_endpoint(house, client_certificates="optional", client_ca=str(house["ca"].public))
    outcomes = {}
    with gateway_of(tmp_path, endpoints=[PLAIN, endpoint], policy=Policy(peers=peers)) as gateway:
        for title, who in (("CT_1", "ct"), ("CT_1", "mr"), ("CT_1", ""), ("OTHER", "mr"), ("OTHER", "")):
            with secured(gateway.endpoints[1], house, who=who) as connection:
                connection.sendall(request(calling_ae_title=title))
                outcomes[title, who] = answer(connection)
        with raw_connection(gateway.endpoints[0], request(calling_ae_title="CT_1")) as connection:
            assert answer(connection) == (REJECTED, (1, 1, 3))  # nor does the way without TLS help
        counted(gateway, certificate_of_another=2, certificate_missing=2)
        assert served(gateway)
    assert outcomes.pop(("CT_1", "ct")) == (ACCEPTED, None)
    assert outcomes.pop(("OTHER", "")) == (ACCEPTED, None)
    assert set(outcomes.values()) == {(REJECTED, (1, 1, 3))}


def test_p19_certificate_of_a_stranger_does_not_pass_the_handshake(tmp_path: Path, house: dict[str, Issued]):
    shown = house | {"stranger": issue(tmp_path, "stranger")}
    endpoint = tls_endpoint(house, client_certificates="required", client_ca=str(house["ca"].public))
    with gateway_of(tmp_path, endpoints=[PLAIN, endpoint]) as gateway:
        for who in ("", "stranger"):
            with contextlib.suppress(OSError), secured(gateway.endpoints[1], shown, who=who) as connection:
                connection.sendall(request())  # in TLS 1.3 the client learns of it with its first read
                assert connection.recv(1) == b""
        counted(gateway, tls_handshake_failed=2)
        with secured(gateway.endpoints[1], house, who="ct") as connection:
            connection.sendall(request())
            assert answer(connection)[0] == ACCEPTED
        assert served(gateway)


def test_p20_flood_is_cut_to_its_rate_and_costs_nothing_that_stays(tmp_path: Path):
    limits = ConnectionLimits(per_second=20)
    with gateway_of(tmp_path, limits=limits) as gateway:
        assert served(gateway)
        receiver = psutil.Process(receiver_pid(gateway))
        descriptors = receiver.num_fds()
        for _ in range(1000):
            with contextlib.suppress(OSError), raw_connection(gateway.endpoints[0]):
                pass
        assert served(gateway)
        (refused,) = [
            one for one in gateway.acceptor.refusals.take() if one.reason == "too-many-connections-per-second"
        ]
        assert refused.address == "127.0.0.1"
        assert refused.count >= 500
        wait_until(lambda: not gateway.acceptor.live())
        wait_until(lambda: receiver.num_fds() <= descriptors + 2 and receiver.num_threads() < 12)


def test_p21_peer_that_opens_many_and_idles_is_capped_and_told(tmp_path: Path):
    policy = Policy(max_associations=6, max_associations_per_peer=3)
    with gateway_of(tmp_path, policy=policy, receivers=2) as gateway, contextlib.ExitStack() as stack:
        wait_until(lambda: len(gateway.events("started")) == 2)
        answers = [answer(stack.enter_context(raw_connection(gateway.endpoints[0], request()))) for _ in range(5)]
        assert answers == [(ACCEPTED, None)] * 3 + [(REJECTED, (2, 3, 2))] * 2
        assert served(gateway)
        for source in (NEIGHBOUR, "127.0.0.3", "127.0.0.4"):
            assert answer(stack.enter_context(calling(gateway.endpoints[0], request(), source=source)))[0] == ACCEPTED
        with calling(gateway.endpoints[0], request(), source="127.0.0.5") as connection:
            assert answer(connection) == (REJECTED, (2, 3, 2))
        counted(gateway, too_many_associations_of_peer=2, too_many_associations=1)


def test_p21_place_is_free_as_soon_as_the_release_is_answered(tmp_path: Path):
    with gateway_of(tmp_path, policy=Policy(max_associations_per_peer=1)) as gateway:
        for _ in range(30):
            scu.echo(**gateway.peer)
        with raw_connection(gateway.endpoints[0], request()) as connection:
            assert answer(connection)[0] == ACCEPTED
            with raw_connection(gateway.endpoints[0], request()) as second:
                assert answer(second)[0] == REJECTED
            assert served(gateway)


def test_p21_idle_associations_are_ended(tmp_path: Path):
    with gateway_of(tmp_path, options={"network_seconds": 1.0}) as gateway:
        with raw_connection(gateway.endpoints[0], request()) as connection:
            assert answer(connection)[0] == ACCEPTED
            assert served(gateway)
            assert answer(connection)[0] == 0x07
        wait_until(lambda: not gateway.acceptor.live())


def test_p25_silent_connection_on_the_tls_port_holds_up_nobody(tmp_path: Path, house: dict[str, Issued]):
    with gateway_of(tmp_path, endpoints=[PLAIN, tls_endpoint(house)]) as gateway, contextlib.ExitStack() as stack:
        began = time.monotonic()
        silent = [stack.enter_context(raw_connection(gateway.endpoints[1])) for _ in range(10)]
        trickle = stack.enter_context(raw_connection(gateway.endpoints[1], b"\x16\x03\x01\x02\x00\x01"))
        with secured(gateway.endpoints[1], house) as connection:
            connection.sendall(request())
            assert answer(connection)[0] == ACCEPTED
        assert served(gateway)
        trickle.sendall(b"\x00")  # a byte now and then does not prolong it
        for connection in [*silent, trickle]:
            assert connection.recv(1) == b""
        assert HANDSHAKE_SECONDS - 1 <= time.monotonic() - began < HANDSHAKE_SECONDS * 3
        counted(gateway, tls_handshake_timeout=11)
        wait_until(lambda: not gateway.acceptor.live())


def client_hello(version: bytes) -> bytes:
    """A ClientHello that offers this version at most, with a suite of every kind; raw, as OpenSSL here refuses to."""
    suites = bytes.fromhex("c014c013c00ac009003900330035002f000ac02fc030c02bc02c")
    groups = bytes.fromhex("000a000400020017000b00020100000d000400020403")
    body = version + os.urandom(32) + b"\0" + struct.pack(">H", len(suites)) + suites + b"\x01\0"
    body += struct.pack(">H", len(groups)) + groups
    message = b"\x01" + struct.pack(">L", len(body))[1:] + body
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


@pytest.mark.parametrize(("version", "refused"), [(b"\x03\x01", True), (b"\x03\x02", True), (b"\x03\x03", False)])
def test_p26_old_tls_versions_are_refused(tmp_path: Path, house: dict[str, Issued], version: bytes, refused: bool):
    with gateway_of(tmp_path, endpoints=[PLAIN, tls_endpoint(house)]) as gateway:
        with raw_connection(gateway.endpoints[1], client_hello(version)) as connection:
            record = connection.recv(5)
            content = connection.recv(2)
            if refused:
                assert (record[0], content) == (0x15, b"\x02\x46")  # fatal alert: protocol_version
            else:
                assert (record[0], content[0]) == (0x16, 0x02)  # ServerHello: the same hello in TLS 1.2 is good
        assert served(gateway)


def test_p26_weak_suites_and_the_version_below_the_minimum_are_refused(tmp_path: Path, house: dict[str, Issued]):
    strict = Endpoint("127.0.0.1", 0, name="tls13", tls=TlsSettings(str(house["gateway"].pem), min_version="1.3"))
    with gateway_of(tmp_path, endpoints=[PLAIN, tls_endpoint(house), strict]) as gateway:
        with secured(gateway.endpoints[2], house) as connection:
            assert connection.version() == "TLSv1.3"
        with pytest.raises(ssl.SSLError):
            secured(gateway.endpoints[2], house, maximum_version=ssl.TLSVersion.TLSv1_2).__enter__()
        weak = ssl.create_default_context(cafile=str(house["ca"].public))
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers("AES128-SHA:ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0")
        with (
            pytest.raises(ssl.SSLError),
            socket.create_connection(gateway.endpoints[1], timeout=20) as plain,
            weak.wrap_socket(plain, server_hostname="127.0.0.1"),
        ):
            pass
        assert served(gateway)


def test_s11_receiver_without_descriptors_recovers_and_the_acceptor_goes_on(tmp_path: Path):
    with gateway_of(tmp_path) as gateway:
        assert served(gateway)
        pid = receiver_pid(gateway)
        os.kill(pid, signal.SIGUSR1)  # no more descriptors
        wait_until(lambda: gateway.events("starved"))
        with raw_connection(gateway.endpoints[0]) as connection:
            assert connection.recv(1) == b""
        os.kill(pid, signal.SIGUSR2)
        wait_until(lambda: gateway.events("fed"))
        assert served(gateway)
        assert receiver_pid(gateway) == pid
        wait_until(lambda: not gateway.acceptor.live())


def test_s12_receiver_without_threads_closes_and_recovers(tmp_path: Path):
    with gateway_of(tmp_path, options={"stack_bytes": 64 << 20}) as gateway, contextlib.ExitStack() as stack:
        assert served(gateway)
        held = stack.enter_context(raw_connection(gateway.endpoints[0], request()))
        assert answer(held)[0] == ACCEPTED
        pid = receiver_pid(gateway)
        os.kill(pid, signal.SIGHUP)  # no more memory for stacks
        wait_until(lambda: gateway.events("starved"))
        with raw_connection(gateway.endpoints[0]) as connection:
            assert connection.recv(1) == b""
        held.sendall(ASSOCIATION_ENDS)
        assert answer(held)[0] == 0x06  # who was in is served to the end
        os.kill(pid, signal.SIGUSR2)
        wait_until(lambda: gateway.events("fed"))
        assert served(gateway)
        assert receiver_pid(gateway) == pid
