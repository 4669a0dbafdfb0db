"""The same content in whatever encoding has one hash; anything else has another."""

import io
import random
import zlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from studies.dicom import normalise
from studies.dicom.errors import DatasetError
from studies.dicom.normalise import Content, content_read
from studies.dicom.part10 import file_meta
from tests.dicom_samples import bundled_root
from tests.studies.datasets import (
    BIG_ENDIAN,
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    SEQUENCE_END,
    UNDEFINED,
    dataset,
    element,
    implicit,
    item,
    sequence,
)

PATIENT, PIXELS = element(0x00100020, "LO", b"4711"), element(0x7FE00010, "OW", b"\1\2\3\4")


def content(tmp_path: Path, data: bytes, syntax: str = EXPLICIT) -> Content:
    meta = file_meta(
        sop_class_uid=CT,
        sop_instance_uid="1.2.3.4",
        transfer_syntax_uid=syntax,
        source_ae_title="CT_1",
        receiving_ae_title="GATEWAY",
    )
    path = tmp_path / "object.dcm"
    path.write_bytes(meta + data)
    with path.open("rb") as stream:
        return content_read(stream)


def refused(tmp_path: Path, data: bytes, syntax: str = EXPLICIT) -> str:
    with pytest.raises(DatasetError) as caught:
        content(tmp_path, data, syntax)
    return caught.value.code


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


# The same


def test_explicit_implicit_deflated_and_big_endian_are_one_content(tmp_path: Path) -> None:
    rows = (0x00280010, "US", b"\2\1")
    little = dataset(element(*rows), PATIENT, PIXELS)
    expected = content(tmp_path, little)
    parts = [
        implicit(0x00080016, CT.encode() + b"\0"),
        implicit(0x00080018, b"1.2.3.4\0"),
        implicit(0x00100020, b"4711"),
        implicit(0x0020000D, b"1.2.5\0"),
        implicit(0x0020000E, b"1.2.6\0"),
        implicit(0x00280010, b"\2\1"),
        implicit(0x7FE00010, b"\1\2\3\4"),
    ]
    assert content(tmp_path, b"".join(parts), IMPLICIT) == expected
    assert content(tmp_path, deflated(little), DEFLATED) == expected
    big = dataset(
        element(0x00280010, "US", b"\1\2", order=">"),
        element(0x00100020, "LO", b"4711", order=">"),
        element(0x7FE00010, "OW", b"\2\1\4\3", order=">"),
        order=">",
    )
    assert content(tmp_path, big, BIG_ENDIAN) == expected


@pytest.mark.parametrize(
    "other",
    [
        dataset(element(0x00080000, "UL", b"\1\0\0\0"), PATIENT, PIXELS),  # a group length
        dataset(element(0x00100020, "LO", b"4711  "), PIXELS),
        dataset(element(0x00100020, "LO", b"4711\0\0"), PIXELS),
        dataset(PATIENT, PIXELS) + element(0xFFFCFFFC, "OB", b"\0\0"),
    ],
)
def test_padding_and_group_lengths_are_no_content(tmp_path: Path, other: bytes) -> None:
    assert content(tmp_path, other) == content(tmp_path, dataset(PATIENT, PIXELS))


def test_ends_of_sequences_may_be_marked_either_way(tmp_path: Path) -> None:
    inner = element(0x00081155, "UI", b"1.2\0")
    open_ended = dataset(sequence(0x00081140, item(inner, length=UNDEFINED), item(inner)))
    closed = dataset(element(0x00081140, "SQ", item(inner) + item(inner)))
    assert content(tmp_path, open_ended) == content(tmp_path, closed)


def test_offset_table_of_fragments_is_no_content(tmp_path: Path) -> None:
    def pixels(table: bytes) -> bytes:
        return dataset(element(0x7FE00010, "OB", item(table) + item(b"\xff\xd8") + SEQUENCE_END, length=UNDEFINED))

    assert content(tmp_path, pixels(b""), JPEG) == content(tmp_path, pixels(b"\0\0\0\0"), JPEG)
    with_other = content(tmp_path, pixels(b"").replace(b"\xff\xd8", b"\xff\xd9"), JPEG)
    assert content(tmp_path, pixels(b""), JPEG).pixel_sha256 != with_other.pixel_sha256


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "test-SR.dcm", "liver_1frame.dcm"])
def test_real_object_written_anew_by_pydicom_is_the_same(tmp_path: Path, name: str) -> None:
    source = dcmread(bundled_root() / name)
    found = set()
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        source.file_meta.TransferSyntaxUID = syntax
        buffer = io.BytesIO()
        private = [e.tag for e in source if e.tag.is_private]  # whose VRs implicit encoding forgets
        for tag in private:
            del source[tag]
        source.save_as(buffer, implicit_vr=syntax.is_implicit_VR, little_endian=True)
        path = tmp_path / "again.dcm"
        path.write_bytes(buffer.getvalue())
        with path.open("rb") as stream:
            found.add(content_read(stream))
    assert len(found) == 1


def content_of(name: str) -> Content:
    with (bundled_root() / name).open("rb") as stream:
        return content_read(stream)


