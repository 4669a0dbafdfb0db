"""The chain of custody in a real browser: to read, to print, to download."""

from pathlib import Path

import pytest

from gateway_project.core.models import AuditEventType
from gateway_project.core.services.audit import audit_record
from tests.web.factories import user_make
from tests.web.test_browser import chromium, look, open_page
from tests.web.test_custody_pages import custody_study
from uploads.custody import CustodyReader
from uploads.services.identity import identity_jwk

__all__ = ["chromium", "open_page"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_page_is_read_printed_and_downloaded(open_page, tmp_path: Path) -> None:
    study = custody_study()
    for actor, action in (("process:settling", "settled"), ("process:upload", "uploaded")):
        audit_record(AuditEventType.STUDY_STATE, actor=actor, subject=f"study:{study.pk}", detail={"action": action})
    watched = open_page()
    page = watched.page
    watched.enter(user_make("operator", username="anna"))
    watched.go(f"/studies/{study.pk}/")
    page.click("text=Chain of custody")
    page.wait_for_url("**/custody/")
    look(watched, "custody")
    page.evaluate("window.print = () => { window.printed = true; }")
    page.click("text=Print this page")
    assert page.evaluate("window.printed")
    page.emulate_media(media="print", color_scheme="light")
    watched.shot("custody-print")
    assert page.locator("button:visible, .top:visible").count() == 0
    page.emulate_media(media="screen")
    with page.expect_download() as download:
        page.click("text=Export the signed document")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    with path.open("rb") as stream:
        assert CustodyReader(stream).verify(identity_jwk()).made_by == "user:anna"
    assert watched.faults == []
