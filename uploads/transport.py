"""HTTP with deadlines that hold, and the one table from what went wrong there to `VaultError`."""

import datetime as dt
import io
import json
import re
import socket
import ssl
import time
import zlib
from email.utils import parsedate_to_datetime
from http.client import HTTPResponse
from typing import Any, ClassVar

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import BaseHTTPResponse

from uploads.ports import VaultError

PROBLEM_BYTES = 16 * 1024
RETRY_AFTER_LIMIT_SECONDS = 86400.0

_CODE = re.compile(r"[a-z][a-z0-9-]{0,39}")

_TIMEOUT = ("timeout", "The vault did not answer in time; what it stored is asked on the next try.")

# status -> (code, message, VaultError keywords). What is not here is decided by its hundred.
_REFUSALS: dict[int, tuple[str, str, dict[str, bool]]] = {
    401: ("unauthorized", "The vault does not accept the token; enter a valid one.", {"lane_fault": True}),
    403: ("forbidden", "The vault forbids this gateway the upload; ask the vault's operator.", {"lane_fault": True}),
    404: ("not-found", "The vault's interface is not at this address; check it.", {"lane_fault": True}),
    405: ("not-found", "The vault's interface is not at this address; check it.", {"lane_fault": True}),
    407: ("proxy-refused", "The proxy asks for a login; set it in the proxy's address.", {"lane_fault": True}),
    408: ("timeout", "The vault waited too long for the request; check the connection.", {"lane_fault": True}),
    409: (
        "conflict",
        "The vault holds other content under this id; the study needs a new upload.",
        {"permanent": True},
    ),
    411: ("rejected", "A proxy or the vault took the length away; check what lies between.", {"permanent": True}),
    413: (
        "too-large",
        "The vault refuses a file of this size; ask its operator to raise the limit.",
        {"permanent": True},
    ),
    425: ("busy", "The vault asks to wait.", {"lane_fault": True}),
    429: ("busy", "The vault asks to wait.", {"lane_fault": True}),
    507: ("vault-full", "The vault has no room; ask its operator to make some.", {"lane_fault": True}),
}
FOREIGN_UPLOAD = "foreign-upload"
_FOREIGN = "The vault has this upload under another gateway's name. Trying again sends the study as a new upload."

# the vault's own codes under which the same upload can go on
_TRANSIENT = {
    "digest-mismatch": "The bytes changed on the way to the vault.",
    "body-incomplete": "The bytes did not all reach the vault.",
    "file-missing": "The vault lacks a file of the upload; the study is sent as a new upload.",
}


# what stands in the chain of causes -> (code, message); the first that fits. urllib3 counts every failed connect as a
# kind of time-out, so the kinds of failed connects come before it.
_FAILURES: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    (
        (ssl.SSLCertVerificationError,),
        "tls-certificate",
        "The vault's certificate is not trusted, and nothing was sent. Check who answers.",
    ),
    (
        (ssl.SSLError, requests.exceptions.SSLError),
        "tls",
        "No secure connection to the vault could be made. Check its TLS settings and any proxy on the way.",
    ),
    (
        (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError),
        "proxy-failed",
        "The proxy on the way to the vault does not answer.",
    ),
    ((ConnectionRefusedError,), "connection-refused", "Nothing listens at the vault's address."),
    (
        (socket.gaierror, urllib3.exceptions.NameResolutionError),
        "name-unknown",
        "The vault's host name cannot be resolved; check DNS.",
    ),
    (
        (
            requests.exceptions.ConnectTimeout,
            urllib3.exceptions.NewConnectionError,
            urllib3.exceptions.ConnectTimeoutError,
        ),
        "unreachable",
        "The vault cannot be reached; check network and firewall.",
    ),
    ((TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError), *_TIMEOUT),
)


class _AnswerStream(io.RawIOBase):
    """An answer as it comes, waited for no longer than is left of its time: a slow peer's next byte buys it no more."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        super().__init__()
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _AnswerSocket:
    """What http.client makes a response from, with a deadline."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self._until = until

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_AnswerStream(self._sock, self._until))


