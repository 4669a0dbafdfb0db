"""Objects made byte by byte, and a store with a receiver, for the tests of receiving, indexing, settling, recovery."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from studies.dicom.spool import Intake, Store
from studies.models import Instance
from studies.services.index import Indexed, index_objects
from studies.services.receive import Arrival, Indexable, InstanceReceiver
from tests.studies.datasets import CT, EXPLICIT, dataset, element, uid

TEXTS = {"patient_name": (0x00100010, "PN"), "patient_id": (0x00100020, "LO"), "modality": (0x00080060, "CS")}


class Killed(BaseException):
    """Stands for SIGKILL: no `except` of ours may stop it."""


def content(
    instance: str = "1.2.3.1", study: str = "1.2.5", series: str = "1.2.6", *, pixels: bytes = b"", **texts: str
) -> bytes:
    """The data set of one CT slice in explicit VR; `texts` by keyword of `TEXTS`, or `tag_<8 hex>_<VR>`."""
    more = []
    for name, text in ({"patient_name": "Doe^Jane", "patient_id": "4711", "modality": "CT"} | texts).items():
        tag, vr = TEXTS[name] if name in TEXTS else (int(name[4:12], 16), name[13:])
        raw = text.encode()
        more.append(element(tag, vr, raw + b" " * (len(raw) % 2)))
    if pixels:
        more.append(element(0x7FE00010, "OW", pixels + b"\0" * (len(pixels) % 2)))
    return dataset(*more, instance=uid(instance), study=uid(study), series=uid(series))


def arrival(instance: str = "1.2.3.1", **fields: str) -> Arrival:
    values = {
        "sop_class_uid": CT,
        "sop_instance_uid": instance,
        "transfer_syntax_uid": EXPLICIT,
        "source_ae_title": "CT_1",
        "receiving_ae_title": "GATEWAY",
        "peer_address": "10.0.0.7",
        "association_id": "assoc-1",
    }
    return Arrival(**values | fields)


def holds_something(path: Path) -> bool:
    """Neither a directory, nor a lock, nor a slot that nobody has used yet."""
    return path.is_file() and path.name != "lock" and (path.suffix != ".slot" or path.stat().st_size > 0)


class House:
    """One receiver process's part of a store. What it receives waits in `waiting`, durable and without a row."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.store.prepare()
        self.intake = Intake(self.store, owner="receiver-0")
        self.waiting: list[Indexable] = []
        self.backlog_now = 0
        self.receiver = InstanceReceiver(self.store, self.intake, self)

    # studies.services.receive.Index
    def backlog(self) -> int:
        return self.backlog_now

    def backlog_seconds(self) -> float:
        return 0.0

    def add(self, item: Indexable) -> None:
        self.waiting.append(item)

    def receive(self, instance: str = "1.2.3.1", study: str = "1.2.5", series: str = "1.2.6", **more: Any) -> Indexable:
        self.receiver.receive(arrival(instance), [content(instance, study, series, **more)])
        return self.waiting[-1]

    def index(self, items: Iterable[Indexable] | None = None) -> Indexed:
        """Indexes and releases as the indexer does."""
        batch = list(self.waiting if items is None else items)
        result = index_objects(self.store, batch)
        self.waiting = [item for item in self.waiting if item not in batch]
        for item in batch:
            if item.spooled.location not in result.failed:
                self.intake.release(item.spooled.path)
        return result

    def receive_and_index(self, instance: str) -> None:
        self.receive(instance)
        self.index()

    def dies(self) -> None:
        """The process is gone: its lock is free, what it held in memory is lost, what is on disk stays."""
        self.intake._helpers.shutdown()
        self.intake._directory.leave(empty=False)
        self.waiting = []

    def lives_again(self) -> None:
        self.intake = Intake(self.store, owner="receiver-0")
        self.receiver = InstanceReceiver(self.store, self.intake, self)

    def files(self, below: str) -> set[str]:
        found = (self.store.root / below).rglob("*")
        return {str(path.relative_to(self.store.root)) for path in found if holds_something(path)}

    def data_set_of(self, instance: Instance) -> bytes:
        """The bytes that the row's file holds behind its meta."""
        with self.store.open(instance.path) as stream:
            return stream.read()[-instance.size_bytes :]

    def check(self) -> None:
        """No row without its whole file, no file without its row, and nothing counted wrongly."""
        rows = list(Instance.objects.filter(file_deleted_at=None).select_related("series", "study"))
        for row in rows:
            found = hashlib.sha256(self.data_set_of(row)).hexdigest()
            if found != row.sha256:
                raise LookupError(f"instance {row.pk} has another file")
        names = {row.path for row in rows}
        if self.files("objects") != names:
            raise LookupError(f"files without a row or rows without a file: {self.files('objects') ^ names}")
        for study in {row.study for row in rows}:
            mine = list(Instance.objects.filter(study=study))
            counted = (study.instance_count, study.size_bytes, study.series_count)
            real = (len({r.sop_instance_uid for r in mine}), sum(r.size_bytes for r in mine), study.series.count())
            if counted != real:
                raise LookupError(f"study {study.pk} counts {counted}, has {real}")
            for series in study.series.all():
                of_it = [row for row in mine if row.series_id == series.pk]
                if series.size_bytes != sum(row.size_bytes for row in of_it):
                    raise LookupError(f"series {series.pk} counts {series.size_bytes} bytes")
