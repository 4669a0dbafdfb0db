"""The pages in a real browser: in both lights and two widths, without an error in the console or a request elsewhere."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from tests.web.factories import PASSWORD, DAY, day_make, study_make, user_make, vault_make
from studies.models import Study, StudyState

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
        page.on("console", lambda message: self.faults.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", self._request)

    def _request(self, request) -> None:
        address = urlsplit(request.url)
        if address.scheme != "data" and f"{address.scheme}://{address.netloc}" != self.origin:
            self.faults.append(f"request to {request.url}")

    def go(self, path: str) -> None:
        self.page.goto(self.origin + path, wait_until="networkidle")

    def log_in(self, user: User) -> None:
        self.go("/login/")
        self.page.fill("#id_username", user.username)
        self.page.fill("#id_password", PASSWORD)
        self.page.click("text=Log in")
        self.page.wait_for_url("**/studies/")

    def shot(self, name: str, *, manual: str = "") -> None:
        if SHOTS is not None:
            SHOTS.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
        if manual and os.environ.get("GATEWAY_PICTURES") == "1":
            MANUAL.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=MANUAL / manual, full_page=True)


@pytest.fixture
def open_page(chromium, live_server, db) -> Iterator[Callable[..., Watched]]:
    contexts = []
    user_make(username="first", superuser=True)  # set-up is finished

    def open_with(*, width: int = 1280, dark: bool = False) -> Watched:
        context = chromium.new_context(
            viewport={"width": width, "height": 844 if width < 500 else 800}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        return Watched(context.new_page(), live_server.url)

    yield open_with
    for context in contexts:
        context.close()


def sideways(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_list_and_study_with_data(open_page, width: int, dark: bool) -> None:
    studies = day_make(vault_make(demonstration=True))
    watched = open_page(width=width, dark=dark)
    watched.log_in(user_make("operator", username="anna"))
    light = "dark" if dark else "light"
    picture = "studies.png" if (width, dark) == (1280, False) else ""
    watched.shot(f"list-{width}-{light}", manual=picture)
    assert watched.page.locator("tr[data-row]").count() == len(DAY)
    assert sideways(watched.page) <= 0
    for study in studies:
        if study.state in (StudyState.UPLOADING, StudyState.FAILED_TRANSIENT, StudyState.RECEIVING, StudyState.UPLOADED):
            watched.go(f"/studies/{study.pk}/")
            watched.shot(f"study-{study.state}-{width}-{light}")
            assert watched.page.locator("h1").inner_text().split(",")[0] == study.patient_name.split("^")[0]
            assert sideways(watched.page) <= 0
    assert watched.faults == []
