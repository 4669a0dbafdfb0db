"""Faults of datasets and files, by number: refused with a stable code or tolerated with a flag, never a crash."""

import io
import random
import tracemalloc
import zlib

import pytest

from studies.dicom import tags
from studies.dicom.errors import DatasetError
from studies.dicom.part10 import file_meta, file_meta_read
from studies.dicom.scan import MAX_ITEMS, DatasetScanner
from tests.studies.datasets import (
    BIG_ENDIAN,
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    PRIVATE,
    SEQUENCE_END,
    UNDEFINED,
    dataset,
    dataset_implicit,
    element,
    implicit,
    item,
    scan,
    sequence,
)

META = file_meta(
    sop_class_uid=CT,
    sop_instance_uid="1.2.3.4",
    transfer_syntax_uid=EXPLICIT,
    source_ae_title="MODALITY",
    receiving_ae_title="GATEWAY",
)


def refused(data: bytes, syntax: str = EXPLICIT) -> str:
    with pytest.raises(DatasetError) as caught:
        scan(data, syntax)
    return caught.value.code


def file_refused(raw: bytes) -> str:
    with pytest.raises(DatasetError) as caught:
        file_meta_read(io.BytesIO(raw))
    return caught.value.code


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG, PRIVATE])
def test_f01_random_bytes(syntax):
    for seed in range(50):
        assert refused(random.Random(seed).randbytes(5_000), syntax) in (
            "transfer-syntax-mismatch",
            "dataset-truncated",
            "dataset-malformed",
            "dataset-forbidden-group",
            "deflate-invalid",
        )


def test_f02_pixel_data_shorter_than_declared():
    assert refused(dataset(element(tags.PIXEL_DATA, "OW", bytes(10), length=1_000_000))) == "dataset-truncated"
    assert (
        refused(dataset_implicit(implicit(tags.PIXEL_DATA, bytes(10), length=1_000_000)), IMPLICIT)
        == "dataset-truncated"
    )
    assert refused(dataset(element(0x00091010, "UN", bytes(10), length=UNDEFINED - 1))) == "dataset-truncated"


def test_f04_implicit_bytes_in_an_explicit_context_and_the_reverse():
    for syntax in (EXPLICIT, BIG_ENDIAN, JPEG, PRIVATE):
        assert refused(dataset_implicit(), syntax) == "transfer-syntax-mismatch"
    assert refused(dataset(), IMPLICIT) == "transfer-syntax-mismatch"
    assert refused(dataset(), DEFLATED) == "deflate-invalid"
    assert refused(zlib.compress(dataset(), wbits=-15), EXPLICIT) == "transfer-syntax-mismatch"


def test_f05_other_byte_order_or_pixel_form():
    assert refused(dataset(order=">"), EXPLICIT) == "transfer-syntax-mismatch"
    assert refused(dataset(), BIG_ENDIAN) == "transfer-syntax-mismatch"
    fragments = element(tags.PIXEL_DATA, "OB", item() + item(b"ab") + SEQUENCE_END, length=UNDEFINED)
    assert refused(dataset(fragments), EXPLICIT) == "transfer-syntax-mismatch"
    assert refused(dataset(element(tags.PIXEL_DATA, "OW", bytes(8))), JPEG) == "transfer-syntax-mismatch"


@pytest.mark.parametrize("missing", ["sop_class", "instance", "study", "series"])
def test_f06_missing_identity(missing):
    for nothing in (b"", b"\0\0", b"  "):
        header = scan(dataset(**{missing: nothing}))
        with pytest.raises(DatasetError) as caught:
            header.identity()
        assert caught.value.code == "identity-missing"


def test_f08_uids_are_freed_of_padding_only():
    for padded in (b"1.2.3.4\0", b"1.2.3.4 ", b"1.2.3.4\0\0\0"):
        assert scan(dataset(instance=padded)).identity().sop_instance_uid == "1.2.3.4"
    zeros = scan(dataset(instance=b"1.02.003"))
    assert zeros.identity().sop_instance_uid == "1.02.003"
    assert zeros.flags == ("uid-leading-zero",)
    for wrong in (b"1.2a", b"1.2\0.34", b"1" * 66, b" 1.2", b"../../../tmp/x"):
        with pytest.raises(DatasetError) as caught:
            scan(dataset(instance=wrong)).identity()
        assert caught.value.code == "uid-invalid"


def test_f13_sequences_in_sequences_without_end():
    opened = element(0x00081140, "SQ", implicit(0xFFFEE000, length=UNDEFINED), length=UNDEFINED)
    assert refused(dataset() + opened * 300) == "dataset-too-deep"
    inside = implicit(0x00081140, implicit(0xFFFEE000, length=UNDEFINED), length=UNDEFINED)
    assert refused(dataset_implicit() + inside * 300, IMPLICIT) == "dataset-too-deep"


