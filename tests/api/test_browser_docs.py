"""Swagger UI and Redoc in a real browser, under the policy that they are served with."""

from tests.web.factories import user_make
from tests.web.test_browser import chromium, look, open_page, pytestmark

__all__ = ["chromium", "open_page", "pytestmark"]


def policy_of(watched, path: str) -> dict[str, str]:
    headers = watched.page.goto(watched.origin + path).headers
    parts = [part.strip().partition(" ") for part in headers["content-security-policy"].split(";")]
    return {name: value for name, _space, value in parts}


def test_swagger_shows_and_tries_the_operations(open_page) -> None:
    watched = open_page()
    watched.enter(user_make("operator"))
    watched.go("/api/docs/")
    watched.page.wait_for_selector("#operations-Studies-studies")
    look(watched, "api-swagger")
    watched.page.click("#operations-Studies-studies .opblock-summary-control")
    watched.page.click("#operations-Studies-studies .try-out__btn")
    watched.page.click("#operations-Studies-studies .execute")
    watched.page.wait_for_selector("#operations-Studies-studies .live-responses-table .response-col_status")
    shown = watched.page.inner_text("#operations-Studies-studies .live-responses-table")
    assert '"studies": []' in shown
    watched.shot("api-swagger-tried")
    assert watched.faults == []


def test_swagger_sends_a_logged_in_persons_changes_with_their_csrf_token(open_page) -> None:
    watched = open_page()
    watched.enter(user_make("operator"))
    watched.go("/api/docs/")
    block = "#operations-Studies-study_search"
    watched.page.wait_for_selector(block)
    watched.page.click(f"{block} .opblock-summary-control")
    watched.page.click(f"{block} .try-out__btn")
    watched.page.fill(f"{block} textarea.body-param__text", '{"patientName": "Muster"}')
    watched.page.click(f"{block} .execute")
    watched.page.wait_for_selector(f"{block} .live-responses-table .response-col_status")
    assert '"studies": []' in watched.page.inner_text(f"{block} .live-responses-table")
    assert watched.faults == []


def test_redoc_shows_the_operations(open_page) -> None:
    watched = open_page()
    watched.enter(user_make("viewer"))
    watched.go("/api/redoc/")
    watched.page.wait_for_selector("h2:has-text('The latest studies')")
    look(watched, "api-redoc")
    assert watched.faults == []


def test_policy_allows_redoc_two_fixed_styles_and_swagger_nothing(open_page) -> None:
    watched = open_page()
    watched.enter(user_make("viewer"))
    usual, swagger, redoc = (policy_of(watched, path) for path in ("/studies/", "/api/docs/", "/api/redoc/"))
    assert swagger == usual
    assert {name for name in redoc if redoc[name] != usual.get(name)} == {"style-src"}
    assert "unsafe" not in str(redoc)
