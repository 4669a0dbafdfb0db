"""Login, account, one-time link, error codes and the accounts' admin in a real browser."""

import pytest
from django.test import Client
from django.urls import reverse

from gateway_project.wiring.people import password_link
from tests.web.factories import PASSWORD, day_make, user_make, vault_make
from tests.web.test_browser import chromium, look, open_page
from uploads.models import UploadJob

__all__ = ["chromium", "open_page"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
NEW = "another long one 8"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def test_own_account_and_another_password(open_page) -> None:
    anna = user_make("operator", username="anna")
    Client(headers={"User-Agent": FIREFOX}, REMOTE_ADDR="10.1.2.3").post(
        "/login/", {"username": "anna", "password": PASSWORD}
    )
    watched = open_page()
    watched.enter(anna)
    watched.page.click("header a.user")
    watched.page.wait_for_url("**/account/")
    look(watched, "account")
    assert "Firefox on Linux" in watched.page.inner_text("main")
    watched.page.fill("#id_old_password", PASSWORD)
    watched.page.fill("#id_new_password1", NEW)
    watched.page.fill("#id_new_password2", NEW)
    watched.page.click("text=Change the password")
    watched.page.wait_for_selector(".messages .success")
    assert "1 other session was ended" in watched.page.inner_text("main")
    assert "Nowhere else" in watched.page.inner_text("main")
    assert watched.faults == []


def test_locked_out_and_the_one_time_link(open_page) -> None:
    anna = user_make("viewer", username="anna")
    watched = open_page()
    for _ in range(6):
        watched.go("/login/")
        watched.page.fill("#id_username", "anna")
        watched.page.fill("#id_password", "wrong")
        watched.page.click("text=Log in")
    assert "Too many wrong passwords from here" in watched.page.inner_text("main")
    look(watched, "locked")
    assert all("429" in fault for fault in watched.faults)
    watched.faults.clear()
    link = password_link(anna, actor="user:first")
    watched.go(link)
    look(watched, "link")
    watched.page.fill("#id_new_password1", NEW)
    watched.page.fill("#id_new_password2", NEW)
    watched.page.click("text=Set the password")
    watched.page.wait_for_url("**/login/")
    assert "Your password is set" in watched.page.inner_text("main")
    watched.go(link)
    look(watched, "link-used")
    assert watched.faults == []


def test_error_codes_and_the_reason_beside_a_trouble(open_page) -> None:
    day_make(vault_make())
    job = UploadJob.objects.filter(state="parked").select_related("revision").get()
    UploadJob.objects.filter(pk=job.pk).update(error_words="A stored object is not what was received.")
    watched = open_page()
    watched.enter(user_make("operator", username="anna"))
    watched.go(f"/studies/{job.revision.study_id}/")
    watched.page.click("text=Why, and what to do")
    assert "Bit rot" in watched.page.inner_text("details[open]")
    look(watched, "study-explained")
    watched.page.click("details[open] a")
    watched.page.wait_for_url("**/help/codes/#object-damaged")
    assert watched.page.evaluate("document.querySelector(':target').id") == "object-damaged"
    look(watched, "codes")
    assert watched.faults == []


def test_accounts_in_the_admin(open_page) -> None:
    administrator, anna = user_make("administrator", username="eva"), user_make("viewer", username="anna")
    watched = open_page()
    watched.enter(administrator)
    for name, path in (
        ("accounts", reverse("admin:auth_user_changelist")),
        ("account-new", reverse("admin:auth_user_add")),
        ("account-change", reverse("admin:auth_user_change", args=(anna.pk,))),
    ):
        watched.go(path)
        watched.shot(f"admin-{name}")
    watched.page.click("text=Make a one-time link")
    watched.page.wait_for_selector("#one-time-link")
    watched.shot("admin-account-link")
    assert "/account/link/" in watched.page.input_value("#one-time-link")
    assert watched.faults == []
