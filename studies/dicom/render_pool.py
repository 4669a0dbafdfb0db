"""Render processes of one parent: few, long-lived, killed when a picture takes too long, replaced when they die.

Thread-safe. What is beyond the bound is refused at once or after a short wait (`picture-busy`), so that threads of the
web never pile up behind pictures. The processes end by themselves when their parent does: their socket closes.
"""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from studies.dicom.render_errors import RenderError
from studies.dicom.render_request import Request
from studies.dicom.render_worker import HEAD, LENGTH, READY

ROOT: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 30.0
END_SECONDS: Final = 5.0
MAX_HEAD: Final = 65_536
MAX_PICTURE: Final = 256 << 20
_ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")


@dataclass(frozen=True)
class Limits:
    """`waiting`: how many may wait for a process, and for how long; the rest bounds one picture."""

    processes: int = 1
    waiting: int = 6
    wait_seconds: float = 10.0
    seconds: float = 10.0
    memory_mb: int = 1024


class _LeftError(Exception):
    """The process had ended in order, idle for long or after its share of pictures: another one can be asked."""


class RenderProcess:
    """One living render process. Raises RenderError; after `picture-slow` and `picture-killed` it is dead."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        ours, theirs = socket.socketpair()
        self._socket = ours
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "studies.dicom.render_worker", str(theirs.fileno()),
                 str(limits.memory_mb), str(max(int(limits.seconds), 1))],
                cwd=ROOT, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, env={"PATH": os.environ.get("PATH", ""), **_ONE_THREAD},
            )  # fmt: skip
        try:
            self._socket.settimeout(START_SECONDS)
            started = self._socket.recv(1) == READY
        except OSError:
            started = False
        if not started:
            self.kill()
            raise RenderError("picture-killed")

    def alive(self) -> bool:
        return self.process.poll() is None

    def render(self, descriptor: int, request: Request) -> tuple[dict[str, Any], bytes]:
        """The facts and the picture of the object in this open file, which is read from its beginning."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        deadline = time.monotonic() + self._limits.seconds
        asked = json.dumps(asdict(request)).encode()
        try:
            self._socket.settimeout(self._limits.seconds)
            socket.send_fds(self._socket, [LENGTH.pack(len(asked)) + asked], [descriptor])
            head_length, length = HEAD.unpack(self._read(HEAD.size, deadline))
            answer = json.loads(self._read(min(head_length, MAX_HEAD), deadline))
            picture = self._read(min(length, MAX_PICTURE), deadline)
        except TimeoutError as error:
            self.kill()
            raise RenderError("picture-slow") from error
        except (OSError, EOFError, ValueError) as error:
            raise self._ended() from error
        if "error" in answer:
            raise RenderError(answer["error"], answer["detail"])
        return answer["facts"], picture

    def _read(self, size: int, deadline: float) -> bytes:
        pieces = bytearray()
        while len(pieces) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            piece = self._socket.recv(min(size - len(pieces), 1 << 20))
            if not piece:
                raise EOFError
            pieces += piece
        return bytes(pieces)

    def _ended(self) -> Exception:
        """Why there is no answer: it ended by itself before it looked at the request, or because of it."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)  # its end of the socket is closed
        self.kill()
        if self.process.returncode == 0:
            return _LeftError()
        return RenderError("picture-slow" if self.process.returncode == -signal.SIGXCPU else "picture-killed")

    def kill(self) -> None:
        """On return it is gone. One that has just ended by itself keeps what it ended with."""
        self._socket.close()
        self.process.kill()
        self.process.wait()


class RenderPool:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._places = threading.BoundedSemaphore(limits.processes + limits.waiting)
        self._idle: queue.LifoQueue[RenderProcess | None] = queue.LifoQueue()
        for _ in range(limits.processes):
            self._idle.put(None)

    def render(self, descriptor: int, request: Request) -> tuple[dict[str, Any], bytes]:
        """As of RenderProcess; also raises RenderError `picture-busy`."""
        if not self._places.acquire(blocking=False):
            raise RenderError("picture-busy")
        try:
            return self._render(descriptor, request)
        finally:
            self._places.release()

    def _render(self, descriptor: int, request: Request) -> tuple[dict[str, Any], bytes]:
        try:
            process = self._idle.get(timeout=self.limits.wait_seconds)
        except queue.Empty:
            raise RenderError("picture-busy") from None
        try:
            if process is None or not process.alive():
                if process is not None:
                    process.kill()
                process = None
                process = RenderProcess(self.limits)
            try:
                return process.render(descriptor, request)
            except _LeftError:
                process = None
                process = RenderProcess(self.limits)
                return process.render(descriptor, request)
        finally:
            if process is not None and not process.alive():
                process.kill()
                process = None
            self._idle.put(process)

    def close(self) -> None:
        """Ends the idle ones; those at work end after their picture, when the pool is gone."""
        with suppress(queue.Empty):
            while True:
                process = self._idle.get_nowait()
                if process is not None:
                    process.kill()
