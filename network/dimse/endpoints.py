"""Where the acceptor listens: endpoints as values, and the set of listening sockets that follows them."""

import logging
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from network.dimse.errors import ListenError, listen_error
from network.dimse.tls import TlsSettings

logger = logging.getLogger(__name__)
BACKLOG = 128


@dataclass(frozen=True)
class Endpoint:
    """One address to listen on. What a connection needs travels with it: an endpoint can go while they live."""

    host: str
    port: int
    name: str = "default"
    ae_title: str = ""
    tls: TlsSettings | None = None


class Listeners:
    """The listening sockets; follows a list of endpoints without touching what else is open. One thread only."""

    def __init__(self) -> None:
        self._open: dict[Endpoint, socket.socket] = {}
        self.failed: dict[str, ListenError] = {}

    def items(self) -> list[tuple[Endpoint, socket.socket]]:
        """Every endpoint with its socket; a copy."""
        return list(self._open.items())

    def addresses(self) -> list[tuple[str, int]]:
        """Where we listen now, with the ports that the kernel chose."""
        return [listener.getsockname()[:2] for listener in self._open.values()]

    def open_all(self, endpoints: Iterable[Endpoint]) -> None:
        """Listen on each of these; raises ListenError for the first that cannot be had."""
        for endpoint in endpoints:
            self._open[endpoint] = listener_open(endpoint.host, endpoint.port)

    def follow(self, endpoints: Iterable[Endpoint]) -> None:
        """Close what is no longer wanted, then listen on what is new. One that cannot be had is in `failed` until the
        next call tries it again; it keeps no other from being opened.

        An endpoint that changed only its AE title or its TLS settings keeps its socket, and so its backlog.
        """
        wanted = list(dict.fromkeys(endpoints))
        places = {(endpoint.host, endpoint.port): endpoint for endpoint in wanted}
        kept: dict[Endpoint, socket.socket] = {}
        for endpoint, listener in self._open.items():
            successor = places.get((endpoint.host, endpoint.port))
            if successor is None:
                listener.close()
                logger.info("endpoint closed", extra={"endpoint": endpoint.name, "port": endpoint.port})
            else:
                kept[successor] = listener
        self._open = kept
        self.failed = {}
        for endpoint in places.values():
            if endpoint not in self._open:
                self._try(endpoint)

    def close(self) -> None:
        """Listen nowhere."""
        for listener in self._open.values():
            listener.close()
        self._open = {}

    def _try(self, endpoint: Endpoint) -> None:
        try:
            self._open[endpoint] = listener_open(endpoint.host, endpoint.port)
        except ListenError as error:
            self.failed[endpoint.name] = error
        else:
            logger.info("endpoint opened", extra={"endpoint": endpoint.name, "port": endpoint.port})


def listener_open(host: str, port: int) -> socket.socket:
    """A listening socket that does not block; an IPv6 one is IPv6 only, so that both families can be bound."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _name, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise listen_error(exc, host=host, port=port) from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise listen_error(exc, host=host, port=port) from exc
    return listener
