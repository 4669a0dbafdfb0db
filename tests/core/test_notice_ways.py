"""The two ways on the wire: a real mail server, a real HTTP server, and what they may do wrong."""

import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway_project.core.mail import MailWay, mail_make, mail_send
from gateway_project.core.notice_text import Event, Sender, mail_text, message_id, subject_words, webhook_document
from gateway_project.core.reach import NoticeError, address_refused, connect
from gateway_project.core.webhook import WebhookWay, webhook_post
from tests.core.notice_servers import dripping, mail_server, port_free, strange_number, strange_octets, talking
from tests.uploads.certificates import certificate_write
from tests.uploads.scripted_server import answer, scripted

NOW = datetime(2026, 11, 25, 16, 0, tzinfo=UTC)


def mail_way(port: int, **values: object) -> MailWay:
    defaults = {
        "host": "localhost",
        "port": port,
        "tls": "none",
        "user": "",
        "password": "",
        "sender": "gateway@hospital.example",
        "recipients": ("anna@hospital.example", "ben@hospital.example"),
        "ca": "",
        "seconds": 5.0,
    }
    return MailWay(**{**defaults, **values})  # type: ignore[arg-type]


def hook(url: str, **values: object) -> WebhookWay:
    return WebhookWay(
        **{"url": url, "token": "MARK-token", "allow_loopback": True, "ca": "", "seconds": 5.0, **values}  # type: ignore[arg-type]
    )


def post(way: WebhookWay, body: bytes = b"{}") -> None:
    webhook_post(way, body, message_id="id-1", timestamp=1_795_622_400, agent="gateway/x")


def send(way: MailWay) -> list[str]:
    return list(
        mail_send(way, mail_make(way, subject="Ein Wörtchen\r\nBcc: x@y.example", text="Grüße\n.\n", message_id="id"))
    )


