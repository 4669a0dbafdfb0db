"""Stored objects as the sealer reads them: whatever is not what was received stops the upload."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from gateway_project.core.errors import JobFault
from studies.dicom.errors import DatasetError
from studies.dicom.part10 import file_meta_read
from studies.dicom.spool import Store
from studies.models import Instance

CONTENT_DAMAGED = "object-damaged"


class CheckedReader:
    """Reads a stored Part 10 file and hashes its data set on the way: what follows its first `dataset_offset` bytes."""

    def __init__(self, stream: BinaryIO, *, dataset_offset: int) -> None:
        self._stream = stream
        self._skip = dataset_offset
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hash.update(memoryview(data)[self._skip :])
        self._skip = max(self._skip - len(data), 0)
        return data

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


@contextmanager
def stored_object(store: Store, instance: Instance) -> Iterator[CheckedReader]:
    """The whole file, for reading once to its end; on leaving, its data set is the one that was received, or JobFault.

    The file meta has no hash, so what a recipient needs of it (PS3.10 7.1) is compared with the index before anything
    is read. Raises SpoolError (`object-missing` and others) when the file cannot be opened.
    """
    with store.open(instance.path) as stream:
        reader = CheckedReader(stream, dataset_offset=_dataset_offset(stream, instance))
        yield reader
    if reader.hexdigest() != instance.sha256:
        raise _damaged()


def _dataset_offset(stream: BinaryIO, instance: Instance) -> int:
    try:
        meta = file_meta_read(stream)
    except DatasetError as error:
        raise _damaged() from error
    said = (meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid)
    if said != (instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax_uid):
        raise _damaged()
    stream.seek(0)
    return meta.dataset_offset


def _damaged() -> JobFault:
    return JobFault(
        "A stored object is not what was received (its hash differs): its file is damaged. Nothing of it was sent. "
        "Restore the file from a backup or send the object again, then try again.",
        code=CONTENT_DAMAGED,
        permanent=True,
    )
