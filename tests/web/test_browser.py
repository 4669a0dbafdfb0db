"""The pages in a real browser: both lights, two widths, no error in the console, no request elsewhere."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from gateway_project.core.models import JobState
from gateway_project.wiring.setup import setup_link, setup_token_remove
from studies.models import Study, StudyState
from tests.web.factories import (
    DAY,
    PASSWORD,
    day_make,
    revision_make,
    study_make,
    upload_make,
    user_make,
    vault_make,
)
from uploads.models import UploadJob

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync"]  # fmt: skip
SHOTS = Path(os.environ.get("GATEWAY_SHOTS", "")) if os.environ.get("GATEWAY_SHOTS") else None
MANUAL = settings.BASE_DIR / "docs" / "pictures"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    playwright_api = pytest.importorskip("playwright.sync_api")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright's own loop lives in this thread
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


class Watched:
    """A page that notes what it must not do."""

    def __init__(self, page, origin: str) -> None:
        self.page, self.origin, self.faults = page, origin, []
        page.on(
            "console",
            lambda message: self.faults.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", self._request)

    def _request(self, request) -> None:
        address = urlsplit(request.url)
        if address.scheme != "data" and f"{address.scheme}://{address.netloc}" != self.origin:
            self.faults.append(f"request to {request.url}")

    def go(self, path: str) -> None:
        self.page.goto(self.origin + path, wait_until="load")

    def enter(self, user: User) -> None:
        """Logged in without the form, which has a test of its own."""
        client = Client()
        client.force_login(user)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        self.page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": self.origin}])
        self.go("/studies/")

    def log_in(self, user: User) -> None:
        self.go("/login/")
        self.page.fill("#id_username", user.username)
        self.page.fill("#id_password", PASSWORD)
        self.page.click("text=Log in")
        self.page.wait_for_url(self.origin + "/")

    def shot(self, name: str, *, manual: str = "") -> None:
        if SHOTS is not None:
            SHOTS.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
        if manual and os.environ.get("GATEWAY_PICTURES") == "1":
            MANUAL.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=MANUAL / manual, clip={"x": 0, "y": 0, "width": 1280, "height": 690})


@pytest.fixture
def open_page(chromium, live_server, db) -> Iterator[Callable[..., Watched]]:
    contexts = []
    user_make(username="first", superuser=True)  # set-up is finished

    def open_with() -> Watched:
        context = chromium.new_context(viewport={"width": 1280, "height": 800})
        contexts.append(context)
        return Watched(context.new_page(), live_server.url)

    yield open_with
    for context in contexts:
        context.close()


VARIANTS = [(width, light) for width in (1280, 390) for light in ("light", "dark")]
# Pixels by which the page can be pushed sideways, or by which a UID sticks out of its card.
STICKS_OUT = """() => Math.max(
  document.documentElement.scrollWidth - document.documentElement.clientWidth,
  ...[...document.querySelectorAll(".card .uid, .card .state")].map(
    (e) => e.getBoundingClientRect().right - e.closest(".card").getBoundingClientRect().right))"""


def look(watched: Watched, name: str, *, manual: str = "") -> None:
    """The page fits in both widths and both lights, and has its picture taken."""
    for width, light in VARIANTS:
        watched.page.set_viewport_size({"width": width, "height": 844 if width < 500 else 800})
        watched.page.emulate_media(color_scheme=light)
        watched.shot(f"{name}-{width}-{light}", manual=manual if (width, light) == VARIANTS[0] else "")
        assert watched.page.evaluate(STICKS_OUT) <= 0, (name, width)
    watched.page.set_viewport_size({"width": 1280, "height": 800})


def test_list_and_study_with_data(open_page) -> None:
    studies = day_make(vault_make(demonstration=True))
    watched = open_page()
    watched.enter(user_make("operator", username="anna"))
    look(watched, "list", manual="studies.png")
    assert watched.page.locator("tr[data-row]").count() == len(DAY)
    for state in (StudyState.UPLOADING, StudyState.FAILED_TRANSIENT, StudyState.RECEIVING, StudyState.UPLOADED):
        study = next(study for study in studies if study.state == state)
        watched.go(f"/studies/{study.pk}/")
        look(watched, f"study-{state}", manual="study.png" if state == StudyState.UPLOADED else "")
        assert watched.page.locator("h1").inner_text().split(",")[0] == study.patient_name.split("^")[0]
    assert watched.faults == []


def test_pages_without_data(open_page) -> None:
    watched = open_page()
    watched.go("/login/")
    look(watched, "login")
    watched.enter(user_make("viewer", username="anna"))
    look(watched, "empty")
    assert "Send a first one" in watched.page.inner_text("main")
    study = study_make(patient_name="", study_description="", modalities="", patient_id="", accession_number="")
    watched.go(f"/studies/{study.pk}/")
    look(watched, "bare")
    assert watched.faults == []


def test_set_up_in_the_browser(chromium, live_server, db) -> None:
    setup_token_remove()
    link = setup_link()
    if link is None:
        pytest.fail("an administrator is left over")
    context = chromium.new_context()
    try:
        watched = Watched(context.new_page(), live_server.url)
        watched.go("/setup/" + link.rstrip("/").rsplit("/", 1)[1] + "/")
        look(watched, "setup")
        watched.page.fill("#id_username", "eva")
        watched.page.fill("#id_password", PASSWORD)
        watched.page.fill("#id_password_again", PASSWORD)
        watched.page.click("text=Make the account")
        watched.page.wait_for_url(watched.origin + "/")
        assert "Welcome, eva." in watched.page.inner_text("main")
        assert watched.faults == []
    finally:
        context.close()


@pytest.mark.parametrize("role", ["viewer", "operator", "administrator"])
def test_pages_as_each_role(open_page, role: str) -> None:
    studies = day_make(vault_make())
    watched = open_page()
    watched.enter(user_make(role, username="anna"))
    watched.go("/")
    acts = watched.page.locator(".troubles button").count()
    assert (acts == 0) == (role == "viewer")
    assert watched.page.locator("text=Administration").count() == (role == "administrator")
    if role == "administrator":
        for path in ("/admin/", "/admin/studies/study/", f"/admin/studies/study/{studies[0].pk}/change/"):
            watched.go(path)
            watched.shot("admin-" + path.strip("/").split("/")[-1])
    assert watched.faults == []


def test_list_stays_fresh_without_reloading(open_page) -> None:
    study = study_make(state=StudyState.UPLOADING, patient_name="Frisch^Eva")
    study_make(patient_name="Zweite^Ida", state=StudyState.UPLOADED)
    watched = open_page()
    page = watched.page
    page.clock.install()
    watched.enter(user_make("viewer", username="anna"))
    page.evaluate("window.notReloaded = true")
    page.focus(f"tr[data-row='{study.pk}'] a")
    Study.objects.filter(pk=study.pk).update(state=StudyState.UPLOADED)
    page.clock.run_for(3100)
    page.wait_for_selector(f"tr[data-row='{study.pk}'] .state.ok")
    assert page.evaluate("window.notReloaded")
    assert page.evaluate("document.activeElement.closest('tr').dataset.row") == str(study.pk)
    assert watched.faults == []


def test_explanation_that_is_open_keeps_nothing_from_being_fresh(open_page) -> None:
    study = study_make(state=StudyState.FAILED_TRANSIENT, reason="The vault is away.")
    job = upload_make(revision_make(study), vault_make(), JobState.READY, error_code="timeout", error_words="Away.")
    watched = open_page()
    page = watched.page
    page.clock.install()
    watched.enter(user_make("viewer", username="anna"))
    watched.go(f"/studies/{study.pk}/")
    page.click(".identity details.why summary")
    Study.objects.filter(pk=study.pk).update(study_description="Another one")
    page.clock.run_for(3100)
    page.wait_for_selector(".identity .subtitle:has-text('Another one')")
    assert page.locator(".identity details.why[open]").count() == 1
    Study.objects.filter(pk=study.pk).update(state=StudyState.UPLOADED, reason="")
    UploadJob.objects.filter(pk=job.pk).update(state=JobState.DONE)
    page.clock.run_for(3100)
    page.wait_for_selector(".identity .state.ok")
    assert watched.faults == []


def test_keyboard_finds_moves_and_opens(open_page) -> None:
    first, second = study_make(patient_name="Erste^Ada"), study_make(patient_name="Zweite^Ida")
    watched = open_page()
    watched.enter(user_make("viewer", username="anna"))
    page = watched.page
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    watched.go("/vaults/")
    page.keyboard.press("/")
    page.wait_for_url("**/studies/#search")
    page.wait_for_function("document.activeElement.id === 'search'")
    watched.go("/studies/")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("Erste")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Found for")
    assert page.locator("tr[data-row]").count() == 1
    assert "Erste" not in page.url
    page.click("text=Show all")
    page.wait_for_selector(f"tr[data-row='{second.pk}']")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/studies/{first.pk}/")
    assert watched.faults == []


def test_pages_work_without_javascript(chromium, live_server, db) -> None:
    user_make(username="first", superuser=True)
    study = study_make(patient_name="Ohne^Skript")
    context = chromium.new_context(java_script_enabled=False)
    try:
        watched = Watched(context.new_page(), live_server.url)
        watched.log_in(user_make("viewer", username="anna"))
        watched.page.click("text=Studies")
        watched.page.fill("#search", "skript ohne")
        watched.page.click(".search button")
        watched.page.click("text=Ohne, Skript")
        watched.page.wait_for_url(f"**/studies/{study.pk}/")
        assert watched.page.locator("button.copy:visible").count() == 0
        watched.page.click("text=Log out")
        watched.page.wait_for_url("**/login/")
    finally:
        context.close()


def test_ended_session_is_said_instead_of_shown_as_fresh(open_page) -> None:
    study_make()
    watched = open_page()
    watched.page.clock.install()
    watched.enter(user_make("viewer", username="anna"))
    watched.page.context.clear_cookies()
    watched.page.clock.run_for(3100)
    watched.page.wait_for_selector("#notice a[href='/login/']")
    assert "Your session has ended" in watched.page.inner_text("#notice")
