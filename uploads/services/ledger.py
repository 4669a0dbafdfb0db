"""The rows of one upload, written in groups by the one thread that may: fenced, and never behind what was promised."""

import threading
import time
from collections.abc import Iterable, Sequence

from django.db import transaction
from django.db.models import F

from gateway_project.core.clock import database_now
from gateway_project.core.failpoint import failpoint
from gateway_project.core.services.jobs import job_note, job_progress
from uploads.models import UploadAttempt, UploadJob, UploadPart
from uploads.queue import QUEUE
from uploads.services.staging import Staging

LEASE_RENEWAL_SECONDS = 5.0


class Movement:
    """What moves in the threads of an upload, for its one writing thread to see. Touches no database."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, int] = {}
        self._steps = 0

    def stepped(self) -> None:
        """A block was sealed or sent."""
        self._steps += 1  # a lost one of two at the same moment is still a step

    def sent(self, name: str, content_bytes: int) -> None:
        """So much of that file was handed to the network."""
        with self._lock:
            self._under_way[name] = content_bytes

    def landed(self, names: Iterable[str]) -> None:
        """These files count in full from now on."""
        with self._lock:
            for name in names:
                self._under_way.pop(name, None)

    def look(self) -> tuple[int, int]:
        """How many steps there were, and the bytes that are under way."""
        with self._lock:
            return self._steps, sum(self._under_way.values())


class Ledger:
    """What an upload knows of its files. Only the thread that holds the job's claim calls it.

    Everything it writes is fenced by the claim, in the transaction of the write itself: a worker that has lost its
    lease changes nothing any more. No name is put before its row is committed, and a row never changes its hash.
    """

    def __init__(self, job: UploadJob) -> None:
        self.staging = Staging(job.upload_id)
        self.movement = Movement()
        self.parts: dict[str, UploadPart] = {}
        self.total_bytes = job.revision.size_bytes
        self._job = job
        self._files_done = 0
        self._done_bytes = 0
        self._renewed = time.monotonic()
        self._steps_seen = 0

    def load(self) -> None:
        """Reads what earlier attempts left; the staging folder holds nothing but what waits to be sent."""
        self.parts = {part.name: part for part in self._job.parts.order_by("pk")}
        confirmed = [part for part in self.parts.values() if part.confirmed_at is not None]
        self._files_done = sum(part.instance_id is not None for part in confirmed)
        self._done_bytes = sum(part.content_size_bytes for part in confirmed)
        self.staging.prepare({part.sha256 for part in self.waiting()})

    def waiting(self) -> list[UploadPart]:
        """Staged and not confirmed, in the order of sealing."""
        return [part for part in self.parts.values() if part.confirmed_at is None]

    def files_planned(self, count: int, *, missing_bytes: int) -> None:
        """The upload is of so many files, of which those missing have so many bytes of content."""
        staged_bytes = sum(part.content_size_bytes for part in self.parts.values())
        self.total_bytes = staged_bytes + missing_bytes
        job_note(self._job, files_total=count)

    def record(self, rows: Sequence[UploadPart], sent: Sequence[UploadPart], *, by_us: bool = True) -> None:
        """One commit: rows for what is durable in the staging folder, and the vault's word for what was sent.

        The staged copies of what is confirmed may go after it. Not `by_us`: an earlier attempt has sent it.
        """
        self.movement.landed(part.name for part in sent)
        done_bytes = self._done_bytes + sum(part.content_size_bytes for part in sent)
        files_done = self._files_done + sum(part.instance_id is not None for part in sent)
        moment = database_now()
        with transaction.atomic():
            self.renew(done_bytes + self.movement.look()[1])
            if rows:
                for row in rows:
                    row.staged_at = moment
                UploadPart.objects.bulk_create(rows)
            if sent:
                self._confirm(sent, files_done=files_done, by_us=by_us)
        self.parts |= {row.name: row for row in rows}
        _passed("upload.staged", rows)
        for part in sent:
            part.confirmed_at = moment
        self._done_bytes, self._files_done = done_bytes, files_done
        _passed("upload.confirmed", sent)

    def _confirm(self, sent: Sequence[UploadPart], *, files_done: int, by_us: bool) -> None:
        UploadPart.objects.filter(pk__in=[part.pk for part in sent]).update(confirmed_at=database_now())
        if by_us:
            UploadAttempt.objects.filter(job=self._job, result="running").update(
                files_sent=F("files_sent") + len(sent),
                bytes_sent=F("bytes_sent") + sum(part.size_bytes for part in sent),
            )
        job_note(self._job, files_done=files_done)

    def renew_if_due(self) -> None:
        """Renews the lease every few seconds, and only while something moves."""
        steps, under_way = self.movement.look()
        if steps != self._steps_seen and time.monotonic() - self._renewed > LEASE_RENEWAL_SECONDS:
            self._steps_seen = steps
            self.renew(self._done_bytes + under_way)

    def renew(self, done_bytes: int | None = None) -> None:
        """This is still our job, its lease lives on; in a transaction it stays ours to the end. Else LeaseLostError."""
        done = min(self._done_bytes if done_bytes is None else done_bytes, self.total_bytes)
        job_progress(QUEUE, self._job, done=done, total=self.total_bytes, now=database_now())
        self._renewed = time.monotonic()


def _passed(place: str, parts: Sequence[UploadPart]) -> None:
    for _part in parts:
        failpoint(place)