class _Deadline:
    """Holds a connection to its deadlines: urllib3's own timeouts begin anew with every byte a slow peer lets
    through.
    """

    deadline_seconds: ClassVar[float]
    sock: socket.socket | None
    response_class: Any

    def connect(self) -> None:
        self._answer_within(self.deadline_seconds)  # a proxy's answer to CONNECT
        super().connect()  # type: ignore[misc]
        self._sending()

    def request(self, *args: Any, **keywords: Any) -> None:
        self._sending()
        super().request(*args, **keywords)  # type: ignore[misc]

    def getresponse(self) -> Any:
        self._answer_within(self.deadline_seconds)
        return super().getresponse()  # type: ignore[misc]

    def _sending(self) -> None:
        """The connect timeout, or what was left of the last answer's, would otherwise stay in force."""
        if self.sock is not None:
            self.sock.settimeout(self.deadline_seconds)

    def _answer_within(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self.response_class = lambda sock, **options: HTTPResponse(_AnswerSocket(sock, until), **options)  # type: ignore[arg-type]


class DeadlineAdapter(HTTPAdapter):
    """A transport that repeats nothing by itself and whose answers begin within `deadline_seconds` of the last byte
    sent.
    """

    def __init__(self, deadline_seconds: float, *, ca: str = "") -> None:
        self._context = ca_context(ca) if ca else None
        keywords = {"deadline_seconds": deadline_seconds}
        plain = type("_PlainConnection", (_Deadline, HTTPConnection), keywords)
        secure = type("_SecureConnection", (_Deadline, HTTPSConnection), keywords)
        self._pools = {
            "http": type("_PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("_SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }
        super().__init__(pool_connections=1, pool_maxsize=8, max_retries=0)

    def init_poolmanager(self, *args: Any, **keywords: Any) -> None:
        super().init_poolmanager(*args, **{**keywords, **self._trust()})
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **keywords: Any) -> Any:
        manager = super().proxy_manager_for(*args, **{**keywords, **self._trust()})
        manager.pool_classes_by_scheme = self._pools
        return manager

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        if self._context is None:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]
        else:  # the context alone says whom to trust; requests would add the well-known authorities
            conn.cert_reqs = "CERT_REQUIRED"

    def _trust(self) -> dict[str, Any]:
        return {} if self._context is None else {"ssl_context": self._context}


def ca_context(ca: str) -> ssl.SSLContext:
    """TLS that trusts this authority and no other: PEM text, or the path of a PEM file. Raises `ca-invalid`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if "-----BEGIN" in ca:
            context.load_verify_locations(cadata=ca)
        else:
            context.load_verify_locations(cafile=ca.strip())
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise VaultError(
            "ca-invalid",
            "The vault's certificate authority is neither PEM text nor a readable PEM file.",
            permanent=True,
        ) from error
    return context


class _Inflate:
    """A gzip body (RFC 1952) of one member as it comes, given out in pieces of bounded size."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def take(self, block: bytes, most: int) -> bytes:
        """What the block expands to, but no more than `most` octets; a rest is lost, so ask for one too many."""
        try:
            content = self._stream.decompress(block, most)
        except zlib.error:
            raise answer_unexpected() from None
        if self._stream.unused_data:
            raise answer_unexpected()
        return content

    def whole(self) -> bool:
        """Whether its end has come, with the right length and checksum."""
        return self._stream.eof


def answer_read(response: BaseHTTPResponse, *, limit: int, deadline_seconds: float) -> bytes:
    """Returns the whole body, inflated when it is gzip, or raises: `answer-too-large` beyond `limit` bytes either way,
    `unexpected-answer` for another or a broken encoding, `timeout`, `connection-lost` when cut.

    No more than `limit` bytes are ever held, whatever a body would inflate to.
    """
    until = time.monotonic() + deadline_seconds
    inflate = _decoding(response)
    content, received = bytearray(), 0
    try:
        while block := response.read1(65536, decode_content=False):
            received += len(block)
            content += block if inflate is None else inflate.take(block, limit + 1 - len(content))
            if max(received, len(content)) > limit:
                raise VaultError("answer-too-large", "The vault's answer is larger than any real one.", lane_fault=True)
            if time.monotonic() > until:
                raise _timeout()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise failure_translate(error) from None
    if inflate is not None and not inflate.whole():
        raise _lost()
    return bytes(content)  # urllib3 has held it to its Content-Length


