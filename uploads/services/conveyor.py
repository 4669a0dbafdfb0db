"""Files of one upload on their way: some being sealed, some being sent, their rows written in groups between the two.

    sealings -> [sealer threads] -> drafts -> (one commit for several) -> parts -> [sender threads] -> (one commit)

All rows are written by the thread that runs the conveyor. Sealing and sending release the interpreter's lock in all
that takes long (zstd, AES, the hashes, files, sockets: measured, two threads take no longer than one), so threads use
several cores, and the session key stays in this process.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, BinaryIO

from gateway_project.core.errors import JobFault, StopAskedError
from gateway_project.core.failpoint import failpoint
from gateway_project.core.processes import stopping
from uploads.models import UploadPart
from uploads.ports import VaultPort
from uploads.services.ledger import Ledger
from uploads.services.staging import Draft

WINDOW_FILES = 32
WINDOW_BYTES = 64 * 1024 * 1024
GROUP_FILES = 8
LINGER_SECONDS = 0.1


@dataclass(frozen=True)
class Sealing:
    """A file still to be sealed: `fill` writes its ciphertext and answers its row, unsaved; any thread may call it."""

    size_bytes: int
    fill: Callable[[BinaryIO], UploadPart]


class InTurn(Executor):
    """Does each thing at once, in the caller's thread: one file at a time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - handed on to who asks for the result, as any executor does
            future.set_exception(error)
        return future


class Conveyor:
    """Seals and sends `width` files at once; with 1 in turn, in the caller's own thread.

    What is sealed and not confirmed is bounded: 32 files of 64 MB in all, or two for each thread if they are larger.
    """

    def __init__(self, ledger: Ledger, *, vault: VaultPort, upload_id: str, width: int) -> None:
        self._ledger = ledger
        self._vault = vault
        self._upload_id = upload_id
        self._width = width
        self._sealers: Executor = ThreadPoolExecutor(width, "seal") if width > 1 else InTurn()
        self._senders: Executor = ThreadPoolExecutor(width, "send") if width > 1 else InTurn()
        self._ended: SimpleQueue[Future[Any]] = SimpleQueue()
        self._sealings: deque[Sealing] = deque()
        self._sealing: dict[Future[Any], Sealing] = {}
        self._sending: dict[Future[Any], UploadPart] = {}
        self._drafts: list[Draft] = []
        self._sent: list[UploadPart] = []
        self._error: BaseException | None = None
        self._oldest = 0.0
        self._cut = False

    def __enter__(self) -> "Conveyor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        """No thread is left; whoever is in the middle of a file ends at its next block."""
        self._cut = kind is not None
        for executor in (self._sealers, self._senders):
            executor.shutdown(wait=True, cancel_futures=True)
        self._gather(wait_seconds=0.0)
        for draft in self._drafts:
            draft.discard()

    def run(self, parts: Sequence[UploadPart], sealings: Iterable[Sealing]) -> None:
        """On return all these parts and everything sealed are confirmed by the vault, and our rows say so.

        The first thing that goes wrong ends it: nothing more begins, what is on its way to the vault arrives, what was
        sealed or confirmed is recorded, and the error is raised. Errors of the rows themselves are raised at once.
        """
        self._sealings.extend(sealings)
        self._send(parts)
        while True:
            self._fill()
            if self._idle():
                break
            self._gather(wait_seconds=LINGER_SECONDS)
            self._ledger.renew_if_due()
            if self._due():
                self._record()
        if self._error is not None:
            raise self._error

    def _idle(self) -> bool:
        return not (self._sealing or self._sending or self._drafts or self._sent)

    def _fill(self) -> None:
        if self._error is None and stopping():
            self._failed(StopAskedError())
        while self._sealings and self._room():
            sealing = self._sealings.popleft()
            future = self._sealers.submit(self._ledger.staging.write, sealing.fill)
            self._sealing[future] = sealing
            future.add_done_callback(self._ended.put)

    def _room(self) -> bool:
        files = len(self._sealing) + len(self._drafts) + len(self._sending) + len(self._sent)
        if self._width == 1:
            return files == 0
        if files < 2 * self._width:
            return True
        bytes_held = sum(sealing.size_bytes for sealing in self._sealing.values())
        bytes_held += sum(draft.part.size_bytes for draft in self._drafts)
        bytes_held += sum(part.size_bytes for part in (*self._sending.values(), *self._sent))
        return files < WINDOW_FILES and bytes_held < WINDOW_BYTES

    def _send(self, parts: Sequence[UploadPart]) -> None:
        for part in parts:
            if self._error is None:
                future = self._senders.submit(self._send_one, part)
                self._sending[future] = part
                future.add_done_callback(self._ended.put)

    def _gather(self, *, wait_seconds: float) -> None:
        """Takes what the threads have ended; waits for the first of it, no longer than that."""
        try:
            self._take(self._ended.get(timeout=wait_seconds) if wait_seconds else self._ended.get_nowait())
            while True:
                self._take(self._ended.get_nowait())
        except Empty:
            return

    def _take(self, future: Future[Any]) -> None:
        sealing, part = self._sealing.pop(future, None), self._sending.pop(future, None)
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._failed(error)
            return
        if not self._drafts and not self._sent:
            self._oldest = time.monotonic()
        if sealing is not None:
            self._drafts.append(future.result())
        elif part is not None:
            self._sent.append(part)

    def _failed(self, error: BaseException) -> None:
        """The first error counts: what has not begun never will."""
        if not isinstance(error, Exception):
            raise error
        self._sealings.clear()
        if self._error is None:
            self._error = error
            for future in (*self._sealing, *self._sending):
                future.cancel()

    def _due(self) -> bool:
        """Rows are written for many at once; but neither may the senders starve nor the window stay shut."""
        if not self._drafts and not self._sent:
            return False
        if not self._sealing and (self._drafts or not self._sending):
            return True
        if max(len(self._drafts), len(self._sent) // 2) >= GROUP_FILES:
            return True
        return time.monotonic() - self._oldest > LINGER_SECONDS

    def _record(self) -> None:
        drafts, self._drafts = self._drafts, []
        sent, self._sent = self._sent, []
        self._send(self._ledger.record(drafts, sent))

    # In a sender's thread

    def _send_one(self, part: UploadPart) -> None:
        """The vault keeps exactly these bytes on return. Sending them again is harmless."""
        source = self._ledger.staging.open(part.sha256)
        if source is None:
            self._staged_lost(part)
            return
        with source:
            self._vault.put(
                self._upload_id,
                part.name,
                source,
                size_bytes=part.size_bytes,
                sha256=part.sha256,
                on_progress=lambda sent: self._moved(part, sent),
            )
        failpoint("upload.sent")

    def _moved(self, part: UploadPart, sent_bytes: int) -> None:
        self._ledger.movement.sent(part.name, sent_bytes * part.content_size_bytes // part.size_bytes)
        self.stepped()

    def stepped(self) -> None:
        """For every block that moves, in any thread: ends the work when a stop is asked or the upload is cut."""
        if self._cut or stopping():
            raise StopAskedError
        self._ledger.movement.stepped()
        if self._width == 1:  # in turn: nobody else is there to do it meanwhile
            self._ledger.renew_if_due()

    def _staged_lost(self, part: UploadPart) -> None:
        """The staged copy is gone: fine if the vault has the very bytes, otherwise the upload is begun anew."""
        stored = self._vault.upload_state(self._upload_id).files.get(part.name)
        if stored is None or stored.sha256 != part.sha256:
            raise JobFault("A sealed file was lost before it was sent.", code="staging-lost")
