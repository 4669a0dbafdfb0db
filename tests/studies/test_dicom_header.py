import datetime as dt

import pytest

from studies.dicom import tags
from studies.dicom.errors import DatasetError
from studies.dicom.header import Header
from tests.studies.datasets import identity


def header(tag, raw, **more):
    return Header({tag: raw} | more.pop("values", {}), **more)


@pytest.mark.parametrize(
    ("raw", "date"),
    [(b"20240229", dt.date(2024, 2, 29)), (b"20240229 ", dt.date(2024, 2, 29)), (b"1999.12.31", dt.date(1999, 12, 31))],
)
def test_dates_of_the_calendar_are_read(raw, date):
    assert header(tags.STUDY_DATE, raw).date(tags.STUDY_DATE) == date


@pytest.mark.parametrize(
    "raw", [b"", b"20261399", b"20230229", b"00000000", b"2024", b"2024-02-29", b"1999.1231", b"\xd9\xa1", b"x" * 1024]
)
def test_other_dates_are_none(raw):
    assert header(tags.STUDY_DATE, raw).date(tags.STUDY_DATE) is None


@pytest.mark.parametrize(
    ("raw", "time"),
    [
        (b"235959.999999", dt.time(23, 59, 59, 999999)),
        (b"10", dt.time(10)),
        (b"1030", dt.time(10, 30)),
        (b"103045.5 ", dt.time(10, 30, 45, 500000)),
        (b"10:30:45", dt.time(10, 30, 45)),
        (b"235960", dt.time(23, 59, 59)),
    ],
)
def test_times_of_day_are_read(raw, time):
    assert header(tags.STUDY_TIME, raw).time(tags.STUDY_TIME) == time


@pytest.mark.parametrize("raw", [b"", b"99", b"2460", b"1", b"10304", b"103045.1234567", b"1030.5", b"noon"])
def test_other_times_are_none(raw):
    assert header(tags.STUDY_TIME, raw).time(tags.STUDY_TIME) is None


@pytest.mark.parametrize(
    ("raw", "value"), [(b"12", 12), (b" -7 ", -7), (b"+3", 3), (b"2147483647", 2**31 - 1), (b"007\0", 7)]
)
def test_integer_strings_are_read(raw, value):
    assert header(tags.SERIES_NUMBER, raw).integer(tags.SERIES_NUMBER) == value


@pytest.mark.parametrize(
    "raw", [b"", b"1.0", b"1\\2", b"2147483648", b"-2147483649", b"9" * 1000, b"abc", b"1_0", b"\xb2"]
)
def test_other_integer_strings_are_none(raw):
    assert header(tags.NUMBER_OF_FRAMES, raw).integer(tags.NUMBER_OF_FRAMES) is None


def test_short_integers_follow_the_byte_order():
    assert header(tags.ROWS, b"\x00\x02").integer(tags.ROWS) == 512
    assert header(tags.ROWS, b"\x02\x00", big_endian=True).integer(tags.ROWS) == 512


@pytest.mark.parametrize("raw", [b"", b"\1", b"\0\2\0", b"\0\2\0\0"])
def test_short_integers_of_another_size_are_none(raw):
    assert header(tags.ROWS, raw).integer(tags.ROWS) is None


def test_absent_attributes_are_empty():
    empty = Header()
    assert empty.text(tags.PATIENT_NAME) == ""
    assert empty.uid(tags.STUDY_INSTANCE_UID) == ""
    assert empty.date(tags.STUDY_DATE) is None
    assert empty.time(tags.STUDY_TIME) is None
    assert empty.integer(tags.ROWS) is None
    assert empty.integer(tags.SERIES_NUMBER) is None


def test_text_is_bounded():
    assert len(header(tags.STUDY_DESCRIPTION, b"x" * 1024).text(tags.STUDY_DESCRIPTION)) == 256


def test_text_cut_at_a_space_is_not_padded():
    """Found by fuzzing: the cut came after the stripping."""
    assert header(tags.STUDY_DESCRIPTION, b"x" * 255 + b" y").text(tags.STUDY_DESCRIPTION) == "x" * 255


def test_only_names_and_descriptions_follow_the_character_set():
    greek = {tags.SPECIFIC_CHARACTER_SET: b"ISO_IR 126"}
    assert header(tags.PATIENT_ID, b"\xe1", values=greek).text(tags.PATIENT_ID) == "\u03b1"
    assert header(tags.MODALITY, b"\xe1", values=greek).text(tags.MODALITY) == "\ufffd"


def test_identity_gives_the_four_uids():
    found = Header(identity()).identity()
    assert found == ("1.2.5", "1.2.6", "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4")
    assert found.sop_instance_uid == "1.2.3.4"


def test_invalid_uid_says_so():
    with pytest.raises(DatasetError) as caught:
        Header(identity(study=b"1.2x")).identity()
    assert caught.value.code == "uid-invalid"
    assert "1.2x" not in str(caught.value)