def _decoding(response: BaseHTTPResponse) -> _Inflate | None:
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in ("gzip", "x-gzip"):  # RFC 9110 8.4.1.3: the same
        raise answer_unexpected()
    return _Inflate()


def refusal_translate(response: BaseHTTPResponse, *, deadline_seconds: float) -> VaultError:
    """Returns the error for an answer that is not the hoped-for one; the vault's own code wins where it gives one."""
    status = response.status
    retry_after = _retry_after(response.headers.get("Retry-After", ""))
    if 300 <= status < 400:
        return VaultError(
            "redirect", "The vault's address answers with a redirect; enter the final address.", lane_fault=True
        )
    if status in _REFUSALS:
        code, message, kind = _REFUSALS[status]
    elif 400 <= status < 500:
        code, message, kind = (
            "rejected",
            "The vault rejects the request; update the gateway or the vault.",
            {"permanent": True},
        )
    elif status >= 500:
        code, message, kind = (
            "server-error",
            "The vault has an error of its own; it is tried again.",
            {"lane_fault": True},
        )
    else:
        code, message, kind = (
            "unexpected-answer",
            "The vault gave an answer outside its interface.",
            {"lane_fault": True},
        )
    own = _problem_code(response, deadline_seconds)
    if own in _TRANSIENT:
        return VaultError(own, _TRANSIENT[own])
    if own == FOREIGN_UPLOAD:  # it says nothing about what else this gateway may do there
        return VaultError(own, _FOREIGN, permanent=True)
    if own is not None and kind.get("permanent"):
        code = own
    return VaultError(code, message, retry_after_seconds=retry_after, **kind)


def failure_translate(error: Exception) -> VaultError:
    """Returns the error for a request without an answer: a fault of the lane, as nothing is known about the study."""
    chain = list(_chain(error))
    if any(str(link).startswith("Tunnel connection failed: 407") for link in chain):
        code, message, kind = _REFUSALS[407]
        return VaultError(code, message, **kind)
    for kinds, code, message in _FAILURES:
        if any(isinstance(link, kinds) for link in chain):
            return VaultError(code, message, lane_fault=True)
    return _lost()


def _chain(error: BaseException) -> Any:
    """Yields the error and everything it wraps, by cause, context, argument or urllib3's `reason`; each once."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        link = waiting.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]
        waiting += [each for each in inner if isinstance(each, BaseException)]


def answer_unexpected() -> VaultError:
    return VaultError(
        "unexpected-answer",
        "Something answered that does not speak the vault's interface; check the address and any proxy on the way.",
        lane_fault=True,
    )


def _timeout() -> VaultError:
    return VaultError(*_TIMEOUT, lane_fault=True)


def _lost() -> VaultError:
    return VaultError(
        "connection-lost",
        "The connection to the vault was lost; what it stored is asked on the next try.",
        lane_fault=True,
    )


def _problem_code(response: BaseHTTPResponse, deadline_seconds: float) -> str | None:
    """Returns the `code` of a problem document (RFC 9457), None when there is none that can be read."""
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/problem+json":
        return None
    try:
        problem = json.loads(answer_read(response, limit=PROBLEM_BYTES, deadline_seconds=min(10.0, deadline_seconds)))
    except (VaultError, ValueError, RecursionError):
        return None  # the status already decides; the code only says it better
    code = problem.get("code") if isinstance(problem, dict) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


def _retry_after(value: str) -> float | None:
    """Returns seconds from either form of Retry-After (RFC 9110 10.2.3), bounded to a day; None when absent or
    nonsense.
    """
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,10}", value):
        return min(float(value), RETRY_AFTER_LIMIT_SECONDS)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    wait = (moment - dt.datetime.now(dt.UTC)).total_seconds()
    return min(max(wait, 0.0), RETRY_AFTER_LIMIT_SECONDS)
