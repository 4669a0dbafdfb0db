"""Every page, found by its address: no error, no stranger, nothing that a screen reader or a thumb cannot use."""

import pytest
from django.utils.timezone import now

from gateway_project.core.services.alerts import alert_open
from network.models import RemoteAE
from studies.models import QuarantinedObject
from tests.outside.npm import MODULES
from tests.web.every_page import pages
from tests.web.factories import day_make, user_make, vault_make
from tests.web.rollups import HOUR, hour_of, source_make
from tests.web.test_browser import STICKS_OUT, Watched, chromium, open_page

__all__ = ["chromium", "open_page"]

AXE = MODULES / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
JUDGE = """async (tags) => {
  const found = await axe.run(document, { runOnly: { type: "tag", values: tags }, resultTypes: ["violations"] });
  const where = (v) => v.nodes.slice(0, 3).map((n) => n.target.join(" ")).join(" | ");
  return found.violations.map((v) => `${v.id}: ${v.help} ${where(v)}`);
}"""
# What Tab reaches, as long as it reaches something new; and what it should reach.
USABLE = "a[href], button, input:not([type=hidden]), select, textarea, summary"
REACHABLE = """(usable) => [...document.querySelectorAll(usable)]
  .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.disabled && e.tabIndex >= 0).length"""
FOCUSED = """() => { const e = document.activeElement;
  return e === document.body ? null : [...document.querySelectorAll("*")].indexOf(e); }"""

pytestmark = [pytest.mark.browser, pytest.mark.axe, pytest.mark.django_db(transaction=True)]


def _day() -> None:
    day_make(vault_make(demonstration=True))
    alert_open("test:page", code="disk-low", words="Little space is left on the disk of the store.")
    QuarantinedObject.objects.create(sha256="a" * 64, size_bytes=1000, code="no-sop-instance-uid", reason="No UID.")
    RemoteAE.objects.create(ae_title="CT_NORD_1")
    source_make("CT_NORD_1", [hour_of(now())], steps=True)
    source_make("MAMMO_1", [hour_of(now()) - 70 * HOUR])
    alert_open("source-silent:MAMMO_1", code="source-silent", words="MAMMO_1 has sent nothing since Mon 09:40.")


def _judge(watched: Watched, where: str, *, width: int, light: str) -> list[str]:
    page = watched.page
    page.set_viewport_size({"width": width, "height": 844 if width < 500 else 800})
    page.emulate_media(color_scheme=light, reduced_motion="reduce")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    faults = page.evaluate(JUDGE, RULES)
    if page.evaluate(STICKS_OUT) > 0:
        faults.append("can be pushed sideways")
    return [f"{where} {width} {light}: {fault}" for fault in faults]


def _tab_through(watched: Watched, where: str) -> list[str]:
    """Tab reaches each thing that can be used, once around the page."""
    page = watched.page
    page.focus(".skip")  # the first of every page, wherever the page itself has put the focus
    reached = {page.evaluate(FOCUSED)}
    for _step in range(400):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if at is None or at in reached:
            break
        reached.add(at)
    wanted = page.evaluate(REACHABLE, USABLE)
    return [] if len(reached) >= wanted else [f"{where}: Tab reaches {len(reached)} of {wanted} controls"]


def _walk(open_page, client_of, variants: list[tuple[int, str]], *, least: int, tab: bool) -> list[str]:
    watched: Watched = open_page()
    administrator = user_make("administrator", username="anna")
    found = pages(client_of(administrator))
    assert len(found) >= least
    watched.enter(administrator)
    faults: list[str] = []
    for address in found:
        watched.go(address.path)
        for width, light in variants:
            faults += _judge(watched, address.name, width=width, light=light)
            watched.shot(f"{address.name}-{'data' if tab else 'empty'}-{width}-{light}")
        if tab:
            faults += _tab_through(watched, address.name)
    return faults + watched.faults


@pytest.fixture
def client_of():
    from django.test import Client

    def log_in(user) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return log_in


def test_every_page_with_data(open_page, client_of) -> None:
    _day()
    faults = _walk(open_page, client_of, [(1280, "light"), (1280, "dark"), (390, "light")], least=4, tab=True)
    assert not faults, "\n".join(faults)


def test_every_page_without_data(open_page, client_of) -> None:
    faults = _walk(open_page, client_of, [(1280, "light"), (390, "dark")], least=2, tab=False)
    assert not faults, "\n".join(faults)
