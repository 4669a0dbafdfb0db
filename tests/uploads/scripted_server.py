"""A real TCP server on port 0 that reads requests and answers exactly the octets a test scripts."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Answer = bytes | Callable[[socket.socket], None]


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedServer:
    """`answers` are used one a connection, the last for ever; `body_limit` closes a connection that many octets in."""

    answers: list[Answer]
    body_limit: int | None = None
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, listener: socket.socket) -> None:
        threads = []
        while not self.stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                break
            threads.append(threading.Thread(target=self._answer, args=(connection,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            if not self._read(connection):
                return
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if callable(answer):
                answer(connection)
            else:
                connection.sendall(answer)

    def _read(self, connection: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            block = connection.recv(65536)
            if not block:
                return False
            data += block
        head, _, body = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
        length = int(headers.get("content-length", "0"))
        while len(body) < length:
            if self.body_limit is not None and len(body) >= self.body_limit:
                return False
            block = connection.recv(65536)
            if not block:
                return False
            body += block
        self.requests.append(Request(line, headers, body))
        return True


@contextlib.contextmanager
def scripted(*answers: Answer, body_limit: int | None = None) -> Iterator[ScriptedServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ScriptedServer(list(answers), body_limit=body_limit, port=listener.getsockname()[1])
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def answer(
    status: int, content: bytes | str = b"", *, content_type: str = "application/json", headers: str = ""
) -> bytes:
    """A whole HTTP/1.1 answer; `headers` are further lines, each ended by CRLF."""
    content = content.encode() if isinstance(content, str) else content
    if not re.fullmatch(r"([!-~]+:[ -~]*\r\n)*", headers):
        raise ValueError(headers)
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n{headers}"
    return f"{head}Connection: close\r\n\r\n".encode() + content