def fault(call: object, *arguments: object) -> NoticeError:
    with pytest.raises(NoticeError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value


def event(**values: object) -> Event:
    defaults = {
        "uid": "u1",
        "event": "opened",
        "alert": 7,
        "key": "disk",
        "code": "disk-low",
        "severity": "warning",
        "words": "The store's disk runs low.",
        "opened_at": NOW,
        "at": NOW,
        "count": 3,
        "healed_at": None,
    }
    return Event(**{**defaults, **values})  # type: ignore[arg-type]


# -- e-mail ------------------------------------------------------------------------------------------------------------


def test_mail_arrives_whole_and_no_header_can_be_added_by_words() -> None:
    with mail_server() as box:
        assert send(mail_way(box.port)) == []
    (mail,) = box.mails
    assert (mail["Subject"], mail["Bcc"]) == ("Ein Wörtchen Bcc: x@y.example", None)
    assert (mail["To"], mail["Auto-Submitted"]) == ("anna@hospital.example, ben@hospital.example", "auto-generated")
    assert mail["Message-ID"] == "<id@hospital.example>"
    assert mail.get_content().replace("\r\n", "\n") == "Grüße\n.\n"


def test_password_travels_over_starttls_of_the_trusted_authority(tmp_path: Path) -> None:
    certificate = certificate_write(tmp_path / "own.pem")
    with mail_server(password="right", certificate=certificate, tls="starttls") as box:
        assert send(mail_way(box.port, tls="starttls", ca=str(certificate), user="gw", password="right")) == []
        assert (box.logins, box.encrypted) == (["gw"], [True])
        refused = fault(send, mail_way(box.port, tls="starttls", ca=str(certificate), user="gw", password="MARK-wrong"))
        assert (refused.code, refused.retry_after_seconds, "MARK" in str(refused)) == ("login-refused", 900, False)
        assert fault(send, mail_way(box.port, tls="starttls")).code == "tls-certificate"
        assert fault(send, mail_way(box.port, tls="starttls", ca=str(certificate))).code == "login-missing"


def test_tls_from_the_first_octet(tmp_path: Path) -> None:
    certificate = certificate_write(tmp_path / "own.pem")
    with mail_server(certificate=certificate, tls="tls") as box:
        assert send(mail_way(box.port, tls="tls", ca=str(certificate))) == []
        assert box.encrypted == [True]
        assert fault(send, mail_way(box.port, tls="tls")).code == "tls-certificate"


def test_password_is_not_sent_in_clear_to_another_machine() -> None:
    assert fault(send, mail_way(25, host="mail.example", user="gw", password="x")).code == "password-unprotected"


def test_some_recipients_refused_is_told_all_refused_is_the_mails_fault() -> None:
    with mail_server() as box:
        box.refuses = {"ben@hospital.example"}
        assert send(mail_way(box.port)) == ["ben@hospital.example"]
        box.refuses |= {"anna@hospital.example"}
        every = fault(send, mail_way(box.port))
        assert (every.code, every.ours) == ("mail-refused", True)
        box.refuses, box.answer = set(), "451 try later"
        assert (fault(send, mail_way(box.port)).code, fault(send, mail_way(box.port)).ours) == ("mail-later", False)
        box.answer = "554 looks like spam"
        assert fault(send, mail_way(box.port)).ours


def test_mail_server_that_is_down_or_none_at_all() -> None:
    assert fault(send, mail_way(port_free())).code == "connection-refused"
    for talk in (strange_octets, strange_number):
        with talking(talk) as port:
            assert fault(send, mail_way(port)).code == "smtp-unexpected"
    with talking(lambda connection: None) as port:
        assert fault(send, mail_way(port)).code in ("connection-lost", "smtp-unexpected")
    with talking(lambda connection: connection.sendall(b"220 hello\r\n250 no TLS here\r\n")) as port:
        assert fault(send, mail_way(port, tls="starttls")).code in ("smtp-unsupported", "connection-lost")
    assert fault(send, mail_way(1, host="no such host")).code == "name-unknown"
    assert fault(send, mail_way(25, ca="/nowhere.pem", tls="tls")).code == "ca-invalid"


def test_mail_server_that_drips_is_cut_when_its_time_is_over() -> None:
    with talking(dripping) as port:
        begun = time.monotonic()
        assert fault(send, mail_way(port, seconds=1.0)).code == "timeout"
        assert time.monotonic() - begun < 20


# -- webhook -----------------------------------------------------------------------------------------------------------


def test_post_is_signed_named_and_goes_where_it_should() -> None:
    with scripted(answer(204)) as server:
        post(hook(f"{server.url}/hooks/alerts?team=radiology"), b'{"a":1}')
    (request,) = server.requests
    assert request.line == "POST /hooks/alerts?team=radiology HTTP/1.1"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["idempotency-key"] == "id-1"
    stamp, mac = (part.split("=", 1)[1] for part in request.headers["x-gateway-signature"].split(","))
    assert hmac.compare_digest(
        mac, hmac.new(b"MARK-token", f"{stamp}.".encode() + request.body, hashlib.sha256).hexdigest()
    )
    assert "MARK" not in str(request.headers)


@pytest.mark.parametrize(
    ("status", "code", "ours"),
    [
        (301, "redirect", False),
        (307, "redirect", False),
        (401, "forbidden", False),
        (404, "not-found", False),
        (429, "receiver-error", False),
        (500, "receiver-error", False),
        (503, "receiver-error", False),
        (400, "message-refused", True),
        (422, "message-refused", True),
    ],
)
def test_answers_of_the_receiver(status: int, code: str, ours: bool) -> None:
    with scripted(answer(status, headers="Location: http://127.0.0.1:1/\r\nRetry-After: 70\r\n")) as server:
        failure = fault(post, hook(server.url))
        assert len(server.requests) == 1  # a redirect is not followed
    assert (failure.code, failure.ours) == (code, ours)
    assert failure.retry_after_seconds == (70 if code == "receiver-error" else None)


def test_garbage_silence_and_dripping_from_the_receiver() -> None:
    with scripted(b"\x00\xff garbage\r\n\r\n") as server:
        assert fault(post, hook(server.url)).code == "unexpected-answer"
    with scripted(b"") as server:
        assert fault(post, hook(server.url)).code == "connection-lost"
    with scripted(dripping) as server:
        assert fault(post, hook(server.url, seconds=1.0)).code == "timeout"
    assert fault(post, hook(f"http://127.0.0.1:{port_free()}/")).code == "connection-refused"


def test_certificate_of_the_receiver_is_verified(tmp_path: Path) -> None:
    certificate = certificate_write(tmp_path / "own.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            while not secure.recv(65536).endswith(b"{}"):
                continue
            secure.sendall(answer(200))

    with talking(serve) as port:
        post(hook(f"https://localhost:{port}/", ca=str(certificate)))
        assert fault(post, hook(f"https://localhost:{port}/")).code == "tls-certificate"


def test_loopback_only_when_allowed_and_link_local_never() -> None:
    with scripted(answer(204)) as server:
        assert fault(post, hook(server.url, allow_loopback=False)).code == "address-refused"
        assert server.requests == []
    for host in ("169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "0.0.0.0", "[fd00:ec2::254]", "224.0.0.1"):
        assert fault(post, hook(f"http://{host}/latest/meta-data")).code == "address-refused", host


def test_name_that_is_rebound_between_look_ups_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def rebinding(host: str, port: int, **_keywords: object) -> list[object]:
        asked.append(host)
        where = "169.254.169.254" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (where, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert fault(post, hook("http://rebind.example/")).code == "address-refused"
    assert asked == ["rebind.example"]


def test_private_networks_are_where_hospitals_live() -> None:
    for text in ("10.1.2.3", "192.168.7.7", "172.16.0.9", "fd12::7", "203.0.113.9"):
        assert not address_refused(ipaddress.ip_address(text), allow_loopback=False), text


def test_connect_tries_the_next_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(answer(204)) as server:
        places = [("127.0.0.2", port_free()), ("127.0.0.1", server.port)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: found)
        connect("two.example", 1, seconds=4, allow_loopback=True).close()


# -- what is said ------------------------------------------------------------------------------------------------------


def test_one_alert_is_its_own_subject_many_are_counted() -> None:
    who = Sender("gw-7", "1.0", "https://gw.example/")
    assert subject_words([event()], who) == "[gw-7] Needs a look: The store's disk runs low."
    many = [event(uid=str(i), severity="critical") for i in range(2)] + [event(uid="x", event="healed", healed_at=NOW)]
    assert subject_words(many, who) == "[gw-7] 3 alerts: 2 need a hand now, 1 is well again"
    text = mail_text(many, who)
    assert text.index("NEEDS A HAND NOW") < text.index("WELL AGAIN")
    assert "since 2026-11-25 16:00:00 UTC, seen 3 times" in text
    assert "All alerts: https://gw.example/alerts/" in text


def test_storm_is_cut_to_fifty_and_counted() -> None:
    text = mail_text([event(uid=str(i), words=f"Thing {i}.") for i in range(300)], Sender("gw", "1"))
    assert "and 250 more." in text
    assert len(text.splitlines()) < 200


def test_document_of_the_webhook() -> None:
    events = [event(), event(uid="u2", event="healed", healed_at=NOW)]
    document = json.loads(webhook_document(events, Sender("gw", "1"), now=NOW))
    assert document["schema"] == "gateway-alerts/1"
    assert document["id"] == message_id(events[::-1])
    assert document["events"][1] == {
        "id": "u2", "event": "healed", "alert": 7, "key": "disk", "code": "disk-low", "severity": "warning",
        "words": "The store's disk runs low.", "count": 3, "at": "2026-11-25T16:00:00Z",
        "openedAt": "2026-11-25T16:00:00Z", "healedAt": "2026-11-25T16:00:00Z", "address": None,
    }  # fmt: skip
