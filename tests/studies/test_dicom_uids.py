import pytest

from studies.dicom.errors import DatasetError, DicomError
from studies.dicom.uids import uid_clean, uid_flaw, uid_is_valid


@pytest.mark.parametrize("uid", ["1", "0", "1.2.840.10008.1.2", "2.25.0", "1." + "2" * 62])
def test_strict_uids_are_valid(uid):
    assert uid_is_valid(uid)
    assert uid_clean(uid) == uid
    assert uid_flaw(uid) == ""


@pytest.mark.parametrize(
    "uid", ["", "1.02", "1..2", ".1", "1.", "1.2a", "1.2 ", "1.2\n", "1.2\0", "1." + "2" * 63, "\u0661.\u0662", "1/2"]
)
def test_anything_else_is_not(uid):
    assert not uid_is_valid(uid)


@pytest.mark.parametrize("raw", [b"1.2.3\0", b"1.2.3 ", b"1.2.3\0\0", b"1.2.3 \0", "1.2.3\0", "1.2.3"])
def test_only_padding_is_removed(raw):
    assert uid_clean(raw) == "1.2.3"


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0", b" 1.2", b"1.2\0.3", b"1.2a", b"1.2\\1.3", b"../../../tmp/x", b"1" * 65, b"1.2\n", "1.٢", b"\xff1.2"],
)
def test_what_is_not_digits_and_dots_is_refused(raw):
    with pytest.raises(DatasetError) as caught:
        uid_clean(raw)
    assert caught.value.code == "uid-invalid"
    assert caught.value.permanent
    assert isinstance(caught.value, DicomError)


@pytest.mark.parametrize("raw", [b".", b"..", b"....\0"])
def test_d06_dots_alone_are_no_uid_but_a_directory(raw):
    with pytest.raises(DatasetError) as caught:
        uid_clean(raw)
    assert caught.value.code == "uid-invalid"


@pytest.mark.parametrize(
    ("uid", "flaw"), [("1.02", "uid-leading-zero"), ("1..2", "uid-malformed"), ("1.2.", "uid-malformed")]
)
def test_ugly_uids_are_kept_and_flagged(uid, flaw):
    assert uid_clean(uid) == uid
    assert uid_flaw(uid) == flaw
