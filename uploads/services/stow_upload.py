"""One upload by STOW-RS: send what is not confirmed, believe only what the server names, say what it refused and why.

There is no receipt: the job is done when the server has confirmed every instance by its UID. Everything may be
repeated, as a server stores a SOP Instance UID once.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from django.db import transaction
from django.db.models import F

from gateway_project.core.clock import database_now
from gateway_project.core.errors import JobFault, StopAskedError
from gateway_project.core.failpoint import failpoint
from gateway_project.core.processes import stopping
from gateway_project.core.services.jobs import job_done, job_note, job_progress
from network.dicomweb.stow import DUPLICATE_INSTANCE, Meaning, Part, StoreAnswer, failure_meaning, warning_words
from studies.dicom.spool import SpoolError, Store
from studies.models import Instance
from uploads.models import UploadAttempt, UploadJob, UploadPart
from uploads.queue import QUEUE
from uploads.selectors import stow_instances
from uploads.services.attempt import order_check, upload_recorded
from uploads.services.limits import Limits, vault_block_bytes
from uploads.services.plan import uploads_follow
from uploads.services.stored import stored_object
from uploads.stow.client import RequestRefusedError, StowClient

LEASE_RENEWAL_SECONDS = 5.0
REFUSALS_IN_VAIN = 5
"""So many objects refused alone, and none stored: the server refuses everything, and the rest is not tried."""
UNCONFIRMED = Meaning("the server answered without naming it", permanent=False)


@dataclass
class _Item:
    """One instance in a request; its hash is known once it has been read."""

    instance: Instance
    size_bytes: int
    sha256: str = ""


class _ObjectFaultError(Exception):
    """An object here cannot be read as it was received; the request that was to hold it did not leave whole."""

    def __init__(self, item: _Item, code: str, words: str, *, permanent: bool) -> None:
        super().__init__(words)
        self.item, self.code, self.meaning = item, code, Meaning(words, permanent)


@dataclass
class _Limits:
    instances: int
    size_bytes: int

    def halve(self, items: list[_Item]) -> None:
        """A request of these was too large: the next ones are smaller."""
        self.instances = max(min(self.instances, len(items) // 2), 1)
        self.size_bytes = max(min(self.size_bytes, sum(item.size_bytes for item in items) // 2), 1)


@dataclass
class _Tally:
    """What this attempt has come to so far."""

    refused_alone: int = 0
    failures: Counter[Meaning] = field(default_factory=Counter)
    codes: set[str] = field(default_factory=set)


class StowUpload:
    """One attempt. Everything it writes is fenced by the job's claim, in the transaction of the write itself."""

    def __init__(self, job: UploadJob, *, client: StowClient, store: Store) -> None:
        self._job = job
        self._client = client
        self._store = store
        self._limits = _Limits(job.vault.batch_instances, job.vault.batch_bytes)
        self._tally = _Tally()
        self._done_bytes = 0
        self._total_bytes = job.revision.size_bytes
        self._renewed = time.monotonic()
        self._allowed = Limits(job.vault, now=database_now())
        self._block_bytes = vault_block_bytes(job.vault)
        self._sent_bytes = 0  # of the request under way

    def run(self) -> None:
        """Ends with the job done and every instance confirmed by name, or raises; what was confirmed stays so.

        Raises JobFault, VaultError, LeaseLostError, JobWaitsError, LaneWaitsError, StopAskedError.
        """
        order_check(self._job)
        self._renew()
        for batch in self._batches(self._waiting()):
            self._deliver(batch)
        if self._tally.failures:
            raise self._fault()
        job_done(QUEUE, self._job, now=database_now(), finish=self._finish)
        failpoint("stow.done")
        uploads_follow(self._job, now=database_now())

    def _waiting(self) -> list[tuple[int, int]]:
        """What is not confirmed: keys and sizes, as a study may have 100,000 instances."""
        confirmed = set(
            self._job.parts.filter(confirmed_at__isnull=False).values_list("instance_id", flat=True).iterator()
        )
        waiting, total = [], 0
        for pk, size_bytes in stow_instances(self._job).values_list("pk", "size_bytes").iterator():
            total += size_bytes
            if pk in confirmed:
                self._done_bytes += size_bytes
            else:
                waiting.append((pk, size_bytes))
        self._total_bytes = total
        files_done = len(confirmed)
        job_note(self._job, files_total=files_done + len(waiting), files_done=files_done)
        return waiting

    def _batches(self, waiting: list[tuple[int, int]]) -> Iterator[list[_Item]]:
        """Requests within the limits as they are at that moment; an object that is larger than them goes alone."""
        chosen: list[int] = []
        size = 0
        for pk, size_bytes in waiting:
            full = len(chosen) >= self._limits.instances or size + size_bytes > self._limits.size_bytes
            if chosen and full:
                yield self._items(chosen)
                chosen, size = [], 0
            chosen.append(pk)
            size += size_bytes
        if chosen:
            yield self._items(chosen)

    def _items(self, pks: list[int]) -> list[_Item]:
        """The stored files of these; what has none is noted as failed and left out."""
        items = []
        for instance in Instance.objects.filter(pk__in=pks).order_by("pk"):
            item = _Item(instance, 0)
            try:
                item.size_bytes = self._store.size(instance.path)
            except SpoolError as error:
                self._note_fault(_ObjectFaultError(item, error.code, str(error), permanent=error.permanent))
            else:
                items.append(item)
        return items

    def _deliver(self, batch: list[_Item]) -> None:
        """Sends a batch; one that is refused as a whole is halved until it is known which object is meant."""
        waiting = [batch] if batch else []
        while waiting:
            items = waiting.pop()
            for item in items:
                item.sha256 = ""
            try:
                answer = self._client.store([self._part(item) for item in items], on_progress=self._progress)
            except _ObjectFaultError as fault:
                self._note_fault(fault)
                rest = [item for item in items if item is not fault.item]
                waiting += [rest] if rest else []
            except RequestRefusedError as refusal:
                waiting += self._narrowed(items, refusal)
            else:
                failpoint("stow.answered")
                self._note_answer(items, answer)

    def _narrowed(self, items: list[_Item], refusal: RequestRefusedError) -> list[list[_Item]]:
        if len(items) > 1:
            if refusal.code == "stow-too-large":
                self._limits.halve(items)
            middle = len(items) // 2
            return [items[middle:], items[:middle]]
        self._tally.refused_alone += 1
        self._write(items, {items[0].instance.pk: (refusal.code, Meaning(str(refusal), permanent=True))})
        if self._tally.refused_alone >= REFUSALS_IN_VAIN and not self._job.files_done:
            raise JobFault(
                f"The server refuses every object that it was offered: {refusal} Mend it there, then try again.",
                code=refusal.code,
                permanent=True,
            )
        return []

    def _part(self, item: _Item) -> Part:
        return Part(item.size_bytes, lambda: self._blocks(item))

    def _blocks(self, item: _Item) -> Iterator[bytes]:
        """The stored file; its last block leaves only when all of it is what was received (PS3.10 Part 10 file).

        So a damaged object is never offered whole: its request ends in the middle, and no server can take it.
        """
        digest = hashlib.sha256()
        try:
            with stored_object(self._store, item.instance) as source:
                held = source.read(self._block_bytes)
                while following := source.read(self._block_bytes):
                    digest.update(held)
                    yield held
                    held = following
        except (JobFault, SpoolError) as error:
            raise _ObjectFaultError(item, error.code, str(error), permanent=error.permanent) from error
        except OSError as error:  # requests would take it for a fault of the connection, and blame the lane
            words = "A stored file cannot be read; check the disk."
            raise _ObjectFaultError(item, "object-unreadable", words, permanent=False) from error
        digest.update(held)
        item.sha256 = digest.hexdigest()
        yield held

    def _note_answer(self, items: list[_Item], answer: StoreAnswer) -> None:
        """Confirmed is what the answer names as stored, and what it names as already there under its first content."""
        failed: dict[int, tuple[str, Meaning]] = {}
        confirmed: dict[int, tuple[str, str]] = {}
        for item in items:
            uid, pk = item.instance.sop_instance_uid, item.instance.pk
            if uid in answer.stored:
                warning = answer.stored[uid]
                confirmed[pk] = ("", "") if warning is None else (f"{warning:04X}", warning_words(warning))
            elif uid not in answer.failed:
                failed[pk] = ("unconfirmed", UNCONFIRMED)
            elif answer.failed[uid] == DUPLICATE_INSTANCE and item.instance.version == 1:
                confirmed[pk] = (f"{DUPLICATE_INSTANCE:04X}", "the server had it already")
            else:
                reason = answer.failed[uid]
                failed[pk] = ("" if reason is None else f"{reason:04X}", failure_meaning(reason))
        self._write(items, failed, confirmed)

    def _note_fault(self, fault: _ObjectFaultError) -> None:
        self._write([fault.item], {fault.item.instance.pk: (fault.code, fault.meaning)})

    def _write(
        self,
        items: list[_Item],
        failed: dict[int, tuple[str, Meaning]],
        confirmed: dict[int, tuple[str, str]] | None = None,
    ) -> None:
        """One transaction for all of a request: rows, progress, and that this is still our job."""
        confirmed = confirmed or {}
        moment = database_now()
        rows = []
        for item in items:
            code, words = _result(item.instance.pk, failed, confirmed)
            rows.append(_row(self._job, item, code, words, moment if item.instance.pk in confirmed else None))
        stored_bytes = sum(item.instance.size_bytes for item in items if item.instance.pk in confirmed)
        with transaction.atomic():
            self._renew(self._done_bytes + stored_bytes)
            UploadPart.objects.bulk_create(
                rows,
                update_conflicts=True,
                unique_fields=["job", "name"],
                update_fields=["sha256", "size_bytes", "content_sha256", "content_size_bytes", "staged_at",
                               "confirmed_at", "result_code", "result_words"],
            )  # fmt: skip
            UploadAttempt.objects.filter(job=self._job, result="running").update(
                files_sent=F("files_sent") + len(confirmed),
                bytes_sent=F("bytes_sent") + sum(row.size_bytes for row in rows if row.confirmed_at),
            )
            job_note(self._job, files_done=self._job.files_done + len(confirmed))
        failpoint("stow.confirmed")
        self._done_bytes += stored_bytes
        self._tally.failures.update(meaning for _code, meaning in failed.values())
        self._tally.codes.update(code for code, _meaning in failed.values())

    def _fault(self) -> JobFault:
        """What was refused and why, the most frequent first. Given up only when nothing of it can succeed later."""
        failures = self._tally.failures
        total = self._job.files_total
        reasons = "; ".join(f"{count} ({meaning.words.rstrip('.')})" for meaning, count in failures.most_common(3))
        permanent = all(meaning.permanent for meaning in failures)
        rest = "The study's page names them." if permanent else "They are sent again."
        stored = f"{total - failures.total()} of {total} objects stored"
        code = next(iter(self._tally.codes)) if len(self._tally.codes) == 1 else ""
        return JobFault(
            f"{stored}. Not stored: {reasons}. {rest}"[:400],
            code=code if code.startswith(("object-", "stow-")) else "stow-not-stored",
            permanent=permanent,
        )

    def _finish(self) -> None:
        """Runs inside the transaction that marks the job done."""
        upload_recorded(self._job, files=self._job.files_done, transport=self._job.vault.transport)

    def _progress(self, content_bytes: int) -> None:
        """Called as bytes move, with how many of the request's have: no faster than the vault's row allows."""
        new_bytes = content_bytes - self._sent_bytes if content_bytes >= self._sent_bytes else content_bytes
        self._sent_bytes = content_bytes
        self._step(content_bytes)
        self._allowed.pace.sent(new_bytes, on_step=partial(self._step, content_bytes))

    def _step(self, content_bytes: int) -> None:
        """Ends the attempt when a stop is asked or the time window has closed; renews the lease every few seconds."""
        if stopping():
            raise StopAskedError
        self._allowed.check()
        if time.monotonic() - self._renewed > LEASE_RENEWAL_SECONDS:
            self._renew(self._done_bytes + content_bytes)

    def _renew(self, done_bytes: int | None = None) -> None:
        """This is still our job, its lease lives on; in a transaction it stays ours to the end. Else LeaseLostError."""
        done = min(self._done_bytes if done_bytes is None else done_bytes, self._total_bytes)
        job_progress(QUEUE, self._job, done=done, total=self._total_bytes, now=database_now())
        self._renewed = time.monotonic()


def _result(pk: int, failed: dict[int, tuple[str, Meaning]], confirmed: dict[int, tuple[str, str]]) -> tuple[str, str]:
    if pk in confirmed:
        return confirmed[pk]
    code, meaning = failed[pk]
    return code, meaning.words


def _row(job: UploadJob, item: _Item, code: str, words: str, confirmed_at: datetime | None) -> UploadPart:
    return UploadPart(
        job=job,
        name=f"{item.instance.key}.dcm",
        instance=item.instance,
        sha256=item.sha256,
        size_bytes=item.size_bytes,
        content_sha256=item.sha256,
        content_size_bytes=item.size_bytes,
        staged_at=database_now(),
        confirmed_at=confirmed_at,
        result_code=code[:40],
        result_words=words[:200],
    )
