"""The Now page in a real browser: its pictures, its charts, its tables that stay open while it refreshes."""

import datetime as dt

import pytest
from django.utils.timezone import now

from gateway_project.core.models import Alert
from studies.models import Arrival, SourceActivity
from tests.web.factories import DAY, day_make, lane_make, study_make, user_make, vault_make
from tests.web.rollups import HOUR, hour_of, source_make
from tests.web.test_browser import chromium, look, open_page, pytestmark
from uploads.models import UploadJob

__all__ = ["chromium", "open_page", "pytestmark"]


def busy_make() -> None:
    """A day of eight devices that ends now, one of which is silent."""
    vault = vault_make()
    for study in day_make(vault):
        UploadJob.objects.filter(revision__study=study, state="done").update(
            receipt_at=study.received_at + dt.timedelta(minutes=11),
            ended_at=study.received_at + dt.timedelta(minutes=11),
        )
    titles = sorted({row[3] for row in DAY})
    this = hour_of(now())
    for index, title in enumerate(titles):
        hours = [this - number * HOUR for number in range(24 * 8) if (number + index) % 24 < 9 + index]
        source_make(title, hours or [this], objects=30 + 17 * index, steps=True)
    silent = source_make("MAMMO_2", [this - 70 * HOUR])
    Alert.objects.create(
        key=f"source-silent:{silent.calling_ae_title}",
        code="source-silent",
        words="MAMMO_2 has sent nothing since Mon 09:40, 2026-11-23. By its usual week it has missed 6 hours in "
        "which it sends. Look at the device, its network and its send queue.",
    )
    lane_make(name="vault:archive", title="Vault archive", held=True, faults=1,
              fault_words="The vault shows another key than the pinned one. Nothing was sent.")  # fmt: skip


def test_now_with_data_in_every_light_and_width(open_page) -> None:
    busy_make()
    watched = open_page()
    watched.enter(user_make("administrator", username="anna"))
    watched.go("/")
    look(watched, "now", manual="now.png")
    assert watched.page.locator("figure.chart svg").count() == 2
    assert watched.page.locator("figure.chart .bar").count() > 10
    assert watched.page.locator(".sources tbody tr").first.inner_text().startswith("MAMMO_2")
    for table in ("#table-received", "#table-delivered"):
        watched.page.click(f"{table} summary")
    look(watched, "now-tables")
    assert watched.faults == []


def test_now_that_is_healthy_and_now_that_is_empty(open_page) -> None:
    watched = open_page()
    watched.enter(user_make("viewer", username="anna"))
    watched.go("/")
    look(watched, "now-empty")
    assert "make demo" in watched.page.inner_text("main")
    day_make(vault_make(), healthy=True)
    watched.go("/")
    look(watched, "now-healthy")
    assert "are in the vault." in watched.page.inner_text("h1")
    assert watched.faults == []


def test_first_study_turns_the_first_steps_into_the_page(open_page) -> None:
    watched = open_page()
    watched.page.clock.install()
    watched.enter(user_make("viewer", username="anna"))
    watched.go("/")
    study_make()
    watched.page.clock.run_for(3100)
    watched.page.wait_for_selector("figure.chart")
    assert watched.faults == []


def test_table_under_a_chart_stays_open_when_the_figures_change(open_page) -> None:
    source_make("CT_1", [hour_of(now())], steps=True)
    watched = open_page()
    page = watched.page
    page.clock.install()
    watched.enter(user_make("viewer", username="anna"))
    watched.go("/")
    page.click("#table-received summary")
    source = SourceActivity.objects.get()
    start = hour_of(now()) - 3 * HOUR
    Arrival.objects.create(minutes=10, start=start, source=source, objects_received=77_777, size_bytes=9)
    page.clock.run_for(3100)
    page.wait_for_selector("#table-received td:has-text('77,777')")
    assert page.locator("#table-received[open]").count() == 1
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert watched.faults == []


@pytest.mark.parametrize("light", ["light", "dark"])
def test_bars_and_marks_stand_out_from_their_ground(open_page, light: str) -> None:
    """WCAG 1.4.11: 3 to 1 for what is needed to understand a picture."""
    busy_make()
    watched = open_page()
    watched.page.emulate_media(color_scheme=light)
    watched.enter(user_make("viewer", username="anna"))
    watched.go("/")
    colours = watched.page.evaluate(
        """() => [getComputedStyle(document.querySelector(".bar")).fill,
                  getComputedStyle(document.querySelector(".mark")).fill,
                  getComputedStyle(document.querySelector(".chart")).backgroundColor].map(
                    (c) => c.match(/[0-9.]+/g).slice(0, 3).map(Number))"""
    )
    bar, mark, ground = (_luminance(colour) for colour in colours)
    for shown in (bar, mark):
        dark, bright = sorted((shown, ground))
        assert (bright + 0.05) / (dark + 0.05) >= 3


def _luminance(colour: list[float]) -> float:
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
