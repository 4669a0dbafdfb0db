"""A DICOMweb server on port 0 that takes STOW-RS as PS3.18 10.5 says, can be told to misbehave, and looked into."""

import contextlib
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pydicom

REFERENCED, FAILED = "00081199", "00081198"


@dataclass
class StowServer:
    """`objects` holds what is stored, by UID, the first content for ever; `requests` the UIDs of each request in turn.

    `reasons` are the FailureReasons of UIDs that are not stored; `warnings` the WarningReasons of those that are.
    `before` is called with the number of a request and its UIDs, and may answer a status to refuse it with.
    """

    url: str = ""
    token: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[list[str]] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    silent_about: set[str] = field(default_factory=set)
    bytes_max: int = 0
    before: Callable[[int, list[str]], int | None] = lambda _number, _uids: None
    after: Callable[[int], bool] = lambda _number: True

    def stored(self) -> list[str]:
        return sorted(self.objects)


def _parts(body: bytes, content_type: str) -> list[bytes]:
    boundary = content_type.partition("boundary=")[2].encode()
    if not boundary or not body.endswith(b"--" + boundary + b"--\r\n"):
        raise ValueError("not a whole multipart body")
    return [piece.partition(b"\r\n\r\n")[2][:-2] for piece in body.split(b"--" + boundary)[1:-1]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Listener"

    def log_message(self, *_args: object) -> None:
        """Silent."""

    def do_POST(self) -> None:
        scripted = self.server.scripted
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
        elif scripted.token and self.headers.get("Authorization") != f"Bearer {scripted.token}":
            self._answer(401, {})
        else:
            parts = _parts(body, self.headers["Content-Type"])
            self._judge(scripted, {_uid(part): part for part in parts}, length)

    def _judge(self, scripted: StowServer, objects: dict[str, bytes], length: int) -> None:
        scripted.requests.append(list(objects))
        refusal = scripted.before(len(scripted.requests), list(objects))
        if scripted.bytes_max and length > scripted.bytes_max:
            refusal = 413
        if refusal:
            self._answer(refusal, None)
            return
        stored = {uid: part for uid, part in objects.items() if uid not in scripted.reasons}
        for uid, part in stored.items():
            scripted.objects.setdefault(uid, part)
        if not scripted.after(len(scripted.requests)):
            self.close_connection = True  # stored, and nobody hears of it
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        named = [(uid, "00081196", scripted.warnings.get(uid)) for uid in stored if uid not in scripted.silent_about]
        failed = [(uid, "00081197", scripted.reasons[uid]) for uid in objects if uid in scripted.reasons]
        status = 200 if not failed else 202 if named else 409
        self._answer(status, {REFERENCED: _sequence(named), FAILED: _sequence(failed)})

    def _answer(self, status: int, document: object) -> None:
        content = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if document is None else "application/dicom+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Listener(ThreadingHTTPServer):
    scripted: StowServer


def _uid(part: bytes) -> str:
    return str(pydicom.dcmread(io.BytesIO(part), stop_before_pixels=True).SOPInstanceUID)


def _sequence(named: list[tuple[str, str, int | None]]) -> dict[str, object]:
    items = []
    for uid, tag, reason in named:
        item: dict[str, object] = {"00081155": {"vr": "UI", "Value": [uid]}}
        items.append(item if reason is None else item | {tag: {"vr": "US", "Value": [reason]}})
    return {"vr": "SQ", "Value": items}


@contextlib.contextmanager
def stow_server(token: str = "") -> Iterator[StowServer]:
    server = StowServer(token=token)
    with _Listener(("127.0.0.1", 0), _Handler) as listener:
        listener.scripted = server
        server.url = f"http://127.0.0.1:{listener.server_address[1]}/dicom-web"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
