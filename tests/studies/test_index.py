"""The index: what it says of objects, that it loses none, and that none holds up another."""

import datetime as dt
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from gateway_project.core.models import Alert, AuditEvent
from studies.dicom.spool import SpoolError, Store
from studies.models import Instance, Series, Study, StudyState
from studies.services import index as index_module
from studies.services.index import index_objects, key_of
from studies.services.settle import study_settle
from tests.core.job_rows import together
from tests.studies.house import House, Killed

pytestmark = pytest.mark.django_db


def settled(house: House) -> None:
    study_settle(Study.objects.get().pk, now=dt.datetime.now(dt.UTC), reason="quiet")


def alerts() -> set[str]:
    return set(Alert.objects.filter(healed_at=None).values_list("code", flat=True))


# What it says


def test_study_series_and_instance_say_what_the_object_says(house: House) -> None:
    first = house.receive(
        "1.2.3.1",
        tag_00080020_DA="20240229",
        tag_00080030_TM="2359",
        tag_00080050_SH="ACC1",
        tag_00081030_LO="Thorax",
        tag_00081010_SH="CT-ROOM",
        tag_00100030_DA="19700101",
        tag_00100040_CS="F",
        tag_00200011_IS="7",
        tag_00200013_IS="3",
    )
    second = house.receive("1.2.3.2", series="1.2.7", modality="SR")
    result = house.index()
    assert (result.created, result.repeated, len(result.study_ids)) == (2, 0, 1)
    study = Study.objects.get()
    assert (study.study_instance_uid, study.patient_name, study.patient_id) == ("1.2.5", "Doe^Jane", "4711")
    assert (study.study_date, study.study_time, study.accession_number) == (
        dt.date(2024, 2, 29),
        dt.time(23, 59),
        "ACC1",
    )
    assert (study.study_description, study.patient_sex) == ("Thorax", "F")
    assert (study.patient_birth_date, study.modalities) == (dt.date(1970, 1, 1), "CT\\SR")
    assert (study.instance_count, study.series_count) == (2, 2)
    assert study.size_bytes == first.spooled.size_bytes + second.spooled.size_bytes
    assert (study.open_since, study.received_at) == (first.received_at, second.received_at)
    assert (study.state, study.source_ae_title, study.conflict) == (StudyState.RECEIVING, "CT_1", False)
    series = Series.objects.get(series_instance_uid="1.2.6")
    assert (series.modality, series.series_number, series.station_name) == ("CT", 7, "CT-ROOM")
    instance = Instance.objects.get(sop_instance_uid="1.2.3.1")
    assert (instance.instance_number, instance.version, instance.current, instance.revision) == (3, 1, True, None)
    assert (instance.association_id, instance.receiving_ae_title) == ("assoc-1", "GATEWAY")
    assert house.files("incoming") == set()
    house.check()


def test_later_batches_count_on_and_the_first_telling_is_believed(house: House) -> None:
    house.receive("1.2.3.1", tag_00081030_LO="")
    house.index()
    house.receive("1.2.3.2", tag_00081030_LO="Told later")
    house.index()
    house.receive("1.2.3.3", tag_00081030_LO="Told otherwise")
    house.index()
    study = Study.objects.get()
    assert (study.instance_count, study.series_count, study.study_description) == (3, 1, "Told later")
    house.check()


def test_values_that_cannot_be_are_left_out_and_too_long_ones_cut(house: House) -> None:
    house.receive(
        patient_id="P" * 200,
        modality="M" * 100,
        tag_00080020_DA="20261399",
        tag_00080050_SH="A" * 100,
        tag_00080070_LO="V" * 1000,
        tag_00200011_IS="99999999999",
        tag_00200013_IS="abc",
    )
    house.receive("1.2.3.2", patient_id="P" * 200)
    house.index()
    study, series = Study.objects.get(), Series.objects.get()
    assert (study.patient_id, study.accession_number, study.study_date) == ("P" * 64, "A" * 64, None)
    assert (series.modality, series.series_number) == ("M" * 16, None)
    assert (len(series.manufacturer), study.conflict) == (256, False)
    assert Instance.objects.get(sop_instance_uid="1.2.3.1").instance_number is None
    assert alerts() == set()


