import contextlib
import io
import struct
import zlib

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.dicom.errors import DatasetError
from studies.dicom.part10 import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    ae_title_clean,
    file_meta,
    file_meta_read,
    preamble_kind,
)
from studies.dicom.uids import uid_is_valid
from tests.studies.datasets import CT, DEFLATED, EXPLICIT, dataset, element

SOUND = {
    "sop_class_uid": CT,
    "sop_instance_uid": "1.2.3.4",
    "transfer_syntax_uid": EXPLICIT,
    "source_ae_title": "MODALITY",
    "receiving_ae_title": "GATEWAY",
}


def group(*elements: bytes, length: int | None = None) -> bytes:
    body = b"".join(elements)
    declared = struct.pack("<L", len(body) if length is None else length)
    return bytes(128) + b"DICM" + element(0x00020000, "UL", declared) + body


def refused(raw: bytes) -> str:
    with pytest.raises(DatasetError) as caught:
        file_meta_read(io.BytesIO(raw))
    return caught.value.code


def test_pydicom_reads_what_is_written():
    read = pydicom.dcmread(io.BytesIO(file_meta(**SOUND) + dataset()))
    meta = read.file_meta
    assert read.preamble == bytes(128)
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, "1.2.3.4")
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert (meta.SourceApplicationEntityTitle, meta.ReceivingApplicationEntityTitle) == ("MODALITY", "GATEWAY")
    assert read.SOPInstanceUID == "1.2.3.4"


def test_deflated_dataset_may_begin_like_another_element_of_the_group():
    """Found by fuzzing: an empty block at the beginning of a deflated stream is 02 00."""
    plain = dataset()
    stored = struct.pack("<HH", len(plain), len(plain) ^ 0xFFFF) + plain
    packed = b"\2\0" + stored + b"\3\0"
    assert zlib.decompress(packed, wbits=-zlib.MAX_WBITS) == plain
    head = file_meta(**SOUND | {"transfer_syntax_uid": DEFLATED})
    meta = file_meta_read(io.BytesIO(head + packed))
    assert (meta.dataset_offset, meta.flags) == (len(head), ())


def test_group_longer_than_declared_is_still_read_to_its_end_where_the_dataset_cannot_begin_so():
    raw = file_meta(**SOUND)
    more = element(0x00020100, "UI", b"1.2")
    assert file_meta_read(io.BytesIO(raw + more + dataset())).dataset_offset == len(raw + more)


def test_our_own_names_follow_the_standard():
    assert uid_is_valid(IMPLEMENTATION_CLASS_UID)
    assert len(IMPLEMENTATION_VERSION_NAME) <= 16


def test_what_is_written_is_read_back():
    stream = io.BytesIO(b"before" + file_meta(**SOUND) + dataset())
    stream.seek(6)
    meta = file_meta_read(stream)
    assert {name: getattr(meta, name) for name in SOUND} == SOUND
    assert meta.flags == ()
    assert meta.preamble == "zero"
    assert meta.dataset_offset == len(file_meta(**SOUND))
    assert stream.read() == dataset()


def test_ae_titles_may_be_absent():
    meta = file_meta_read(io.BytesIO(file_meta(**SOUND | {"source_ae_title": "", "receiving_ae_title": ""})))
    assert (meta.source_ae_title, meta.receiving_ae_title) == ("", "")


def test_ugly_uid_is_written_as_it_is():
    meta = file_meta_read(io.BytesIO(file_meta(**SOUND | {"sop_instance_uid": "1.02.3"})))
    assert meta.sop_instance_uid == "1.02.3"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("sop_instance_uid", "../../../tmp/x", "uid-invalid"),
        ("sop_class_uid", "", "uid-invalid"),
        ("source_ae_title", "A" * 17, "ae-title-invalid"),
        ("source_ae_title", "A\\B", "ae-title-invalid"),
        ("receiving_ae_title", "A\nB", "ae-title-invalid"),
        ("receiving_ae_title", "   ", "ae-title-invalid"),
        ("receiving_ae_title", "GÄTEWAY", "ae-title-invalid"),
    ],
)
def test_unsound_values_are_not_written(name, value, code):
    with pytest.raises(DatasetError) as caught:
        file_meta(**SOUND | {name: value})
    assert caught.value.code == code


def test_ae_title_keeps_inner_spaces():
    assert ae_title_clean(" CT ROOM 1 ") == "CT ROOM 1"


def test_no_file_meta_at_all():
    assert refused(bytes(128) + b"DICM") == "file-meta-malformed"
    assert refused(bytes(128) + b"DICM" + dataset()) == "file-meta-malformed"


def test_reading_is_bounded():
    class Endless(io.RawIOBase):
        taken = 0

        def readable(self):
            return True

        def tell(self):
            return 0

        def read(self, size=-1):
            assert size > 0
            self.taken += size
            start = bytes(128) + b"DICM" + element(0x00020102, "OB", length=1 << 31)
            return start + bytes(size - len(start))

    stream = Endless()
    with pytest.raises(DatasetError):
        file_meta_read(stream)
    assert stream.taken <= 64 * 1024 + 132


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(raw):
    for start in (b"", bytes(128) + b"DICM", group(element(0x00020010, "UI", b"1.2\0"))):
        with contextlib.suppress(DatasetError):
            assert file_meta_read(io.BytesIO(start + raw)).transfer_syntax_uid


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"", "zero"),
        (b"II*\0", "tiff"),
        (b"MM\0*", "tiff"),
        (b"MZ\x90", "pe"),
        (b"\x7fELF", "elf"),
        (b"\xcf\xfa\xed\xfe", "mach-o"),
        (b"PK\x03\x04", "zip"),
        (b" <html>", "html"),
        (b"#!/bin/sh", "script"),
        (b"hello", "other"),
    ],
)
def test_preambles_are_told_apart(start, kind):
    assert preamble_kind(start.ljust(128, b"\0")) == kind
    assert file_meta_read(io.BytesIO(start.ljust(128, b"\0") + file_meta(**SOUND)[128:])).preamble == kind


@pytest.mark.parametrize("length", [0, 2, 6])
def test_group_length_of_another_size_is_a_flaw_and_no_crash(length: int) -> None:
    """Found by fuzzing: nothing but a group length that is shorter than one."""
    group_length = struct.pack("<HH2sH", 2, 0, b"UL", length) + bytes(length)
    with pytest.raises(DatasetError) as caught:
        file_meta_read(io.BytesIO(bytes(128) + b"DICM" + group_length))
    assert caught.value.code == "file-meta-no-transfer-syntax"
