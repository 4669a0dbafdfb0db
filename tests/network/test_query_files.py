"""Attributes that the index does not keep: read from the instance's file, sequences too, within bounds."""

import io
import zlib
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from network.dimse.query.errors import QueryError
from network.selectors import query_files
from studies.models import Instance
from tests.network.identifiers import question
from tests.network.query_house import CT_CLASS, House, add_study

pytestmark = pytest.mark.django_db
KEYS = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1", "SOPInstanceUID": ""}
STUDY, SERIES = "a" * 32, "b" * 32


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATEWAY_STORAGE__ROOT", str(tmp_path / "store"))
    assert settings.DATA_DIR
    return tmp_path / "store"


def keep(root: Path, number: int, *, syntax: str = ExplicitVRLittleEndian, **values: Any) -> None:
    """A file for one instance, as the store has them, and its row."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT_CLASS, f"1.2.1.1.{number}"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = b"\0" * 64
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    key = f"{number:032x}"
    name = f"objects/{STUDY}/{SERIES}/{key}.dcm"
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())
    Instance.objects.filter(sop_instance_uid=f"1.2.1.1.{number}").update(path=name)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_attributes_are_read_and_matched(root: Path, syntax: str) -> None:
    add_study(1, instances=2)
    keep(root, 1, syntax=syntax, SliceThickness="1.5", ImageType=["ORIGINAL", "PRIMARY"], TimezoneOffsetFromUTC="+0200")
    keep(root, 2, syntax=syntax, SliceThickness="3", OperatorsName="Ünal", SpecificCharacterSet="ISO_IR 100")
    house = House()
    answers = house.ask(
        question("IMAGE", SliceThickness="", ImageType="", OperatorsName="", TimezoneOffsetFromUTC="", **KEYS)
    )
    by_uid = {answer.SOPInstanceUID: answer for answer in answers}
    first, second = by_uid["1.2.1.1.1"], by_uid["1.2.1.1.2"]
    assert (first.SliceThickness, list(first.ImageType)) == (1.5, ["ORIGINAL", "PRIMARY"])
    assert first.TimezoneOffsetFromUTC == "+0200"
    assert (second.SliceThickness, second.OperatorsName, second.ImageType) == (3, "Ünal", "")
    assert house.values("SOPInstanceUID", "IMAGE", SliceThickness="1.5", **without("SOPInstanceUID")) == ["1.2.1.1.1"]
    assert house.values("SOPInstanceUID", "IMAGE", OperatorsName="unal", **without("SOPInstanceUID")) == ["1.2.1.1.2"]
    assert house.supported


def test_sequence_is_matched_by_one_of_its_items_and_answered_with_what_was_asked(root: Path) -> None:
    add_study(1, instances=2)
    keep(root, 1, RequestAttributesSequence=[requested("A1", "S1"), requested("A2", "S2")])
    keep(root, 2, RequestAttributesSequence=[requested("A1", "S2")])
    asked = question("IMAGE", RequestAttributesSequence=[requested("A2", None)], **KEYS)
    (answer,) = House().ask(asked)
    assert answer.SOPInstanceUID == "1.2.1.1.1"
    items = [(item.AccessionNumber, item.ScheduledProcedureStepID) for item in answer.RequestAttributesSequence]
    assert items == [("A2", "S2")], "the items that match (PS3.4 C.2.2.2.6)"
    (answer,) = House().ask(question("IMAGE", RequestAttributesSequence=[requested("A1", "S2")], **KEYS))
    assert answer.SOPInstanceUID == "1.2.1.1.2"


def test_sequence_without_keys_is_answered_whole(root: Path) -> None:
    add_study(1)
    inner = requested("A1", "S1")
    inner.ScheduledProtocolCodeSequence = [code("T-D1100"), code("T-D1200")]
    keep(root, 1, RequestAttributesSequence=[inner, requested("A2", None)])
    for wanted in ([], [Dataset()]):
        (answer,) = House().ask(question("IMAGE", RequestAttributesSequence=wanted, **KEYS))
        first, second = answer.RequestAttributesSequence
        assert (first.AccessionNumber, first.ScheduledProcedureStepID, second.AccessionNumber) == ("A1", "S1", "A2")
        assert [one.CodeValue for one in first.ScheduledProtocolCodeSequence] == ["T-D1100", "T-D1200"]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_binary_numbers_come_back_and_match(root: Path, syntax: str) -> None:
    add_study(1, instances=2)
    values = {
        "AcquisitionDuration": 1.5,  # FD
        "ExaminedBodyThickness": 2.25,  # FL
        "PixelBandwidth": "7.5",
        "FrameIncrementPointer": 0x00181063,  # AT
        "BitsStored": 7,
        "RecommendedDisplayFrameRateInFloat": 30.0,
        "OverlayData": b"\1\2",  # bytes, which no answer tells
    }
    keep(root, 1, syntax=syntax, **{key: value for key, value in values.items() if key != "OverlayData"})
    keep(root, 2, syntax=syntax, AcquisitionDuration=[1.5, 3.0])
    wanted = dict.fromkeys(key for key in values if key != "OverlayData")
    first, second = sorted(House().ask(question("IMAGE", **wanted, **KEYS)), key=lambda one: one.SOPInstanceUID)
    assert (first.AcquisitionDuration, first.ExaminedBodyThickness, first.PixelBandwidth) == (1.5, 2.25, 7.5)
    assert (first.FrameIncrementPointer, first.BitsStored) == (0x00181063, 7)
    assert list(second.AcquisitionDuration) == [1.5, 3.0]
    assert second.FrameIncrementPointer is None
    uids = without("SOPInstanceUID")
    assert House().values("SOPInstanceUID", "IMAGE", AcquisitionDuration=3.0, **uids) == ["1.2.1.1.2"]
    assert House().values("SOPInstanceUID", "IMAGE", FrameIncrementPointer=0x00181063, **uids) == ["1.2.1.1.1"]


def test_dates_and_times_come_back_as_they_are_written(root: Path) -> None:
    add_study(1)
    written = {
        "AcquisitionDateTime": "20200102101500.5+0100",
        "ContentTime": "1015",
        "ContentDate": "20200102",
        "AcquisitionNumber": "007",
    }
    keep(root, 1, **written)
    (answer,) = House().ask(question("IMAGE", **dict.fromkeys(written, ""), **KEYS))
    assert {keyword: str(answer[keyword].value) for keyword in written} == written


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("20200102091500+0000", True),
        ("20200102101500+0100", True),
        ("20200102101500+0000", False),
        ("20200102091400+0000-20200102091600+0000", True),
        ("20200102-", True),
    ],
)
def test_offsets_from_utc_are_taken_into_account(root: Path, asked: str, found: bool) -> None:
    """PS3.4 C.2.2.2.5.3."""
    add_study(1)
    keep(root, 1, AcquisitionDateTime="20200102101500+0100")
    answers = House().ask(question("IMAGE", AcquisitionDateTime=asked, **KEYS))
    assert len(answers) == found


def test_key_that_no_answer_can_tell_is_said_and_left_out(root: Path) -> None:
    add_study(1)
    keep(root, 1)
    house = House()
    (answer,) = house.ask(question("IMAGE", ICCProfile=b"", **KEYS))
    assert not house.supported
    assert "ICCProfile" not in answer


def test_instance_without_a_time_zone_says_none(root: Path) -> None:
    """Never with zero length (PS3.4 C.4.1.1.3.2)."""
    add_study(1)
    keep(root, 1)
    house = House()
    (answer,) = house.ask(question("IMAGE", TimezoneOffsetFromUTC="+0100", **KEYS))
    assert house.supported
    assert "TimezoneOffsetFromUTC" not in answer


def test_what_cannot_be_read_says_nothing_and_harms_nothing(root: Path) -> None:
    add_study(1, instances=3)
    keep(root, 1, syntax=ExplicitVRBigEndian, KVP="120")
    keep(root, 2, KVP="100")
    path = root / Instance.objects.get(sop_instance_uid="1.2.1.1.2").path
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    meta_end = path.read_bytes().index(b"\x08\x00\x16\x00")
    head = path.read_bytes()[:meta_end].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20])
    path.write_bytes(head + bomb.compress(b"\xff" * 50_000_000) + bomb.flush())
    assert House().values("KVP", "IMAGE", **KEYS) == ["None", "None", "None"]  # the third has no file at all
    assert House().values("SOPInstanceUID", "IMAGE", KVP="120", **without("SOPInstanceUID")) == []


def test_so_many_files_are_read_and_no_more(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_QUERY__MAX_FILES", "1")
    add_study(1, instances=2)
    keep(root, 1)
    keep(root, 2)
    with pytest.raises(QueryError, match="too many instances") as caught:
        House().ask(question("IMAGE", KVP="", **KEYS))
    assert caught.value.status == 0xA700
    assert len(House().ask(question("IMAGE", Rows=None, **KEYS))) == 2


def test_value_behind_the_beginning_is_not_looked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_files, "READ_BYTES", 4096)
    add_study(1, instances=1)
    keep(root, 1, KVP="120", ImageComments="x" * 8000)
    answer = House().ask(question("IMAGE", KVP="", ImageComments="", **KEYS))[0]
    assert (answer.KVP, answer.ImageComments) == (120, "")


def requested(accession: str, step: str | None) -> Dataset:
    item = Dataset()
    item.AccessionNumber, item.ScheduledProcedureStepID = accession, step
    return item


def code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    return item


def without(keyword: str) -> dict[str, str]:
    return {name: value for name, value in KEYS.items() if name != keyword}