def test_many_modalities_never_outgrow_their_column(house: House) -> None:
    for number in range(20):
        house.receive(f"1.2.3.{number}", modality=f"MODALITY{number:04d}")
    house.index()
    study = Study.objects.get()
    assert len(study.modalities) <= 128
    assert all(len(modality) == 12 for modality in study.modalities.split("\\"))


def test_two_patients_under_one_study_are_flagged_and_nothing_is_merged(house: House) -> None:
    house.receive("1.2.3.1", patient_id="1", patient_name="Doe^Jane")
    house.receive("1.2.3.2", patient_id="2", patient_name="Roe^Max")
    house.receive("1.2.3.3", patient_id="3")
    house.index()
    study, alert = Study.objects.get(), Alert.objects.get()
    assert (study.conflict, study.patient_id, study.patient_name) == (True, "1", "Doe^Jane")
    assert (alert.code, alert.count) == ("patient-conflict", 1)
    assert "Doe" not in alert.words


def test_two_studies_in_one_batch(house: House) -> None:
    for number in range(6):
        house.receive(f"1.2.3.{number}", study=f"1.2.5.{number % 2}", patient_id=str(number % 2))
    assert len(house.index().study_ids) == 2
    assert set(Study.objects.values_list("instance_count", "patient_id", "conflict")) == {
        (3, "0", False),
        (3, "1", False),
    }
    house.check()


def test_trail_tells_of_the_transfer_and_not_of_the_patient(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.receive(patient_name="Mark^Patient", patient_id="MARKED-ID")
    house.receive(patient_name="Mark^Patient", patient_id="MARKED-ID", pixels=b"other")
    house.receive("1.2.3.2", patient_id="MARKED-OTHER")
    house.index()
    (event,) = AuditEvent.objects.all()
    assert (event.event, event.actor, event.detail["instances"]) == ("DICOM Instances Transferred", "ae:CT_1", 3)
    said = [str(event.detail), *[alert.words + alert.key + alert.link for alert in Alert.objects.all()]]
    said += [str(vars(record)) for record in caplog.records]
    assert alerts() == {"instance-changed", "patient-conflict"}
    assert not [text for text in said if "mark" in text.lower()]


# The same again


def test_same_content_twice_is_one_row_and_one_file(house: House) -> None:
    house.receive()
    house.receive()
    result = house.index()
    assert (result.created, result.repeated) == (1, 1)
    settled(house)
    house.receive()
    assert house.index().repeated == 1
    assert Instance.objects.count() == 1
    assert Study.objects.get().open_since is None  # nothing new: nothing is opened, nothing travels
    assert house.files("incoming") == set()
    house.check()


def test_other_content_is_a_new_current_version_and_both_are_kept(house: House) -> None:
    contents = [b"1", b"2", b"3"]
    house.receive(pixels=contents[0])
    house.index()
    settled(house)
    house.receive(pixels=contents[1])  # twice in one batch
    house.receive(pixels=contents[2])
    house.index()
    rows = list(Instance.objects.order_by("version"))
    assert [(row.version, row.current, row.revision_id is None) for row in rows] == [
        (1, False, False),
        (2, False, True),
        (3, True, True),
    ]
    assert [house.data_set_of(row)[-2:-1] for row in rows] == contents
    study = Study.objects.get()
    assert (study.instance_count, study.state, study.open_since is None) == (1, StudyState.RECEIVING, False)
    assert (Alert.objects.get().code, Alert.objects.get().severity) == ("instance-changed", "warning")
    house.check()


def test_earlier_content_that_comes_again_is_the_newest(house: House) -> None:
    for pixels in (b"1", b"2", b"1"):
        house.receive(pixels=pixels)
    house.index()
    assert list(Instance.objects.order_by("version").values_list("current", flat=True)) == [False, False, True]
    house.check()


def test_deleted_file_that_comes_again_is_made_good_once(house: House) -> None:
    house.receive()
    house.index()
    row = Instance.objects.get()
    house.store.remove(row.path)
    Instance.objects.update(file_deleted_at=dt.datetime.now(dt.UTC))
    house.receive()
    house.receive()
    assert house.index().repeated == 2
    again = Instance.objects.get()
    assert (again.pk, again.file_deleted_at, again.path == row.path) == (row.pk, None, False)
    house.check()
    assert alerts() == set()


@pytest.mark.parametrize("harm", ["lost", "cut short"])
def test_harmed_file_is_made_good_when_the_object_comes_again_and_told_of(house: House, harm: str) -> None:
    """The row promised the bytes; the sender's second copy must not be thrown away as a repeat."""
    house.receive()
    house.index()
    path = house.store.root / Instance.objects.get().path
    if harm == "lost":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20])
    house.receive()
    house.index()
    row = Instance.objects.get()
    assert len(house.data_set_of(row)) == row.size_bytes
    assert (Alert.objects.get().code, Alert.objects.get().severity) == ("file-lost", "critical")


