"""One signed JSON document posted to an address, without following it anywhere else. Pure: no Django."""

import hashlib
import hmac
import http.client
import re
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gateway_project.core.reach import NoticeError, connect, cut_after, failure_of, tls_context

ANSWER_BYTES = 16 * 1024
RETRY_AFTER_MOST_SECONDS = 3600.0


@dataclass(frozen=True)
class WebhookWay:
    url: str
    token: str = field(repr=False)
    allow_loopback: bool
    ca: str
    seconds: float


def signature(token: str, body: bytes, *, timestamp: int) -> str:
    """`t=<seconds>,v1=<hex>`: HMAC-SHA-256 under the token over the time, a dot and the body as it travels."""
    digest = hmac.new(token.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={digest.hexdigest()}"


def webhook_post(way: WebhookWay, body: bytes, *, message_id: str, timestamp: int, agent: str) -> None:
    """Returns when the receiver answered with 2xx. `message_id` is the same whenever the same events are sent again.

    All of it takes no longer than `way.seconds`, the name's look-up excepted. Raises NoticeError.
    """
    parts = urlsplit(way.url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    context = tls_context(way.ca) if secure else None
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Host": parts.netloc,
        "User-Agent": agent,
        "Idempotency-Key": message_id,
        "Connection": "close",
    }
    if way.token:
        headers["X-Gateway-Signature"] = signature(way.token, body, timestamp=timestamp)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sock = connect(host, port, seconds=way.seconds / 2, allow_loopback=way.allow_loopback)
    try:
        with sock, cut_after(sock, way.seconds):
            sock.settimeout(way.seconds)
            wire = context.wrap_socket(sock, server_hostname=host) if context is not None else sock
            status, retry_after = _exchange(wire, host, port, target, body, headers)
    except (http.client.HTTPException, OSError, UnicodeError, ValueError) as error:
        raise _fault(error) from None
    _judge(status, retry_after)


def _exchange(
    wire: socket.socket, host: str, port: int, target: str, body: bytes, headers: dict[str, str]
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port)
    connection.sock = wire
    try:
        connection.request("POST", target, body=body, headers=headers)
        answer = connection.getresponse()
        answer.read(ANSWER_BYTES)
        return answer.status, answer.headers.get("Retry-After", "")
    finally:
        connection.close()


def _fault(error: Exception) -> NoticeError:
    if isinstance(error, OSError):
        return failure_of(error)
    return NoticeError("unexpected-answer", "What answers there does not speak HTTP; check the address.")


def _judge(status: int, retry_after: str) -> None:
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise NoticeError(
            "redirect", "The address answers with a redirect, which is not followed; enter the final one."
        )
    if status in (401, 403):
        raise NoticeError(
            "forbidden", f"The receiver does not let us in ({status}); check ALERT.WEBHOOK_TOKEN there and here."
        )
    if status in (404, 405, 410):
        raise NoticeError("not-found", f"Nothing takes alerts at this address ({status}); check it.")
    if status in (408, 425, 429) or status >= 500:
        raise NoticeError(
            "receiver-error",
            f"The receiver has an error of its own or is busy ({status}).",
            retry_after_seconds=_seconds(retry_after),
        )
    raise NoticeError("message-refused", f"The receiver refuses the message ({status}).", ours=True)


def _seconds(text: str) -> float | None:
    return min(float(text), RETRY_AFTER_MOST_SECONDS) if re.fullmatch(r"[0-9]{1,7}", text.strip()) else None
