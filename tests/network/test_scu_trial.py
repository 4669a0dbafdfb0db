"""A trial says how far it came, whatever the peer does, and what the peer offers."""

import socket
import ssl
from pathlib import Path

import pytest
from pynetdicom import AE

from network.dimse import scu
from network.dimse.errors import ConfigurationError
from network.dimse.scu.pool import PeerAddress
from network.dimse.scu.reach import Reach
from network.dimse.scu.trial import Trial, trial_run
from network.dimse.tls import ClientTlsSettings, TlsSettings, client_context_of, context_of
from tests.network.certificates import issue
from tests.network.scu_peers import ScriptedPeer, accept, archive_running, pdu

FAST = scu.Timeouts(connect_seconds=2, acse_seconds=0.4, dimse_seconds=0.4, network_seconds=0.4)


def tried(peer: dict, **values: object) -> Trial:
    return trial_run(PeerAddress(**peer, **values), timeouts=FAST)


def outcomes(trial: Trial) -> list[str]:
    return [step.outcome for step in trial.steps]


def test_peer_that_answers_and_what_it_offers() -> None:
    with archive_running() as archive:
        trial = tried(archive.peer)
    assert outcomes(trial) == ["passed", "passed", "skipped", "passed", "passed"]
    assert trial.passed
    offered = {offer.key: offer.accepted for offer in trial.offers}
    study = ["Study Root"]
    assert offered == {"store": ["CT"], "query": study, "move": study, "get": study, "commit": []}
    assert trial.offers_service("query")
    assert not trial.offers_service("commit")


@pytest.mark.parametrize(
    ("says", "code", "step"),
    [
        ((None,), "association-timeout", 3),
        ((b"",), "connection-lost", 3),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "response-invalid", 3),
        ((pdu(0x03, b"\0\1\1\7"),), "association-rejected", 3),
        ((pdu(0x07, bytes(4)),), "association-aborted", 3),
        ((accept([(1, "1.2.840.10008.1.2")]), None), "response-timeout", 4),
        ((accept([(1, "1.2.840.10008.1.2")]), pdu(0x04, b"\0\0\0\1")), "response-invalid", 4),
    ],
)
def test_step_that_fails_is_named_and_the_rest_is_not_come_to(says: tuple, code: str, step: int) -> None:
    with ScriptedPeer(*says) as peer:
        trial = tried(peer.peer)
    assert [number for number, outcome in enumerate(outcomes(trial)) if outcome == "failed"] == [step]
    assert trial.failure is not None
    assert trial.failure.code == code
    assert bool(trial.offers) == (step == 4)
    assert "passed" not in outcomes(trial)[step:]


def test_names_and_addresses_that_lead_nowhere() -> None:
    peer = {"port": 104, "called_ae_title": "X", "calling_ae_title": "GATEWAY"}
    for address, code in (("no-such-name.invalid", "address-unknown"), ("169.254.169.254", "address-refused")):
        failure = tried({**peer, "address": address}).failure
        assert failure is not None
        assert failure.code == code
    refused = tried({**peer, "address": "127.0.0.1"}, reach=Reach(loopback=False)).failure
    assert refused is not None
    assert refused.code == "address-refused"


def test_peer_without_verification_is_not_in_trouble() -> None:
    entity = AE("ONLYCT")
    entity.add_supported_context("1.2.840.10008.5.1.4.1.1.2")
    server = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        trial = tried({"address": "127.0.0.1", "port": server.server_address[1], "called_ae_title": "ONLYCT",
                       "calling_ae_title": "GATEWAY"})  # fmt: skip
    finally:
        server.shutdown()
    assert trial.passed
    assert trial.steps[4].outcome == "skipped"
    assert "does not offer verification" in trial.steps[4].words


def test_title_that_is_none_is_refused_before_anything_is_called() -> None:
    with pytest.raises(ConfigurationError):
        tried({"address": "127.0.0.1", "port": 1, "called_ae_title": "X" * 17, "calling_ae_title": "GATEWAY"})


@pytest.mark.parametrize("trusted", [True, False])
def test_tls_is_a_step_of_its_own(tmp_path: Path, *, trusted: bool) -> None:
    authority = issue(tmp_path, "authority")
    server_tls = context_of(TlsSettings(certificate=str(issue(tmp_path, "localhost", by=authority).pem)))
    ca = authority.public if trusted else issue(tmp_path, "another").public
    context = client_context_of(ClientTlsSettings(ca=str(ca), check_name=False))
    entity = AE("TLS")
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=server_tls)
    peer = {"address": "127.0.0.1", "port": server.server_address[1], "called_ae_title": "TLS",
            "calling_ae_title": "GATEWAY"}  # fmt: skip
    try:
        trial = tried(peer, tls=context)
    finally:
        server.shutdown()
    assert trial.steps[2].outcome == ("passed" if trusted else "failed")
    assert trial.passed == trusted
    if not trusted:
        assert trial.steps[2].code == "tls-certificate-untrusted"


def test_tls_peer_that_wants_our_certificate_is_told_apart_from_one_that_is_away(tmp_path: Path) -> None:
    """With TLS 1.3 its refusal comes after our side of the handshake: "try again" would help nobody."""
    authority = issue(tmp_path, "authority")
    server_tls = context_of(TlsSettings(certificate=str(issue(tmp_path, "localhost", by=authority).pem)))
    server_tls.minimum_version = ssl.TLSVersion.TLSv1_3
    server_tls.load_verify_locations(authority.public)
    server_tls.verify_mode = ssl.CERT_REQUIRED
    context = client_context_of(ClientTlsSettings(ca=str(authority.public), check_name=False))
    entity = AE("TLS")
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=server_tls)
    peer = PeerAddress("127.0.0.1", server.server_address[1], "TLS", "GATEWAY", context)
    try:
        failure = trial_run(peer, timeouts=scu.Timeouts()).failure
    finally:
        server.shutdown()
    assert failure is not None
    assert (failure.name, failure.code) == ("Associate", "connection-lost")
    assert "certificate of ours" in failure.words


def test_plain_call_of_a_peer_that_closes_asks_whether_it_wants_tls() -> None:
    with ScriptedPeer(b"") as peer:
        failure = trial_run(PeerAddress(**peer.peer), timeouts=scu.Timeouts()).failure
    assert failure is not None
    assert "wants TLS" in failure.words
    assert len(failure.words) <= 200  # what a row remembers


def test_plain_peer_that_is_called_over_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = PeerAddress("127.0.0.1", silent.getsockname()[1], "X", "GATEWAY", ssl.create_default_context())
        fast = scu.Timeouts(connect_seconds=0.5, acse_seconds=0.5)
        failure = trial_run(peer, timeouts=fast).failure
    assert failure is not None
    assert (failure.name, failure.code) == ("TLS handshake", "tls-handshake-timeout")
