"""The chain of custody over the API: signed, audited, naming no patient."""

import json

import pytest

from gateway_project.core.models import AuditEvent
from tests.api.programs import post
from tests.web.factories import uploaded_study_make

pytestmark = pytest.mark.django_db


def test_document_is_signed_streamed_and_audited(as_role, vault) -> None:
    study = uploaded_study_make(vault, patient_name="MARKED^PATIENT")
    answer = post(as_role("operator"), f"/api/studies/{study.study_instance_uid}/custody")
    text = b"".join(answer.streaming_content).decode()
    assert json.loads(text)
    assert study.study_instance_uid in text
    assert "MARKED" not in text
    assert answer["Content-Disposition"].startswith(f'attachment; filename="custody-study-{study.pk}-')
    event = AuditEvent.objects.get(subject=f"study:{study.pk}", event="Data Export")
    assert event.actor.startswith("token:operator-")
    assert "token:operator-" in text
