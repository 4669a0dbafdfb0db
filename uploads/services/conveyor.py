"""Files of one upload on their way: some being sealed, some being sent, their rows written in groups between the two.

    sealing (threads) -> syncing (a thread) -> one commit for several -> sending (threads) -> one commit for several

All rows are written by the thread that runs the conveyor. Sealing and sending release the interpreter's lock in all
that takes long (zstd, AES, the hashes, files, sockets: measured, two threads take no longer than one), so threads use
several cores, and the session key stays in this process.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, BinaryIO

from gateway_project.core.errors import JobFault, LaneWaitsError, StopAskedError
from gateway_project.core.failpoint import failpoint
from gateway_project.core.processes import stopping
from uploads.models import UploadPart
from uploads.ports import VaultPort
from uploads.services.ledger import Ledger
from uploads.services.limits import Limits
from uploads.services.staging import Draft

WINDOW_FILES = 64
WINDOW_BYTES = 32 * 1024 * 1024
GROUP_FILES = 24
LINGER_SECONDS = 0.2


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


def _executor(width: int, *, threads: int, name: str) -> Executor:
    return ThreadPoolExecutor(threads, name) if width > 1 else InTurn()


class Conveyor:
    """Seals and sends `width` files at once; with 1 in turn, in the caller's own thread.

    What is sealed and not confirmed is bounded: 64 files of 32 MB in all, or two for each thread if they are larger.
    """

    def __init__(self, ledger: Ledger, *, vault: VaultPort, limits: Limits, upload_id: str, width: int) -> None:
        self._ledger = ledger
        self._vault = vault
        self._limits = limits
        self._upload_id = upload_id
        self._width = width
        self._sealers, self._syncer, self._senders = self._executors = (
            _executor(width, threads=width, name="seal"),
            _executor(width, threads=1, name="sync"),
            _executor(width, threads=width, name="send"),
        )
        self._ended: SimpleQueue[Future[Any]] = SimpleQueue()
        self._sealings: Iterator[Sealing] = iter(())
        self._sealing: dict[Future[Any], Sealing] = {}
        self._drafts: list[Draft] = []
        self._syncing: dict[Future[Any], list[Draft]] = {}
        self._durable: list[UploadPart] = []
        self._held: dict[str, bytes] = {}
        self._sending: dict[Future[Any], UploadPart] = {}
        self._sent: list[UploadPart] = []
        self._removing: dict[Future[Any], list[UploadPart]] = {}
        self._open_files = self._open_bytes = 0
        self._leading: set[str] = set()
        self._behind: list[UploadPart] = []
        self._error: Exception | None = None
        self._gathered_at = time.monotonic()
        self._cut = False

    def __enter__(self) -> "Conveyor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        """No thread is left; whoever is in the middle of a file ends at its next block."""
        self._cut = kind is not None
        for executor in self._executors:
            executor.shutdown(wait=True, cancel_futures=True)
        for future in self._sealing:
            if not future.cancelled() and future.exception() is None:
                self._drafts.append(future.result())
        for draft in self._drafts:
            draft.discard()

    def lead(self, sealings: Iterable[Sealing]) -> None:
        """On return these have their rows and are on their way: nothing sealed later has its row before theirs, or is
        sent before the vault has confirmed them.
        """
        self._going_on_check()
        for sealing in sealings:
            self._drafts.append(self._ledger.staging.write(sealing.fill))
        drafts, self._drafts = self._drafts, []
        self._sync(drafts)
        rows = self._synced(drafts)
        self._ledger.record(rows, ())
        self._opened(rows)
        self._send(rows)
        self._leading |= {row.name for row in rows}

    def run(self, parts: Sequence[UploadPart], sealings: Iterable[Sealing]) -> None:
        """On return all these parts and everything sealed are confirmed by the vault, and our rows say so.

        The first thing that goes wrong ends it: nothing more begins, what is on its way to the vault arrives, what was
        sealed or confirmed is recorded, and the error is raised. Errors of the rows themselves are raised at once.
        `sealings` are asked for one by one, when there is room.
        """
        self._sealings = chain(self._sealings, sealings)
        self._opened(parts)
        self._send(parts)
        while True:
            self._fill()
            if self._idle():
                break
            self._gather()
            self._ledger.renew_if_due()
            self._sync_due()
            self._record_due()
        if self._error is not None:
            raise self._error

    def _idle(self) -> bool:
        moving = self._sealing or self._syncing or self._sending or self._removing
        return not (moving or self._drafts or self._durable or self._sent)

    def _fill(self) -> None:
        if self._error is None:
            try:
                self._going_on_check()
            except (StopAskedError, LaneWaitsError) as error:
                self._failed(error)
        while self._room() and (sealing := next(self._sealings, None)) is not None:
            self._open_files, self._open_bytes = self._open_files + 1, self._open_bytes + sealing.size_bytes
            future = self._sealers.submit(self._ledger.staging.write, sealing.fill)
            self._sealing[future] = sealing
            future.add_done_callback(self._ended.put)

    def _room(self) -> bool:
        if self._width == 1:
            return self._open_files == 0
        if self._open_files < 2 * self._width:
            return True
        return self._open_files < WINDOW_FILES and self._open_bytes < WINDOW_BYTES

    def _opened(self, parts: Sequence[UploadPart], *, sign: int = 1) -> None:
        """Counts what is staged, or will be in a moment."""
        self._open_files += sign * len(parts)
        self._open_bytes += sign * sum(part.size_bytes for part in parts)

    def _send(self, parts: Sequence[UploadPart]) -> None:
        if self._leading:
            self._behind += parts
            return
        for part in parts:
            if self._error is None:
                future = self._senders.submit(self._send_one, part, self._held.pop(part.name, None))
                self._sending[future] = part
                future.add_done_callback(self._ended.put)

    def _gather(self) -> None:
        """Takes what the threads have ended; waits for the first of it, but not for long."""
        try:
            self._take(self._ended.get(timeout=LINGER_SECONDS))
            while True:
                self._take(self._ended.get_nowait())
        except Empty:
            return

    def _take(self, future: Future[Any]) -> None:
        sealing, drafts = self._sealing.pop(future, None), self._syncing.pop(future, None)
        part, removed = self._sending.pop(future, None), self._removing.pop(future, [])
        self._opened(removed, sign=-1)
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._failed(error)
        elif sealing is not None:
            self._drafts.append(future.result())
            self._open_bytes += future.result().part.size_bytes - sealing.size_bytes
        elif drafts is not None:
            self._durable += self._synced(drafts)
        elif part is not None:
            self._sent.append(part)
            self._led(part)

    def _synced(self, drafts: Sequence[Draft]) -> list[UploadPart]:
        self._held |= {draft.part.name: draft.content for draft in drafts if draft.content is not None}
        return [draft.part for draft in drafts]

    def _led(self, part: UploadPart) -> None:
        """What waited behind the last leading part follows it."""
        if part.name in self._leading:
            self._leading.discard(part.name)
            behind, self._behind = self._behind, []
            self._send(behind)

    def _failed(self, error: BaseException) -> None:
        """The first error counts: what has not begun never will."""
        if not isinstance(error, Exception):
            raise error
        self._sealings = iter(())
        if self._error is None:
            self._error = error
            for future in (*self._sealing, *self._sending):
                future.cancel()

    def _sync_due(self) -> None:
        """Files are made durable many at once, unless the senders would wait for them."""
        starving = not self._sealing and len(self._sending) + len(self._durable) < self._width
        if self._drafts and (starving or len(self._drafts) >= GROUP_FILES or self._late()):
            drafts, self._drafts = self._drafts, []
            future = self._syncer.submit(self._sync, drafts)
            self._syncing[future] = drafts
            future.add_done_callback(self._ended.put)

    def _record_due(self) -> None:
        """One commit: rows for what is durable, and what the vault has confirmed meanwhile."""
        resting = not (self._sealing or self._drafts or self._syncing or self._sending)
        if not (self._durable or len(self._sent) >= GROUP_FILES or (self._sent and (resting or self._late()))):
            return
        rows, self._durable = self._durable, []
        sent, self._sent = self._sent, []
        self._ledger.record(rows, sent)
        self._gathered_at = time.monotonic()
        self._send(rows)
        if sent:
            future = self._syncer.submit(self._ledger.staging.remove, [part.sha256 for part in sent])
            self._removing[future] = sent
            future.add_done_callback(self._ended.put)

    def _late(self) -> bool:
        return self._width == 1 or time.monotonic() - self._gathered_at > LINGER_SECONDS

    # In the syncing thread

    def _sync(self, drafts: Sequence[Draft]) -> None:
        self._ledger.staging.keep(drafts)
        for _draft in drafts:
            failpoint("upload.durable")

    # In a sender's thread

    def _send_one(self, part: UploadPart, content: bytes | None) -> None:
        """The vault keeps exactly these bytes on return. Sending them again is harmless."""
        if content is not None:  # what was hashed as it was sealed a moment ago, and is staged just so
            self._put(part, content)
        elif (source := self._ledger.staging.open(part.sha256)) is not None:
            with source:
                self._put(part, source)
        else:
            self._staged_lost(part)
            return
        failpoint("upload.sent")

    def _put(self, part: UploadPart, source: BinaryIO | bytes) -> None:
        before = 0

        def progress(sent_bytes: int) -> None:
            nonlocal before
            before, new_bytes = sent_bytes, sent_bytes - before
            self._moved(part, sent_bytes, new_bytes)

        self._vault.put(
            self._upload_id,
            part.name,
            source,
            size_bytes=part.size_bytes,
            sha256=part.sha256,
            on_progress=progress,
        )

    def _moved(self, part: UploadPart, sent_bytes: int, new_bytes: int) -> None:
        self._ledger.movement.sent(part.name, sent_bytes * part.content_size_bytes // part.size_bytes)
        self.stepped()
        self._limits.pace.sent(new_bytes, on_step=self.stepped)

    def _going_on_check(self) -> None:
        if self._cut or stopping():
            raise StopAskedError
        self._limits.check()

    def stepped(self) -> None:
        """For every block that moves, in any thread: ends the work when a stop is asked, the upload is cut, or the
        vault's time window has closed.
        """
        self._going_on_check()
        self._ledger.movement.stepped()
        if self._width == 1:  # in turn: nobody else is there to do it meanwhile
            self._ledger.renew_if_due()

    def _staged_lost(self, part: UploadPart) -> None:
        """The staged copy is gone: fine if the vault has the very bytes, otherwise the upload is begun anew."""
        stored = self._vault.upload_state(self._upload_id).files.get(part.name)
        if stored is None or stored.sha256 != part.sha256:
            raise JobFault("A sealed file was lost before it was sent.", code="staging-lost")
