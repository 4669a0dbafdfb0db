"""A vault over real HTTP that keeps to docs/vault-api.md except where a test has written another answer into it."""

import base64
import contextlib
import io
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.uploads.memory_vault import MemoryVault
from uploads.ports import VaultError

Fault = Callable[["Handler"], None]
"""Does what it likes with the connection, which is closed afterwards. It has not read the body."""
STATUS = {
    "content-conflict": 409,
    "upload-sealed": 409,
    "upload-committed": 409,
    "file-missing": 409,
    "key-unknown": 404,
}


@dataclass
class ScriptedVault:
    """`faults` are (how the request begins, what happens instead); each is used once, in their order."""

    memory: MemoryVault
    url: str = ""
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def fault_for(self, request: str) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            for number, (begins, fault) in enumerate(self.faults):
                if request.startswith(begins):
                    del self.faults[number]
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    vault: ScriptedVault

    def log_message(self, *_arguments: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        *_, last = self.path.rstrip("/").split("/")
        self.vault.tokens.append(self.headers.get("Authorization", ""))
        fault = self.vault.fault_for(f"{method} {last}")
        if fault is not None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                fault(self)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self.answer(*self._done(method, body))
        except VaultError as error:
            problem = json.dumps({"code": error.code}).encode()
            self.answer(STATUS.get(error.code, 400), problem, "application/problem+json")

    def _done(self, method: str, body: bytes) -> tuple[int, bytes, str]:
        memory, (*_, upload_id, name) = self.vault.memory, self.path.rstrip("/").split("/")
        if self.path == "/v1/":
            described = memory.describe()
            return 200, json.dumps(vars(described) | {"version": 1}).encode(), "application/json"
        if upload_id == "keys":
            return 200, json.dumps(memory.recipient_key(name)).encode(), "application/jwk+json"
        if method == "POST":
            return 200, memory.commit(upload_id, body.decode()).encode(), "application/jose"
        if method == "GET":
            state = memory.upload_state(name)
            files = [vars(file) for file in state.files.values()]
            document = {"upload_id": name, "files": files, "receipt": state.receipt}
            return 200, json.dumps(document).encode(), "application/json"
        sha256 = base64.b64decode(self.headers["Content-Digest"].removeprefix("sha-256=:").removesuffix(":")).hex()
        memory.put(upload_id, name, io.BytesIO(body), size_bytes=len(body), sha256=sha256)
        return 201, json.dumps({"name": name, "size_bytes": len(body), "sha256": sha256}).encode(), "application/json"

    def answer(self, status: int, content: bytes, content_type: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


# What may happen instead


def status(number: int, content: bytes = b"no", content_type: str = "text/plain", **headers: str) -> Fault:
    def fault(handler: Handler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        handler.answer(number, content, content_type, Connection="close", **headers)

    return fault


def cut_after(size_bytes: int) -> Fault:
    """The connection is gone so many bytes into the body."""

    def fault(handler: Handler) -> None:
        handler.rfile.read(min(size_bytes, int(handler.headers["Content-Length"])))
        with contextlib.suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)

    return fault


def silent(*, stored: bool) -> Fault:
    """The whole body is taken, and stored or not; no answer ever comes."""

    def fault(handler: Handler) -> None:
        method = handler.command
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if stored:
            handler._done(method, body)
        handler.vault.closing.wait(20)

    return fault


def answer_cut(size_bytes: int) -> Fault:
    """The body is stored; of the answer so many bytes come."""

    def fault(handler: Handler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        code, content, content_type = handler._done(handler.command, body)
        head = f"HTTP/1.1 {code} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        handler.wfile.write((head + content)[:size_bytes])

    return fault


@contextlib.contextmanager
def scripted_vault(
    memory: MemoryVault, *, certificate: Path | None = None, address: str = "127.0.0.1"
) -> Iterator[ScriptedVault]:
    vault = ScriptedVault(memory)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server_class = type("VaultServer", (ThreadingHTTPServer,), {"address_family": family})
    server = server_class((address, 0), type("VaultHandler", (Handler,), {"vault": vault}))
    server.handle_error = lambda *_arguments: None  # type: ignore[method-assign] - a peer that hangs up is the test's own
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme, host = ("http", address) if certificate is None else ("https", "localhost")
    vault.url = f"{scheme}://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield vault
    finally:
        vault.closing.set()
        server.shutdown()
        server.daemon_threads = True
        server.block_on_close = False
        server.server_close()
        thread.join()
