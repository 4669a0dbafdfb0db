"""DICOMweb vaults in a real browser: the form, and the study's page."""

import pytest

from gateway_project.core.models import JobState
from tests.web.factories import user_make
from tests.web.test_browser import chromium, look, open_page
from tests.web.test_stow_pages import stow_job
from uploads.models import UploadPart

__all__ = ["chromium", "open_page"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_form_and_study_page(open_page) -> None:
    job = stow_job(JobState.PARKED, files_done=1, error_code="stow-not-stored",
                   error_words="1 of 3 objects stored. Not stored: 2 (the server cannot understand it). "
                   "The study's page names them.")  # fmt: skip
    for instance in job.revision.instances.all()[:2]:
        UploadPart.objects.create(job=job, name=instance.key, instance=instance, sha256="0" * 64, size_bytes=1,
                                  result_code="C000", result_words="the server cannot understand it")  # fmt: skip
    watched = open_page()
    watched.enter(user_make("administrator", username="anna"))
    watched.go(f"/studies/{job.revision.study_id}/")
    look(watched, "stow-study")
    assert watched.page.locator(".refusals li").count() == 2
    watched.go("/admin/uploads/stowvault/add/")
    watched.shot("stow-form")
    assert watched.page.locator("#id_secret").get_attribute("type") == "password"
    assert watched.faults == []
