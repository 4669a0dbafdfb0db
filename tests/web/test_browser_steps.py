"""Procedure steps in a real browser."""

from datetime import timedelta

from django.utils.timezone import now

from network.models import StepState
from studies.models import StudyState
from tests.web.factories import series_make, step_make, study_make, user_make
from tests.web.test_browser import chromium, look, open_page, pytestmark

__all__ = ["chromium", "open_page", "pytestmark"]


def test_study_that_waits_for_its_step(open_page, monkeypatch) -> None:
    monkeypatch.setenv("GATEWAY_SETTLING__WAIT_FOR_PROCEDURE_STEPS", "true")
    study = study_make(state=StudyState.RECEIVING, open_since=now(), received_at=now())
    series_make(study, instances=5)
    step_make(study, description="Thorax nativ")
    watched = open_page()
    watched.enter(user_make("operator", username="anna"))
    look(watched, "list-held")
    watched.go(f"/studies/{study.pk}/")
    look(watched, "study-held")
    assert watched.faults == []


def test_study_with_its_procedure_steps(open_page) -> None:
    moment = now()
    study = study_make(state=StudyState.RECEIVING, open_since=moment, received_at=moment)
    series_make(study, instances=24)
    step_make(
        study,
        state=StepState.COMPLETED,
        description="Thorax mit Kontrastmittel",
        closed_at=moment,
        ended_at=moment - timedelta(minutes=1),
        instance_count=24,
        here_count=21,
        overdue_at=moment,
    )
    step_make(study, description="Abdomen", patient_id="P999", patient_name="Moreau^Céline")
    watched = open_page()
    watched.enter(user_make("operator", username="anna"))
    watched.go(f"/studies/{study.pk}/")
    look(watched, "study-steps")
    assert watched.page.locator('[data-part="steps"] article').count() == 2
    assert watched.faults == []
