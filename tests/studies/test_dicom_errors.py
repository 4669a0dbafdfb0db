import re
from pathlib import Path

import pytest

import studies.dicom
from studies.dicom.errors import _ADVICE, DatasetError, DicomError

SOURCES = Path(studies.dicom.__file__).parent
RAISED = {
    code for path in SOURCES.glob("*.py") for code in re.findall(r'DatasetError\("([a-z0-9-]+)"', path.read_text())
}


@pytest.mark.parametrize("code", sorted(RAISED))
def test_every_code_says_what_to_do(code):
    assert code in _ADVICE
    error = DatasetError(code, "0010,0010")
    assert isinstance(error, DicomError)
    assert (error.code, error.permanent) == (code, True)
    assert str(error) == f"{_ADVICE[code]} (0010,0010)"


def test_codes_are_found_in_the_sources():
    assert {"dataset-truncated", "uid-invalid", "not-part10"} <= RAISED


def test_code_of_another_module_is_no_error_of_its_own():
    assert DatasetError("not-known-here").code == "not-known-here"
    assert "quarantine" in str(DatasetError("not-known-here"))


def test_copy_holds_no_traceback():
    with pytest.raises(DatasetError) as caught:
        raise DatasetError("dataset-truncated", "inside")
    again = caught.value.copy()
    assert (again.code, str(again)) == (caught.value.code, str(caught.value))
    assert again.__traceback__ is None
