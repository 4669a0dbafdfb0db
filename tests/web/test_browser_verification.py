"""The upload panel of a verified upload and of one that the vault has lost, in a real browser."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from tests.web.factories import user_make
from tests.web.test_browser import chromium, look, open_page
from tests.web.test_verification_pages import WORDS, job_make, lost_make
from uploads.models import UploadJob

__all__ = ["chromium", "open_page"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_verified_and_lost(open_page) -> None:
    lost = lost_make()
    watched = open_page()
    watched.enter(user_make("operator", username="anna"))
    watched.go(f"/studies/{lost.revision.study_id}/")
    look(watched, "upload-lost")
    panel = watched.page.locator('[data-part="uploads"]')
    assert WORDS in panel.inner_text()
    panel.get_by_role("button", name="Upload anew").click()
    assert "1 upload is tried again now" in watched.page.locator("main").inner_text()
    assert UploadJob.objects.get(pk=lost.pk).upload_id != lost.upload_id
    assert watched.faults == []


def test_verified(open_page) -> None:
    job = job_make(verified_at=now() - timedelta(days=3))
    watched = open_page()
    watched.enter(user_make("viewer", username="anna"))
    watched.go(f"/studies/{job.revision.study_id}/")
    look(watched, "upload-verified")
    assert "3 days ago" in watched.page.locator('[data-part="uploads"]').inner_text()
    assert watched.faults == []
