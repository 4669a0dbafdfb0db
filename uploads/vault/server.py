"""Serves a vault directory over HTTP with gunicorn: bounded threads and time, loopback by default, a graceful stop."""

import os
import select
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.http.body import LengthReader
from gunicorn.workers.gthread import TConn, ThreadWorker

from uploads.vault.app import make_app
from uploads.vault.archive import removals_finish
from uploads.vault.durable import directory_lock
from uploads.vault.errors import VaultStoreError
from uploads.vault.registry import VaultIdentity, vault_create, vault_signing_key
from uploads.vault.store import VaultStore
from uploads.vault.usage import Usage

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

SILENCE_SECONDS = 60
"""How long a peer may say or take nothing in mid request before its thread is freed."""
GRACEFUL_SECONDS = 20
RECEIVE_BYTES = 256 * 1024
LINGER_MILLISECONDS = 5
"""How long a thread waits for a connection's next request before it gives the connection back to the poller."""


def vault_serve(
    directory: Path,
    *,
    vault_id: str,
    demonstration: bool,
    host: str = "127.0.0.1",
    port: int = 11115,
    workers: int = 1,
    threads: int = 8,
    silence_seconds: int = SILENCE_SECONDS,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what it has begun, for 20 s at most; ends by SystemExit.

    Port 0 takes a free one; `on_ready` is told the address once connections are taken. One server per directory:
    another is `store-locked`. Speaks plain http; beyond loopback, put a proxy with TLS and its own time limits
    before it. Raises VaultStoreError, EnvelopeError or OSError when it cannot begin.
    """
    vault_create(directory, vault_id=vault_id, demonstration=demonstration)
    _address_check(host, port)
    with directory_lock(directory / "parts", wait=False):
        identity = VaultIdentity(vault_id, demonstration)
        VaultStore(directory, identity=identity, signing_key=vault_signing_key(directory)).parts_sweep()
        removals_finish(directory)
        options = {
            "bind": [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"],
            "worker_class": _Worker,
            "workers": workers,
            "threads": threads,
            "worker_connections": threads * 8,
            "timeout": 120,
            "graceful_timeout": GRACEFUL_SECONDS,
            "keepalive": 15,
            "control_socket_disable": True,
            "limit_request_line": 1024,
            "limit_request_fields": 40,
            "limit_request_field_size": 4096,
            "when_ready": _when_ready(on_ready, silence_seconds),
            "proc_name": "vault",
            "errorlog": "-",
            "loglevel": "warning",
            "umask": 0o077,
        }

        def app() -> "WSGIApplication":
            if workers == 1:  # a worker that was killed leaves bodies counted which never came
                Usage(directory).prepare()
            return make_app(directory, vault_id=vault_id, demonstration=demonstration)

        _Server(app, options).run()


class _StraightBody:
    """A body of known length in blocks as they come from the socket; gunicorn's own copies each twice more."""

    def __init__(self, reader: LengthReader) -> None:
        self._reader = reader
        self.failed = False
        """As in gunicorn's: where the next request on this connection begins is not known."""

    def read(self, size: int) -> bytes:
        unreader = self._reader.unreader
        size = min(size, self._reader.length)
        ahead = unreader.buf.getbuffer().nbytes  # came together with the request's head
        if ahead or not size:
            return bytes(self._reader.read(min(size, ahead)))
        try:
            block = unreader.sock.recv(min(size, RECEIVE_BYTES))
        except OSError:
            self.failed = True
            raise
        self._reader.length -= len(block)
        return bytes(block)


class _Worker(ThreadWorker):  # type: ignore[misc]
    """gthread that answers requests which follow each other at once in the same thread.

    A gateway sends a study's files on kept-alive connections, one after the other; the way through the poller and back
    costs more than all the rest of a small request.
    """

    def handle(self, conn: TConn) -> Any:
        result = self._handle_one(conn)
        while result is True and self.alive and self._follows(conn):
            result = self._handle_one(conn)
        return result

    def handle_request(self, req: Any, conn: TConn) -> Any:
        if isinstance(req.body.reader, LengthReader):
            req.body = _StraightBody(req.body.reader)
        return super().handle_request(req, conn)

    def _handle_one(self, conn: TConn) -> Any:
        if self.ppid != os.getppid():
            self.alive = False  # the master was killed: end soon, whatever still comes in, and let the lock go
        return super().handle(conn)

    def _follows(self, conn: TConn) -> bool:
        if conn.is_http2 or conn.parser.unreader.buf.getvalue():
            return False  # what is read already goes through the queue, as gunicorn does it
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(LINGER_MILLISECONDS))


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with our options and nothing else: no command line, no file, no environment."""

    def __init__(self, factory: "Callable[[], WSGIApplication]", options: dict[str, Any]) -> None:
        self._factory = factory
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> "WSGIApplication":
        return self._factory()


def _when_ready(on_ready: Callable[[str], None] | None, silence_seconds: int) -> Callable[[Any], None]:
    def ready(arbiter: Any) -> None:
        limit = struct.pack("ll", silence_seconds, 0)
        for listener in arbiter.LISTENERS:
            # accepted sockets inherit these (socket(7)); gunicorn's own time-out does not end a silent body
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            host, port = listener.sock.getsockname()[:2]
            if on_ready is not None:
                on_ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    return ready


def _address_check(host: str, port: int) -> None:
    """Refuses an unusable address at once and by our own error; gunicorn would try for 5 s and print."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise VaultStoreError("address-unusable") from error
