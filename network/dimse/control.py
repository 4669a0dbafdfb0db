"""The acceptor's ear: other processes of this gateway ask it over a socket in the data directory, one line each way."""

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from network.dimse.errors import DimseError

logger = logging.getLogger(__name__)
CALL_SECONDS = 2.0
_MESSAGE_BYTES_MAX = 8 << 20

Message = dict[str, Any]


class ControlError(DimseError):
    """Nobody answers at the control socket (code `listeners-away`)."""


class ControlServer:
    """Answers calls in a thread of its own, one after the other; who may enter the directory may call (0600).

    `answer` must not wait. A caller that does not speak or read in two seconds is dropped.
    """

    def __init__(self, path: Path, answer: Callable[[Message], Message]) -> None:
        self._path = path
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    def start(self) -> None:
        """Listen from now on; what an earlier process left under this name is replaced."""
        self._path.unlink(missing_ok=True)
        with _short(self._path) as address:
            self._socket.bind(address)
        self._path.chmod(0o600)
        self._socket.listen(16)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; may be repeated."""
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                if self._socket.fileno() < 0 or not self._path.exists():
                    return
                threading.Event().wait(CALL_SECONDS)  # out of descriptors: others may end meanwhile
                continue
            with connection:
                self._serve_one(connection)

    def _serve_one(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(CALL_SECONDS)
            with connection.makefile("rb") as stream:
                request = json.loads(stream.readline(_MESSAGE_BYTES_MAX))
            connection.sendall(json.dumps(self._answer(request), default=str).encode() + b"\n")
        except Exception as exc:  # noqa: BLE001 - the outermost loop of the control socket
            logger.warning("control call failed", extra={"exception": type(exc).__name__})


def control_call(path: Path, request: Message) -> Message:
    """The acceptor's answer; raises ControlError when no acceptor listens there, or it does not answer in time."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, _short(path) as address:
            connection.settimeout(CALL_SECONDS)
            connection.connect(address)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer: Message = json.loads(stream.readline(_MESSAGE_BYTES_MAX))
    except (OSError, ValueError) as exc:
        raise ControlError(
            "The listeners do not answer: start the gateway, or see its log.", code="listeners-away"
        ) from exc
    return answer


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path as the kernel takes it for a socket (107 bytes at most), however deep the directory lies."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
