"""Identifiers of queries as pydicom writes and reads them. No Django."""

from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset


def question(level: str, **keys: Any) -> Dataset:
    found = Dataset()
    found.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(found, keyword, value)
    return found


def encoded(identifier: Dataset, *, explicit: bool = True) -> bytes:
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, not explicit
    write_dataset(stream, identifier, identifier.get("SpecificCharacterSet", "ISO_IR 6") or "ISO_IR 6")
    return stream.getvalue()


def decoded(answer: bytes, *, explicit: bool = True) -> Dataset:
    read = read_dataset(BytesIO(answer), is_implicit_VR=not explicit, is_little_endian=True)
    read.decode()
    return read
