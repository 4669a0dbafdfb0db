"""A real mail server on loopback, one that says exactly what a test wants, and options for the time of a test."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from gateway_project.core.option_store import option_set


def options_set(**values: Any) -> None:
    """`options_set(ALERT_EMAIL_HOST="...")`, as a person would set them."""
    for name, value in values.items():
        option_set(name.replace("_", ".", 1), value, actor="user:test")


@dataclass
class Mailbox:
    """What the server took; `refuses` and `later` are recipients that it does not take, for good or for now."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    answer: str = "250 OK"

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refuses:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        if self.answer.startswith("250"):
            self.mails.append(message_from_bytes(envelope.content or b"", policy=policy.default))  # type: ignore[arg-type]
            self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        return self.answer

    @property
    def subjects(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.mails]

    def text(self, number: int = -1) -> str:
        return self.mails[number].get_content()


def port_free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def mail_server(
    *, password: str = "", certificate: Path | None = None, tls: str = "none", port: int = 0
) -> Iterator[Mailbox]:
    box = Mailbox(port=port or port_free())

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        box.logins.append(data.login.decode())
        return AuthResult(success=data.password.decode() == password, handled=False)

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    keywords: dict[str, Any] = {"tls_context": context, "require_starttls": True} if tls == "starttls" else {}
    if password:
        keywords |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": tls == "starttls"}
    controller = Controller(
        box,
        hostname="127.0.0.1",
        server_hostname="localhost",
        port=box.port,
        ssl_context=context if tls == "tls" else None,
        **keywords,
    )
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


@contextlib.contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that speaks first, and says what `talk` says to each that connects; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _place = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    talk(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        over.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def dripping(connection: socket.socket) -> None:
    """A byte now and then, never a line: each one arrives within any time-out of a single read."""
    while True:
        connection.sendall(b"2")
        if threading.Event().wait(0.05):
            return


def strange_octets(connection: socket.socket) -> None:
    connection.sendall(bytes(range(255, 127, -1)) * 3 + b"\r\n")


def strange_number(connection: socket.socket) -> None:
    connection.sendall(b"7 Ready\r\n")