def test_f14_a_million_empty_items():
    scanner = DatasetScanner(EXPLICIT)
    scanner.feed(dataset() + element(0x00400555, "SQ", length=UNDEFINED))
    for _ in range(MAX_ITEMS // 1_000):
        scanner.feed(item() * 1_000)
    with pytest.raises(DatasetError) as caught:
        scanner.feed(item())
    assert caught.value.code == "dataset-too-many-items"
    assert scan(dataset(sequence(0x00081140, *[item()] * (MAX_ITEMS // 4))))


def test_f15_private_sequence_of_500_megabytes_is_counted_not_parsed():
    scanner, megabyte = DatasetScanner(EXPLICIT), b"\xff" * 1024**2
    scanner.feed(element(0x00071010, "SQ", length=500 * len(megabyte)))
    for _ in range(500):
        scanner.feed(megabyte)
    scanner.feed(dataset())
    assert scanner.finish().identity().study_instance_uid == "1.2.5"


def test_f16_deflate_bomb():
    packer = zlib.compressobj(9, wbits=-15)
    bomb = packer.compress(dataset(element(tags.PIXEL_DATA, "OW", length=300 * 1024**2)))
    bomb += b"".join(packer.compress(bytes(1024**2)) for _ in range(300)) + packer.flush()
    tracemalloc.start()
    try:
        assert refused(bomb, DEFLATED) == "deflate-too-large"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    with pytest.raises(DatasetError) as caught:
        scan(zlib.compress(bytes(10_000), wbits=-15), DEFLATED, max_inflated_bytes=1_000)
    assert caught.value.code == "deflate-too-large"


def test_f16_honest_zeros_pass():
    mask = dataset(element(tags.PIXEL_DATA, "OW", bytes(4 * 1024**2)))
    assert scan(zlib.compress(mask, wbits=-15), DEFLATED).identity().sop_class_uid == CT


def test_f18_values_of_the_wrong_vr_are_left_out():
    rows_as_text = element(tags.ROWS, "IS", b"12")
    name_as_bytes = element(tags.PATIENT_NAME, "OB", b"\0\1\2\3")
    header = scan(dataset(rows_as_text, name_as_bytes, element(tags.COLUMNS, "US", b"\0\2\0")))
    assert header.integer(tags.ROWS) is None
    assert header.integer(tags.COLUMNS) is None
    assert header.text(tags.PATIENT_NAME) == ""
    assert header.flags == ("odd-length", "wrong-vr")


def test_f18_text_under_another_text_vr_is_kept():
    header = scan(dataset(element(tags.PATIENT_ID, "SH", b"A1"), element(tags.STUDY_ID, "UN", b"S1")))
    assert (header.text(tags.PATIENT_ID), header.text(tags.STUDY_ID)) == ("A1", "S1")
    assert header.flags == ("wrong-vr",)


def test_f19_unknown_vr():
    assert scan(dataset(element(0x00091010, "QQ", b"ab"))).flags == ("unknown-vr",)
    assert refused(dataset(element(0x00091010, "QQ", b"", length=1 << 31))) == "dataset-truncated"
    unknown = bytes(128) + b"DICM" + element(0x00020010, "QQ", b"1.2\0")
    assert file_refused(unknown + dataset()) == "file-meta-malformed"


def test_f20_duplicate_and_unordered_tags():
    once, twice = element(tags.PATIENT_ID, "LO", b"A1"), element(tags.PATIENT_ID, "LO", b"B2")
    assert scan(dataset(once, twice)).text(tags.PATIENT_ID) == "A1"
    assert scan(dataset(once, twice)).flags == ("duplicate-element",)
    assert scan(dataset(once) + twice).text(tags.PATIENT_ID) == "A1"
    assert scan(dataset(once) + twice).flags == ("duplicate-element", "unordered")


def test_f21_unknown_character_set():
    data = dataset(
        element(tags.SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 999"), element(tags.PATIENT_NAME, "PN", b"M\xfcller")
    )
    header = scan(data)
    assert header.text(tags.PATIENT_NAME) == "M\ufffdller"
    assert header.flags == ("charset-unknown",)


@pytest.mark.parametrize(
    ("declared", "raw", "text"),
    [
        (b"ISO_IR 192", b"M\xfcller", "M\ufffdller"),
        (b"GB18030", "王^小东".encode("gb18030"), "王^小东"),
        (b"\\ISO 2022 IR 87", b"A\x1b[31mB\x1b$B\xff\x1b", "A\ufffd[31mBÿ\ufffd"),
        (b"ISO_IR 100", b"A\x9b31mB\r\nC", "A31mBC"),
    ],
)
def test_f22_character_set_that_lies(declared, raw, text):
    even = raw + b" " * (len(raw) % 2)
    header = scan(dataset(element(tags.SPECIFIC_CHARACTER_SET, "CS", declared), element(tags.PATIENT_NAME, "PN", even)))
    assert header.text(tags.PATIENT_NAME) == text


def test_f24_impossible_dates_times_and_numbers():
    header = scan(
        dataset(
            element(tags.STUDY_DATE, "DA", b"20261399"),
            element(tags.STUDY_TIME, "TM", b"99"),
            element(tags.SERIES_NUMBER, "IS", b"1e400 "),
            element(tags.INSTANCE_NUMBER, "IS", b"999999999999"),
        )
    )
    assert header.date(tags.STUDY_DATE) is None
    assert header.time(tags.STUDY_TIME) is None
    assert header.integer(tags.SERIES_NUMBER) is None
    assert header.integer(tags.INSTANCE_NUMBER) is None


def test_f25_a_million_values():
    header = scan(dataset(element(tags.STUDY_DESCRIPTION, "UT", b"\\" * 1_000_000)))
    assert len(header.values[tags.STUDY_DESCRIPTION]) == 1024
    assert len(header.text(tags.STUDY_DESCRIPTION)) == 256
    assert header.flags == ("long-value", "wrong-vr")


def test_f26_numbers_out_of_their_range():
    header = scan(
        dataset(
            element(tags.ROWS, "UL", b"\xff\xff\xff\xff"),
            element(tags.COLUMNS, "US", b"\xff\xff"),
            element(tags.NUMBER_OF_FRAMES, "IS", b"2147483648"),
        )
    )
    assert header.integer(tags.ROWS) is None
    assert header.integer(tags.COLUMNS) == 65535
    assert header.integer(tags.NUMBER_OF_FRAMES) is None


def test_f29_encapsulated_without_offset_table_or_delimiter():
    def pixels(*items: bytes) -> bytes:
        return dataset(element(tags.PIXEL_DATA, "OB", b"".join(items), length=UNDEFINED))

    jpeg = item(b"\xff\xd8\xff\xe0ab\xff\xd9")
    assert refused(pixels(jpeg, SEQUENCE_END), JPEG) == "encapsulation-invalid"
    assert refused(pixels(SEQUENCE_END), JPEG) == "encapsulation-invalid"
    assert refused(pixels(item(), jpeg), JPEG) == "dataset-truncated"
    assert refused(pixels(item(), b"\xff\xd8\xff\xe0abcd", SEQUENCE_END), JPEG) == "dataset-malformed"
    assert scan(pixels(item(), jpeg, SEQUENCE_END), JPEG).flags == ()


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"MZ", "pe"), (b"\x7fELF", "elf"), (b"\xcf\xfa\xed\xfe", "mach-o"), (b"PK\x03\x04", "zip"), (b"<html>", "html")],
)
def test_f30_another_format_in_the_preamble(start, kind):
    assert file_meta_read(io.BytesIO(start.ljust(128, b"x") + META[128:])).preamble == kind
    assert META[:128] == bytes(128)


def test_f31_file_meta_that_is_wrong():
    def meta(*elements: bytes, length: bytes = b"\1\0\0\0") -> bytes:
        return bytes(128) + b"DICM" + element(0x00020000, "UL", length) + b"".join(elements)

    syntax = element(0x00020010, "UI", EXPLICIT.encode() + b"\0")
    wrong_length = io.BytesIO(meta(syntax, length=b"\xff\xff\xff\xff") + dataset())
    assert file_meta_read(wrong_length).flags == ("group-length-wrong",)
    assert wrong_length.read() == dataset()
    no_length = io.BytesIO(bytes(128) + b"DICM" + syntax + dataset())
    assert file_meta_read(no_length).flags == ("group-length-missing",)
    assert no_length.read() == dataset()
    assert file_refused(meta() + dataset()) == "file-meta-no-transfer-syntax"
    long_title = file_meta_read(io.BytesIO(meta(syntax, element(0x00020016, "AE", b"A" * 18))))
    assert long_title.source_ae_title == ""
    assert "ae-title-invalid" in long_title.flags
    assert file_refused(meta(element(0x00020102, "OB", length=1 << 31))) == "file-meta-malformed"


@pytest.mark.parametrize("raw", [b"", b"DICM", bytes(132), b"%PDF-1.7" * 100, dataset(), bytes(128) + b"DIC"])
def test_f32_not_a_dicom_file(raw):
    assert file_refused(raw) == "not-part10"


def test_f34_nothing_and_ten_gigabytes():
    for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN, JPEG, PRIVATE):
        assert refused(b"", syntax) == "dataset-empty"
    scanner, chunk = DatasetScanner(JPEG), memoryview(bytes(8 * 1024**2))
    scanner.feed(dataset(element(tags.PIXEL_DATA, "OB", item() + SEQUENCE_END, length=UNDEFINED))[:-8])
    for _ in range(5):
        scanner.feed(implicit(0xFFFEE000, length=256 * len(chunk)))
        for _ in range(256):
            scanner.feed(chunk)
    scanner.feed(SEQUENCE_END)
    assert scanner.finish().flags == ()


def test_f35_odd_lengths():
    header = scan(dataset(element(tags.PATIENT_ID, "LO", b"A12"), element(tags.STUDY_ID, "SH", b"7 ")))
    assert (header.text(tags.PATIENT_ID), header.text(tags.STUDY_ID)) == ("A12", "7")
    assert header.flags == ("odd-length",)