def test_real_object_in_four_encodings_is_one_content() -> None:
    names = ("MR_small", "MR_small_bigendian", "MR_small_expb", "MR_small_implicit")
    assert len({content_of(f"{name}.dcm") for name in names}) == 1
    assert content_of("liver_1frame.dcm") == content_of("liver_expb_1frame.dcm")
    assert content_of("SC_rgb_small_odd.dcm") == content_of("SC_rgb_small_odd_big_endian.dcm")


@pytest.mark.parametrize("other", ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_padded"])
def test_compressed_or_longer_pixels_are_another_content(other: str) -> None:
    """They might decode to the same picture: nothing is decoded to find that out."""
    before, after = content_of("MR_small.dcm"), content_of(f"{other}.dcm")
    assert before.pixel_sha256 != after.pixel_sha256
    assert before.patient_sha256 == after.patient_sha256


# Not the same


@pytest.mark.parametrize(
    ("other", "pixels", "patient"),
    [
        (dataset(element(0x00100010, "PN", b"Doe^"), PATIENT, PIXELS), True, True),
        (dataset(element(0x00100020, "LO", b"4712"), PIXELS), True, False),
        (dataset(PATIENT, element(0x7FE00010, "OW", b"\1\2\3\5")), False, True),
        (dataset(PATIENT, element(0x7FE00010, "OW", b"\1\2\3\4\0\0")), False, True),
        (dataset(PATIENT), False, True),
        (dataset(PATIENT, element(0x00280010, "US", b"\1\0"), PIXELS), True, True),
        (dataset(PATIENT, element(0x00280010, "US", b"\1\0\0\0"), PIXELS), True, True),
        (dataset(PATIENT, sequence(0x00081140, item(b"")), PIXELS), True, True),
        (dataset(PATIENT, sequence(0x00081140, item(b""), item(b"")), PIXELS), True, True),
        (dataset(PATIENT, sequence(0x00081140), PIXELS), True, True),
    ],
)
def test_other_content_has_another_hash_and_says_what_changed(
    tmp_path: Path, other: bytes, pixels: bool, patient: bool
) -> None:
    before, after = content(tmp_path, dataset(PATIENT, PIXELS)), content(tmp_path, other)
    assert before.sha256 != after.sha256
    assert (before.pixel_sha256 == after.pixel_sha256) is pixels
    assert (before.patient_sha256 == after.patient_sha256) is patient


def test_all_of_them_differ_from_each_other(tmp_path: Path) -> None:
    """Trailing zeros of numbers are content, and a nested element is not one of the level above."""
    variants = [
        dataset(element(0x00280010, "US", b"\1\0")),
        dataset(element(0x00280010, "US", b"\1\0\0\0")),
        dataset(element(0x00091001, "LO", b"A ")),
        dataset(element(0x00091001, "LO", b"A\0")),
        dataset(sequence(0x00081140, item(PATIENT))),
        dataset(sequence(0x00081140, item()), PATIENT),
        dataset(sequence(0x00081140, item(PATIENT), item())),
        dataset(sequence(0x00081140, item(), item(PATIENT))),
    ]
    assert len({content(tmp_path, data).sha256 for data in variants}) == len(variants)


def test_same_fragments_under_another_compression_are_another_content(tmp_path: Path) -> None:
    data = dataset(element(0x7FE00010, "OB", item() + item(b"\xff\xd8") + SEQUENCE_END, length=UNDEFINED))
    assert content(tmp_path, data, JPEG) != content(tmp_path, data, "1.2.840.10008.1.2.4.70")


# Bounds


@pytest.mark.parametrize(
    ("data", "syntax", "code"),
    [
        (dataset(PATIENT)[:-1], EXPLICIT, "dataset-truncated"),
        (dataset(element(0x7FE00010, "OW", b"", length=UNDEFINED)), EXPLICIT, "dataset-truncated"),
        (dataset(element(0x00081140, "SQ", b"", length=UNDEFINED)), EXPLICIT, "dataset-malformed"),
        (dataset(element(0x00081140, "SQ", element(0x00081155, "UI"))), EXPLICIT, "dataset-malformed"),
        (dataset(element(0x00081140, "SQ", item(b"", length=99))), EXPLICIT, "dataset-truncated"),
        (deflated(bytes(40_000_000)), DEFLATED, "deflate-too-large"),
        (b"not deflated", DEFLATED, "deflate-invalid"),
    ],
)
def test_what_cannot_be_walked_is_refused(tmp_path: Path, data: bytes, syntax: str, code: str) -> None:
    assert refused(tmp_path, data, syntax) == code


def test_depth_and_number_of_elements_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nested = b""
    for _ in range(normalise.MAX_DEPTH + 1):
        nested = element(0x00081140, "SQ", item(nested))
        if len(nested) > 60_000:
            break
    assert refused(tmp_path, dataset(nested)) == "dataset-too-deep"
    monkeypatch.setattr(normalise, "MAX_ELEMENTS", 100)
    assert refused(tmp_path, dataset(element(0x00081140, "SQ", item() * 101))) == "dataset-too-many-elements"


def test_large_values_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = random.Random(1).randbytes(100_000)
    expected = content(tmp_path, dataset(element(0x7FE00010, "OW", pixels)))
    monkeypatch.setattr(normalise, "_PIECE_BYTES", 4096)
    assert content(tmp_path, dataset(element(0x7FE00010, "OW", pixels))) == expected
