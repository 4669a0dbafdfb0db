"""What each target starts from: pydicom's bundled files and the PDUs of the DIMSE tests, made when it runs."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from studies.dicom import tags
from studies.dicom.errors import DatasetError
from studies.dicom.part10 import file_meta_read
from tests.dicom_samples import bundled_root
from tests.fuzz.promises import DEFLATE_FIRST, DEFLATED, EXPLICIT, SYNTAXES
from tests.network.dimse_fixtures import associate_request, data_pdu, item, pdu, store_command
from tests.network.identifiers import encoded, question

SEED_BYTES = 16_384
LONGEST_DECLARED = 0x7F
PDU_HEADER_BYTES = 6


def bundled_files() -> list[Path]:
    root = bundled_root()
    return sorted([*root.glob("*.dcm"), *(root.parent / "charset_files").glob("*.dcm")])


def dataset_seeds() -> list[bytes]:
    """Beginnings of the data sets, each with the number of its syntax; those in explicit VR deflated anew as well."""
    found = []
    for path in bundled_files():
        raw = path.read_bytes()
        try:
            meta = file_meta_read(io.BytesIO(raw))
        except DatasetError:
            found.append(b"\0\0" + raw[:SEED_BYTES])
            continue
        syntax = meta.transfer_syntax_uid
        number = SYNTAXES.index(syntax) if syntax in SYNTAXES else 4
        dataset = raw[meta.dataset_offset :][:SEED_BYTES]
        found.append(bytes([number, 9]) + dataset)
        if syntax in (EXPLICIT, DEFLATED):
            found.append(bytes([DEFLATE_FIRST, 9]) + dataset)
    return found


def reading_seeds() -> list[bytes]:
    """Every value of the index's attributes in the files, behind the character set that it is written in."""
    found = set()
    for path in bundled_files():
        try:
            with warnings.catch_warnings(action="ignore"):
                dataset = dcmread(path, stop_before_pixels=True, specific_tags=list(tags.INDEX_VRS))
        except (InvalidDicomError, EOFError, ValueError, NotImplementedError):
            continue
        raw = {element.tag: element.value for element in dataset.values() if isinstance(element.value, bytes)}
        declared = (raw.get(tags.SPECIFIC_CHARACTER_SET) or b"")[:LONGEST_DECLARED]
        found |= {bytes([len(declared)]) + declared + value for value in raw.values()}
    return sorted(found)


def file_seeds() -> list[bytes]:
    return [path.read_bytes()[:2048] for path in bundled_files()]


def command_seeds() -> list[bytes]:
    command = store_command()
    return [command, data_pdu(3, command)[PDU_HEADER_BYTES:], data_pdu(1, command[:20])[PDU_HEADER_BYTES:]]


def request_seeds() -> list[bytes]:
    syntaxes = tuple(SYNTAXES[:4])
    several = tuple((f"1.2.840.10008.5.1.4.1.1.{number}", syntaxes) for number in range(1, 8))
    identity = item(0x50, item(0x58, b"\1\1\0\4user\0\0") + item(0x53, bytes(4)) + item(0x54, b"\0\0031.2\1\1"))
    requests = [associate_request(), associate_request(contexts=several), associate_request() + identity]
    return [one[PDU_HEADER_BYTES:] for one in requests] + [pdu(1, b"")]


def question_seeds() -> list[bytes]:
    """Questions of every kind of matching, in both codings, and beginnings of files, which have sequences."""
    keys = {"StudyDate": "20200101-", "StudyTime": "10-1030", "PatientName": "D?e*", "StudyInstanceUID": ["1.2", "1.3"]}
    inner = question("STUDY", AccessionNumber="A1")
    asked = question("IMAGE", RequestAttributesSequence=[inner], AcquisitionDateTime="2020-", Rows=512, **keys)
    asked.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    found = [bytes([explicit]) + encoded(asked, explicit=bool(explicit)) for explicit in (0, 1)]
    level = encoded(question("STUDY"))
    return found + [b"\3" + level + seed[2:4096] for seed in dataset_seeds()[::4]]


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "scan": dataset_seeds,
    "readings": reading_seeds,
    "part10": file_seeds,
    "content": dataset_seeds,
    "command": command_seeds,
    "request": request_seeds,
    "question": question_seeds,
}
