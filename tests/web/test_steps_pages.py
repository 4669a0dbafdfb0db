"""Procedure steps on a study's page: in progress, all here, missing, for another patient."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from network.models import StepState
from studies.models import Study
from tests.web.factories import revision_make, series_make, step_make, study_make

pytestmark = pytest.mark.django_db


def ended(count: int, here: int, **values: Any) -> dict[str, Any]:
    return {
        "state": StepState.COMPLETED,
        "closed_at": now() - timedelta(minutes=1),
        "ended_at": now() - timedelta(minutes=2),
        "instance_count": count,
        "here_count": here,
        **values,
    }


CARDS = {
    "in progress": ({}, "The device has not said yet that it is done."),
    "all here": (ended(412, 412), "All 412 objects are here."),
    "one": (ended(1, 1), "Its one object is here."),
    "none": (ended(0, 0), "The device names no object that it made."),
    "still coming": (ended(412, 409), "409 of 412 objects are here; 3 are still to come."),
    "overdue": (ended(412, 409, overdue_at=now()), "3 should have come by now."),
    "in vain": (ended(412, 409, done_at=now()), "409 of 412 objects came; the others were waited for in vain."),
}


def page(client: Client, study: Study) -> str:
    answer = client.get(f"/studies/{study.pk}/")
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


@pytest.mark.parametrize(("values", "words"), CARDS.values(), ids=CARDS.keys())
def test_card_says_in_words_whether_everything_is_here(viewer: Client, values: dict[str, Any], words: str) -> None:
    study = study_make()
    step_make(study, **values)
    html = page(viewer, study)
    assert words in html
    assert "Procedure step by CT_NORD_1 begun" in html
    assert ("Procedure step by CT_NORD_1 completed" in html) == ("closed_at" in values)
    assert ("CT_NORD_1 ends its procedure step" in html) == ("closed_at" not in values)


def test_study_without_steps_has_no_card(viewer: Client) -> None:
    study = study_make()
    step_make(study_make())
    html = page(viewer, study)
    assert '<section class="card" data-part="steps" hidden>' in html, "there when the first one comes"
    assert "Procedure step by" not in html


def test_step_for_another_patient_is_told(viewer: Client) -> None:
    study = study_make(patient_id="P1")
    step_make(study, patient_id="P2", patient_name="Moreau^Céline")
    html = page(viewer, study)
    assert "The step names another patient than the objects of this study." in html
    assert "Moreau, Céline, P2" in html


def test_settling_by_a_step_says_why(viewer: Client) -> None:
    study = study_make()
    series_make(study)
    revision_make(study, reason="step-complete")
    assert "the procedure step has ended and all its objects are here" in page(viewer, study)


def test_study_that_is_held_says_until_when_at_the_latest(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_make(open_since=now())
    step = step_make(study)
    assert "Settles, if nothing more arrives" in page(viewer, study)
    monkeypatch.setenv("GATEWAY_SETTLING__WAIT_FOR_PROCEDURE_STEPS", "true")
    assert "It waits for the procedure step to end" in page(viewer, study)
    assert "Waits for its procedure step to end, and settles in" in page(viewer, study)
    assert "once its procedure step has ended, or it was open for 24 h" in viewer.get("/studies/").content.decode()
    type(step).objects.update(state=StepState.COMPLETED)
    assert "Settles, if nothing more arrives" in page(viewer, study)
