"""The way to a host that a setting names: its name is asked for once, and what was judged is what is connected to.

Pure: no Django. Addresses that only this machine's surroundings answer to (link-local, where clouds keep their secrets)
are refused whatever name they came under, so that no setting makes the gateway a way into them.
"""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Metadata services that do not lie in the link-local networks.
METADATA = frozenset(ipaddress.ip_address(text) for text in ("100.100.100.200", "fd00:ec2::254", "168.63.129.16"))


class NoticeError(Exception):
    """Why a message did not get through: a stable code, and words free of PHI and of secrets that say what to do.

    `ours`: the message itself is refused, so that another may get through; otherwise it is the way's fault.
    """

    def __init__(self, code: str, words: str, *, ours: bool = False, retry_after_seconds: float | None = None) -> None:
        super().__init__(words)
        self.code = code
        self.ours = ours
        self.retry_after_seconds = retry_after_seconds


def address_refused(address: Address, *, allow_loopback: bool) -> bool:
    """Whether nothing is ever sent to this address."""
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    if mapped is not None and address_refused(mapped, allow_loopback=allow_loopback):
        return True
    if (mapped or address).is_loopback:
        return not allow_loopback
    return (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address in METADATA
        or address == ipaddress.ip_address("255.255.255.255")
    )


def connect(host: str, port: int, *, seconds: float, allow_loopback: bool) -> socket.socket:
    """A connection to one of the addresses that the name stands for now. Raises NoticeError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NoticeError("name-unknown", "The host name cannot be resolved; check it, and DNS.") from None
    allowed = [
        one
        for one in found
        if not address_refused(ipaddress.ip_address(str(one[4][0]).partition("%")[0]), allow_loopback=allow_loopback)
    ]
    if not allowed:
        raise NoticeError(
            "address-refused",
            "The address leads to this machine itself or to a link-local network, which is not allowed here.",
        )
    for family, kind, protocol, _name, place in allowed[:4]:
        try:
            return _connected(socket.socket(family, kind, protocol), place, seconds / min(len(allowed), 4))
        except OSError as error:
            failure = error
    raise failure_of(failure) from None


def _connected(sock: socket.socket, place: object, seconds: float) -> socket.socket:
    try:
        sock.settimeout(seconds)
        sock.connect(place)  # type: ignore[arg-type]
    except OSError:
        sock.close()
        raise
    return sock


def failure_of(error: Exception) -> NoticeError:
    """What a failed connection or conversation means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return NoticeError(
            "tls-certificate",
            "The certificate is not trusted, and nothing was sent. Check who answers, or set ALERT.CA.",
        )
    if isinstance(error, ssl.SSLError):
        return NoticeError("tls", "No secure connection could be made; check port and TLS setting.")
    if isinstance(error, ConnectionRefusedError):
        return NoticeError("connection-refused", "Nothing listens there; check host and port, and that it runs.")
    if isinstance(error, TimeoutError):
        return NoticeError("timeout", "It did not answer in time; check network and firewall.")
    return NoticeError("connection-lost", "The connection was lost before the message was taken.")


def tls_context(ca: str) -> ssl.SSLContext:
    """TLS that trusts the well-known authorities, or the one in this PEM file alone. Raises NoticeError."""
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise NoticeError("ca-invalid", "ALERT.CA is not a readable PEM file of an authority.") from None


@contextmanager
def cut_after(sock: socket.socket, seconds: float) -> Iterator[None]:
    """Cuts the connection when that time is over: a peer that sends a byte now and then buys nothing with it."""
    over = threading.Event()
    handle = sock.dup()  # TLS takes the socket itself over

    def cut() -> None:
        over.set()
        with suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except NoticeError:
        raise
    except Exception:
        if over.is_set():
            raise failure_of(TimeoutError()) from None
        raise
    finally:
        timer.cancel()
        timer.join()
        handle.close()
