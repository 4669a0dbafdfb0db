"""What a study tells besides its way: changed objects, conflicts, the quarantine, the lane that stands still."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.urls import reverse
from django.utils.timezone import now
from pydicom import dcmread

from gateway_project.core.models import JobState, Lane, Lease
from studies import patients
from studies.models import Instance, QuarantinedObject, QuarantineState, Study, StudyState
from tests.studies.house import House
from tests.web.factories import (
    attempt_make,
    revision_make,
    series_make,
    study_make,
    upload_make,
    uploaded_study_make,
)
from tests.web.stored import slices_write, stored_make
from uploads.models import UploadJob

pytestmark = pytest.mark.django_db


def page(client, study: Study) -> str:
    answer = client.get(f"/studies/{study.pk}/")
    assert answer.status_code == 200
    return answer.content.decode()


def changed(path: Path, **values: str) -> Path:
    dataset = dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("series", [{"SeriesInstanceUID": "1.2.3.4.5"}, {}], ids=["two series", "one series"])
def test_patients_of_a_conflict_are_named_as_the_objects_name_them(
    viewer, stored: House, tmp_path: Path, series: dict[str, str]
) -> None:
    first, second = slices_write(tmp_path / "files", 2)
    second = changed(second, PatientName="Okafor^<i>Daniel", PatientID="P9", **series)
    study = stored_make(stored, first, second)[0].study
    Instance.objects.update(association_id="the same")
    patients._known.clear()  # of another test's study with the same number
    study.refresh_from_db()
    assert study.conflict
    html = page(viewer, study)
    assert "name different patients" in html
    for words in ("<b><bdi>Lindqvist, Maja</bdi></b>", "P4711", "<b><bdi>Okafor, &lt;i&gt;Daniel</bdi></b>", "P9"):
        assert words in html


def test_conflict_is_told_also_when_the_files_are_gone(viewer, stored: House, tmp_path: Path) -> None:
    study = stored_make(stored, *slices_write(tmp_path / "files", 1))[0].study
    Study.objects.update(conflict=True)
    for instance in Instance.objects.all():
        (stored.store.root / instance.path).unlink()
    assert "name different patients" in page(viewer, study)


def test_versions_of_changed_objects_are_listed_and_can_be_looked_at(viewer, stored: House, tmp_path: Path) -> None:
    path = slices_write(tmp_path / "files", 1)[0]
    old = stored_make(stored, path)[0]
    new = stored_make(stored, changed(path, StudyDescription="Korrigiert"))[0]
    assert (new.version, new.current) == (2, True)
    html = page(viewer, new.study)
    assert "Version 1</a>" in html
    assert 'Version 2</a> <span class="tag">current</span>' in html
    shown = viewer.get(reverse("series-preview", args=(old.study_id, old.series_id)) + f"?instance={old.pk}")
    assert "older version 1" in shown.content.decode()


def test_study_without_changes_has_no_such_part(viewer) -> None:
    study = study_make()
    series_make(study)
    assert 'data-part="changed" hidden' in page(viewer, study)


def test_object_from_the_quarantine_stands_in_the_timeline(viewer) -> None:
    study = study_make()
    series_make(study)
    QuarantinedObject.objects.create(
        sha256="a" * 64,
        size_bytes=1,
        code="class-uid-differs",
        reason="The class differs.",
        state=QuarantineState.ACCEPTED,
        decided_by="user:eva",
        decided_at=now(),
        instance=study.instances.all()[0],
    )
    html = page(viewer, study)
    assert "Object taken in from the quarantine" in html
    assert "The class differs., by eva" in html


@pytest.mark.parametrize(
    ("lane", "words"),
    [
        ({"held": True}, "Resume Vault default"),
        ({"paused": True}, "Resume Vault default"),
        ({"open_until": now() + timedelta(hours=1), "faults": 1}, "Try Vault default now"),
    ],
)
def test_lane_that_stands_still_has_its_button_on_the_study(operator, viewer, vault, lane, words) -> None:
    study = study_make(state=StudyState.SETTLED, reason="Waiting for its upload.")
    series_make(study)
    upload_make(revision_make(study), vault, JobState.READY)
    Lane.objects.filter(pk=vault.lane_id).update(fault_words="The vault is away.", **lane)
    assert words in page(operator, study)
    assert words not in page(viewer, study)
    answer = operator.post(reverse("lane-resume", args=(vault.lane_id,)), {"next": f"/studies/{study.pk}/"})
    assert answer["Location"] == f"/studies/{study.pk}/"


@pytest.mark.parametrize(
    ("lane", "shown", "hidden"),
    [
        ({"held": True, "faults": 1}, ["Try now</button>"], "Resume Vault"),
        ({"open_until": now() + timedelta(hours=1), "faults": 1}, ["Try now</button>"], "Try Vault"),
        ({"paused": True}, ["Try now</button>", "Resume Vault default"], "Try Vault"),
    ],
)
def test_failed_study_offers_one_button_where_one_does_it(operator, vault, lane, shown: list[str], hidden: str) -> None:
    """Trying again also lets a lane go on that rests after a fault or was stopped by one."""
    study = study_make(state=StudyState.FAILED_TRANSIENT, reason="The vault is away.")
    job = upload_make(revision_make(study), vault, JobState.READY, error_code="x", error_words="The vault is away.")
    attempt_make(job, "failed", error_words="The vault is away.")
    UploadJob.objects.update(attempts=0)  # as after a lane's fault, which costs none
    Lane.objects.filter(pk=vault.lane_id).update(**lane)
    html = page(operator, study)
    assert all(words in html for words in shown)
    assert hidden not in html
    assert html.count('<button class="primary">') == 1
    assert "<dt>Attempts</dt><dd>1</dd>" in html


def test_study_says_that_nothing_moves_while_the_workers_do_not_run(viewer, vault) -> None:
    open_study, safe = study_make(open_since=now()), uploaded_study_make(vault)
    words = "The workers of the gateway do not run"
    assert words not in page(viewer, open_study)
    Lease.objects.all().delete()
    assert words in page(viewer, open_study)
    assert words not in page(viewer, safe)


def test_wait_is_told_with_its_reason(viewer) -> None:
    study = study_make(open_since=now(), received_at=now(), state=StudyState.RECEIVING)
    assert "once quiet for 10 min" in page(viewer, study)
    long_open = study_make(open_since=now() - timedelta(hours=23, minutes=59), received_at=now())
    assert "once open for 24 h, the longest time allowed" in page(viewer, long_open)
    assert 'title="Once quiet for 10 min"' in viewer.get("/studies/").content.decode()