# Crashes


def test_object_indexed_before_a_crash_could_release_it_keeps_its_file(house: House) -> None:
    item = house.receive()
    index_objects(house.store, [item])
    result = index_objects(house.store, [item])
    assert (result.created, result.repeated, result.surplus) == (0, 1, [])
    house.check()


def test_such_an_object_may_have_been_superseded_meanwhile(house: House) -> None:
    """Indexed, then the receiver is killed before the release, then a sibling takes in another content: not a third."""
    item = house.receive(pixels=b"1")
    index_objects(house.store, [item])
    house.waiting = []
    house.receive(pixels=b"2")
    house.index()
    result = index_objects(house.store, [item])
    assert (result.created, result.repeated, result.failed) == (0, 1, set())
    assert list(Instance.objects.order_by("version").values_list("current", flat=True)) == [False, True]
    house.check()


def test_such_an_object_s_file_may_have_been_deleted_meanwhile(house: House) -> None:
    item = house.receive()
    index_objects(house.store, [item])
    house.store.remove(Instance.objects.get().path)
    Instance.objects.update(file_deleted_at=dt.datetime.now(dt.UTC))
    index_objects(house.store, [item])
    assert Instance.objects.get().file_deleted_at is None
    house.check()


@pytest.mark.parametrize("place", ["index.placed", "index.committed"])
def test_crash_at_any_step_loses_nothing_and_may_be_repeated(
    house: House, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    house.receive("1.2.3.1")
    house.index()
    items = [house.receive("1.2.3.1"), house.receive("1.2.3.2"), house.receive("1.2.3.2", pixels=b"x")]

    def kill(name: str) -> None:
        if name == place:
            raise Killed

    monkeypatch.setattr(index_module, "failpoint", kill)
    with pytest.raises(Killed):
        index_objects(house.store, items)
    monkeypatch.undo()
    for row in Instance.objects.all():
        house.data_set_of(row)  # never a row without its file
    house.index(items)
    assert Instance.objects.count() == 3
    house.check()


def test_database_that_cannot_be_reached_leaves_all_as_it_was(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [house.receive(f"1.2.3.{n}") for n in range(3)]

    def fail(*_args: object, **_more: object) -> None:
        raise OperationalError

    monkeypatch.setattr(index_module, "audit_record", fail)
    with pytest.raises(OperationalError):
        index_objects(house.store, items)
    monkeypatch.undo()
    assert not Study.objects.exists()
    assert house.index(items).created == 3
    house.check()


# One bad object


def spoil(monkeypatch: pytest.MonkeyPatch, *, bad: str, even_minimal: bool) -> None:
    """Makes the row of one object fail as a database would that does not take its values."""
    real = index_module._instance_new

    def new(study: Study, series: Series, entry: Any, *, minimal: bool) -> Instance:
        if entry.identity.sop_instance_uid == bad and (even_minimal or not minimal):
            raise IntegrityError("DETAIL: Failing row contains (Mark^Patient)")
        return real(study, series, entry, minimal=minimal)

    monkeypatch.setattr(index_module, "_instance_new", new)


def test_object_that_breaks_the_index_gets_a_minimal_row_and_holds_up_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(9):
        house.receive(f"1.2.3.{number}", tag_00200013_IS=str(number))
    spoil(monkeypatch, bad="1.2.3.4", even_minimal=False)
    result = house.index()
    assert (result.created, result.failed) == (9, set())
    numbers = dict(Instance.objects.values_list("sop_instance_uid", "instance_number"))
    assert numbers == {f"1.2.3.{n}": None if n == 4 else n for n in range(9)}
    assert alerts() == {"index-minimal"}
    assert "Mark" not in "".join(str(vars(record)) for record in caplog.records)
    house.check()


def test_object_that_cannot_be_indexed_at_all_is_kept_and_told_of(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [house.receive(f"1.2.3.{number}") for number in range(5)]
    spoil(monkeypatch, bad="1.2.3.2", even_minimal=True)
    result = house.index()
    assert (result.created, result.failed) == (4, {items[2].spooled.location})
    assert items[2].spooled.path.exists()
    assert alerts() == {"index-failed"}


def test_object_whose_incoming_file_vanished_holds_up_nobody(house: House) -> None:
    items = [house.receive(f"1.2.3.{number}") for number in range(5)]
    items[1].spooled.path.unlink()
    result = house.index()
    assert (result.created, result.failed) == (4, {items[1].spooled.location})
    assert alerts() == {"index-failed"}
    house.check()


def test_failing_disk_is_tried_again_and_costs_no_object(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [house.receive(f"1.2.3.{number}") for number in range(3)]

    def fail(_self: Store, _names: object) -> None:
        raise SpoolError("disk-full")

    monkeypatch.setattr(Store, "sync", fail)
    with pytest.raises(SpoolError):
        index_objects(house.store, items)
    monkeypatch.undo()
    assert not Instance.objects.exists()
    assert house.index(items).created == 3


# Many at once


@pytest.mark.django_db(transaction=True)
def test_two_receivers_index_the_same_studies_at_once(house: House) -> None:
    """In opposite orders, with instances in common: each instance gets one current row, and nobody waits for ever."""
    batches = []
    for mine in range(2):
        order = range(8) if mine else range(7, -1, -1)
        batches.append([house.receive(f"1.2.3.{n % 5}", study=f"1.2.5.{n % 2}", pixels=bytes([n % 3])) for n in order])
    together(*[lambda items=items: house.index(items) for items in batches])  # type: ignore[misc]
    for study_id, uid in set(Instance.objects.values_list("study_id", "sop_instance_uid")):
        assert Instance.objects.filter(study_id=study_id, sop_instance_uid=uid, current=True).count() == 1
    house.check()


def statements(house: House, number: int, *, pixels: bytes = b"") -> int:
    for n in range(number):
        house.receive(f"1.2.3.{n}", pixels=pixels)
    with CaptureQueriesContext(connection) as queries:
        house.index()
    # every two seconds it is looked whether an option has changed
    return sum(not query["sql"].startswith('SELECT "core_configversion"') for query in queries)


def test_cost_does_not_grow_with_the_number_of_objects(house: House) -> None:
    few = statements(house, 3)
    assert statements(house, 60) <= few
    assert statements(house, 60, pixels=b"corrected") <= few + 4
    assert statements(house, 60, pixels=b"corrected") <= few
    assert few <= 16


def test_names_on_disk_are_ours_and_always_the_same() -> None:
    assert key_of("1.2.5") == key_of("1.2.5")
    assert key_of("1.2.5", "1.2.6") != key_of("1.2.5\n1.2.6", "")
    assert len(key_of("1.2.5")) == 32
