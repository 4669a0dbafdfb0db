"""One mail to a mail server, with deadlines that hold. Pure: no Django."""

import contextlib
import smtplib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import Any

from gateway_project.core.reach import NoticeError, connect, cut_after, failure_of, tls_context

LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class MailWay:
    """How mails travel. `tls`: none, starttls or tls."""

    host: str
    port: int
    tls: str
    user: str
    password: str = field(repr=False)
    sender: str
    recipients: tuple[str, ...]
    ca: str
    seconds: float


def mail_make(way: MailWay, *, subject: str, text: str, message_id: str) -> bytes:
    """The mail as it travels: plain text, one line of subject, marked as sent by a program (RFC 3834)."""
    message = EmailMessage(policy=SMTP.clone(max_line_length=200))
    message["From"] = way.sender
    message["To"] = ", ".join(way.recipients)
    message["Subject"] = " ".join(subject.split())[:180]
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{message_id}@{way.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text, cte="quoted-printable")
    return message.as_bytes()


def mail_send(way: MailWay, mail: bytes) -> Sequence[str]:
    """Hands the mail over; answers the recipients that the server did not take, when it took others.

    All of it takes no longer than `way.seconds`, the name's look-up excepted. Raises NoticeError.
    """
    if way.user and way.tls == "none" and way.host not in LOCAL:
        raise NoticeError(
            "password-unprotected", "A password is sent only over TLS: set ALERT.EMAIL_TLS to starttls or tls."
        )
    context = tls_context(way.ca) if way.tls != "none" else None
    sock = connect(way.host, way.port, seconds=way.seconds / 2, allow_loopback=True)
    try:
        with sock, cut_after(sock, way.seconds):
            return _talk(way, mail, sock, context)
    except (OSError, UnicodeError, ValueError) as error:  # what smtplib raises is an OSError
        raise _fault(error) from None


def _talk(way: MailWay, mail: bytes, sock: socket.socket, context: ssl.SSLContext | None) -> Sequence[str]:
    client = _Client(sock, way, context)
    try:
        if way.tls == "starttls" and context is not None:
            client.starttls(context=context)
        if way.user:
            client.login(way.user, way.password)
        refused = client.sendmail(way.sender, list(way.recipients), mail)
        with contextlib.suppress(OSError):  # the mail is taken; how the server says good-bye is its own affair
            client.quit()
    finally:
        client.close()
    return sorted(refused)


class _Client(smtplib.SMTP):
    """smtplib's client on a connection that was judged and made already."""

    def __init__(self, sock: socket.socket, way: MailWay, context: ssl.SSLContext | None) -> None:
        self._ready = sock
        self._way = way
        self._context = context
        super().__init__(way.host, way.port, local_hostname="gateway.invalid", timeout=way.seconds)

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        self._ready.settimeout(timeout)
        if self._way.tls == "tls" and self._context is not None:
            return self._context.wrap_socket(self._ready, server_hostname=self._way.host)
        return self._ready


def _fault(error: Exception) -> NoticeError:
    if isinstance(error, smtplib.SMTPAuthenticationError):
        # not tried again soon: a server may lock an account over it
        return NoticeError(
            "login-refused", "The mail server refuses user name or password; enter them anew.", retry_after_seconds=900
        )
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return NoticeError(
            "smtp-unsupported", "The mail server offers no STARTTLS or no login; check port and ALERT.EMAIL_TLS."
        )
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = {code for code, _words in error.recipients.values()}
        return _refused(max(codes, default=550), "every recipient")
    if isinstance(error, smtplib.SMTPResponseException):
        return _refused(
            int(error.smtp_code), "the sender" if isinstance(error, smtplib.SMTPSenderRefused) else "the mail"
        )
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return NoticeError("connection-lost", "The mail server ended the connection before it took the mail.")
    if isinstance(error, OSError) and not isinstance(error, smtplib.SMTPException):
        return failure_of(error)
    return NoticeError(
        "smtp-unexpected", "What answers there does not speak as a mail server does; check host and port."
    )


def _refused(code: int, what: str) -> NoticeError:
    if not 200 <= code <= 599:  # RFC 5321 4.2.1; smtplib says -1 for what is no code at all
        return NoticeError("smtp-unexpected", "What answers there is no mail server; check host and port.")
    if code == 530:
        return NoticeError("login-missing", "The mail server asks for a login; set ALERT.EMAIL_USER and its password.")
    if code < 500:
        return NoticeError("mail-later", f"The mail server asks to try again later ({code}).")
    return NoticeError(
        "mail-refused", f"The mail server refuses {what} ({code}); check sender and recipients.", ours=True
    )
