"""A chain of custody document against what is here: files hashed anew, receipts verified, rows compared."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from django.utils.dateparse import parse_datetime

from gateway_project.core.errors import JobFault
from gateway_project.core.models import AuditEvent
from studies.dicom.spool import SpoolError, Store
from studies.models import Instance, Study
from uploads.custody import CustodyReader, Head
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.receipt import Receipt, StoredFile, commitment_verify, receipt_verify
from uploads.models import Transport, UploadJob
from uploads.selectors import receipt_key
from uploads.services.stored import stored_object

CHUNK = 500
BLOCK_BYTES = 1024 * 1024


@dataclass
class Finding:
    """What was found of one record: `holds` and `fails` in plain words; `unknown` is what cannot be judged here."""

    kind: str
    title: str
    holds: list[str] = field(default_factory=list)
    fails: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class CustodyCheck:
    """Judges the records of a document whose signature was verified (`head`), one by one, in their order.

    Memory is that of one receipt while it is verified, and a hash for each file in any of them. `store` is None where
    there is none.
    """

    def __init__(self, head: Head, *, store: Store | None) -> None:
        self._head = head
        self._store = store
        self._study = Study.objects.filter(study_instance_uid=head.study_instance_uid).first()
        self._receipted: dict[str, set[bytes]] = {}
        self._vaults: dict[str, str] = {}

    @property
    def study_is_here(self) -> bool:
        return self._study is not None

    def findings(self, reader: CustodyReader) -> Iterator[Finding]:
        """One for each record. Raises CustodyError for a document that was changed since it was verified."""
        records = reader.records()
        while chunk := list(islice(records, CHUNK)):
            instances = self._instances_here(chunk)
            events = self._events_here(chunk)
            for record in chunk:
                if record["kind"] == "upload":
                    yield self._upload(record)
                elif record["kind"] == "instance":
                    key = (record["sop_instance_uid"], record["version"])
                    yield self._instance(record, instances.get(key))
                else:
                    yield self._event(record, events.get(record["uid"]))

    # -- uploads -------------------------------------------------------------------------------------------------------

    def _upload(self, record: dict[str, Any]) -> Finding:
        vault = record["vault"]
        finding = Finding("upload", f"{record['upload_id']} to vault {vault['name']}, revision {record['revision']}")
        job = UploadJob.objects.filter(upload_id=record["upload_id"]).select_related("vault").first()
        pinned = receipt_key(job.vault, record["receipt"]) if job is not None else vault["receipt_jwk"]
        self._vaults[record["upload_id"]] = vault["name"]
        if vault["transport"] == Transport.STOW:
            finding.unknown.append("a DICOMweb server signs no receipt: its word by name is all there is")
        elif not record["receipt"]:
            finding.unknown.append("no receipt yet")
        else:
            self._receipt(record, pinned, finding)
        if job is None:
            finding.unknown.append("this upload is not in this gateway; its receipt key is the one that was signed for")
        elif (job.commitment, job.receipt) != (record["commitment"], record["receipt"]):
            finding.fails.append("this gateway keeps another commitment or receipt for it")
        return finding

    def _receipt(self, record: dict[str, Any], pinned: dict[str, str], finding: Finding) -> None:
        try:
            commitment = commitment_verify(record["commitment"], self._head.identity_jwk)
            receipt: Receipt = receipt_verify(
                record["receipt"], pinned, commitment_token=record["commitment"], commitment=commitment
            )
        except EnvelopeError as error:
            finding.fails.append(f"the receipt does not hold: {error}")
            return
        if receipt.upload_id != record["upload_id"]:
            finding.fails.append("the receipt is for another upload")
            return
        self._receipted[record["upload_id"]] = {_file_digest(file) for file in receipt.files}
        what = "demonstration receipt" if receipt.demonstration else "receipt"
        finding.holds.append(f"{what} for {len(receipt.files)} files, stored {receipt.stored_at}")

    # -- instances -----------------------------------------------------------------------------------------------------

    def _instances_here(self, chunk: Iterable[dict[str, Any]]) -> dict[tuple[str, int], Instance]:
        uids = {record["sop_instance_uid"] for record in chunk if record["kind"] == "instance"}
        if self._study is None or not uids:
            return {}
        found = Instance.objects.filter(study=self._study, sop_instance_uid__in=uids)
        return {(instance.sop_instance_uid, instance.version): instance for instance in found}

    def _instance(self, record: dict[str, Any], instance: Instance | None) -> Finding:
        finding = Finding("instance", f"{record['sop_instance_uid']} version {record['version']}")
        if instance is not None:
            self._row(record, instance, finding)
        elif self.study_is_here:
            finding.fails.append("this gateway has the study, and not this instance")
        else:
            finding.unknown.append("not in this gateway")
        for entry in record["sent"]:
            self._sent(entry, finding)
        if not record["sent"]:
            finding.unknown.append("not sent anywhere")
        return finding

    def _row(self, record: dict[str, Any], instance: Instance, finding: Finding) -> None:
        received = record["received"]
        if (instance.sha256, instance.size_bytes) != (received["dataset_sha256"], received["dataset_size_bytes"]):
            finding.fails.append("this gateway's index has another hash for it")
        elif instance.file_deleted_at is not None:
            finding.unknown.append(f"its file was deleted here on {instance.file_deleted_at:%Y-%m-%d %H:%M:%S}")
        elif self._store is None:
            finding.unknown.append("its file was not looked at")
        else:
            self._file(self._store, record, instance, finding)

    def _file(self, store: Store, record: dict[str, Any], instance: Instance, finding: Finding) -> None:
        """Reads the whole file: its data set against what came over the wire, all of it against what was sent."""
        digest = hashlib.sha256()
        try:
            with stored_object(store, instance) as source:
                while block := source.read(BLOCK_BYTES):
                    digest.update(block)
        except (JobFault, SpoolError) as error:
            words = "its file is missing" if error.code == "object-missing" else "its file is damaged or unreadable"
            finding.fails.append(f"{words} [{error.code}]")
            return
        except OSError:
            finding.fails.append("its file cannot be read; check the disk")
            return
        finding.holds.append("its file is what was received")
        sent = {entry["file_sha256"] for entry in record["sent"] if entry["file_sha256"]}
        if sent - {digest.hexdigest()}:
            finding.fails.append("its file meta is not what was sent")

    def _sent(self, entry: dict[str, Any], finding: Finding) -> None:
        vault = self._vaults.get(entry["upload_id"])
        files = self._receipted.get(entry["upload_id"])
        if vault is None:
            finding.fails.append("it was sent in an upload that the document does not list")
        elif entry["ciphertext_sha256"] is None:
            said = f"confirmed by {vault} by name" if entry["confirmed_at"] else f"not stored by {vault}"
            finding.unknown.append(said)
        elif files is None:
            finding.unknown.append(f"no receipt of {vault} covers it")
        elif _entry_digest(entry) in files:
            finding.holds.append(f"the receipt of {vault} covers its ciphertext")
        else:
            finding.fails.append(f"the receipt of {vault} does not cover its ciphertext")

    # -- events --------------------------------------------------------------------------------------------------------

    def _events_here(self, chunk: Iterable[dict[str, Any]]) -> dict[str, AuditEvent]:
        uids = [record["uid"] for record in chunk if record["kind"] == "event"]
        if self._study is None or not uids:
            return {}
        return {str(event.uid): event for event in AuditEvent.objects.filter(uid__in=uids).select_related("seal")}

    def _event(self, record: dict[str, Any], event: AuditEvent | None) -> Finding:
        finding = Finding("event", f"{record['at']} {record['event']}")
        if event is None:
            place = finding.fails if self.study_is_here else finding.unknown
            place.append("the audit trail here does not have it")
            return finding
        said = (record["event"], record["outcome"], record["actor"], _moment(record["at"]))
        same = said == (event.event, event.outcome, event.actor, event.at)
        same = same and all(event.detail.get(name) == value for name, value in record["detail"].items())
        seal = getattr(event, "seal", None)
        if record["seal"] is not None:
            same = same and seal is not None and record["seal"] == {"sequence": seal.sequence, "hash": seal.hash}
        if same:
            finding.holds.append("the audit trail says the same")
        else:
            finding.fails.append("the audit trail says otherwise")
        return finding


def _moment(text: object) -> datetime | None:
    return parse_datetime(text) if isinstance(text, str) else None


def _file_digest(file: StoredFile) -> bytes:
    return hashlib.sha256(f"{file.name}\n{file.size_bytes}\n{file.sha256}".encode()).digest()


def _entry_digest(entry: dict[str, Any]) -> bytes:
    named = StoredFile(entry["name"], entry["ciphertext_size_bytes"], entry["ciphertext_sha256"])
    return _file_digest(named)
