"""Pictures in a real browser: the gallery, the preview with keys, wheel and window, and both without JavaScript."""

from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests.studies.house import House
from tests.web.factories import user_make
from tests.web.stored import slices_write, stored_make
from tests.web.test_browser import Watched, chromium, look, open_page  # noqa: F401 - fixtures

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LOADED = "() => [...document.images].every((image) => image.complete && image.naturalWidth > 0)"
SHOWN = "(part) => document.getElementById('picture').src.includes(part) && document.getElementById('picture').complete"


def test_series_and_preview_with_pictures(open_page, stored: House, tmp_path: Path) -> None:  # noqa: F811
    slices = stored_make(stored, *slices_write(tmp_path / "files", 24))
    study, series = slices[0].study, slices[0].series
    watched = open_page()
    page = watched.page
    watched.enter(user_make("operator", username="anna"))
    watched.go(f"/studies/{study.pk}/")
    page.wait_for_function(LOADED)
    look(watched, "study-pictures")
    page.click(".thumbnail")
    page.wait_for_function(LOADED)
    look(watched, "preview", manual="preview.png")
    watched.go(f"/studies/{study.pk}/series/{series.pk}/")
    page.wait_for_function("() => document.images[0].naturalWidth > 0")
    look(watched, "series", manual="series.png")
    assert watched.faults == []


def test_preview_moves_by_keys_wheel_and_slider_without_loading_pages(
    open_page,  # noqa: F811
    stored: House,
    tmp_path: Path,
) -> None:
    slices = stored_make(stored, *slices_write(tmp_path / "files", 5))
    address = f"/studies/{slices[0].study_id}/series/{slices[0].series_id}/preview/"
    watched = open_page()
    page = watched.page
    watched.enter(user_make("viewer", username="anna"))
    watched.go(f"{address}?instance={slices[0].pk}")
    page.evaluate("window.notReloaded = true")
    assert "dragging in the picture sets the window" in page.inner_text("#handling")
    page.keyboard.press("?")
    assert "the next picture" in page.inner_text("#keys")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    page.wait_for_function(SHOWN, arg=f"/instances/{slices[1].pk}/")
    page.hover(".stage")
    page.mouse.wheel(0, 120)
    page.wait_for_function(SHOWN, arg=f"/instances/{slices[2].pk}/")
    page.keyboard.press("End")
    page.wait_for_function(SHOWN, arg=f"/instances/{slices[4].pk}/")
    page.fill("#position", "2")
    page.wait_for_function(SHOWN, arg=f"/instances/{slices[1].pk}/")
    assert page.get_attribute("#picture", "alt") == "Object 2 of 5"
    page.click(".windows a:has-text('Lung')")
    page.wait_for_function(SHOWN, arg="center=-600&width=1500")
    page.wait_for_selector(".windows [aria-current]:has-text('Lung')")
    assert f"instance={slices[1].pk}&center=-600&width=1500" in page.url
    assert page.input_value("[name=center]") == "-600"
    page.mouse.move(300, 300)
    page.mouse.down()
    page.mouse.move(360, 320, steps=4)
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('[name=width]').value > 1500")
    assert page.evaluate("window.notReloaded")
    assert watched.faults == []


def test_frames_of_one_object_are_moved_through_like_objects(open_page, stored: House) -> None:  # noqa: F811
    instance = stored_make(stored, Path(str(get_testdata_file("emri_small.dcm"))))[0]
    watched = open_page()
    page = watched.page
    watched.enter(user_make("viewer", username="anna"))
    watched.go(f"/studies/{instance.study_id}/series/{instance.series_id}/preview/?instance={instance.pk}&frame=1")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(SHOWN, arg="frame=2&")
    assert "frame 2 of 10" in page.inner_text("#place")
    look(watched, "preview-frames")
    assert watched.faults == []


def test_preview_of_what_is_no_picture_says_what_it_is(open_page, stored: House) -> None:  # noqa: F811
    instance = stored_make(stored, Path(str(get_testdata_file("rtplan.dcm"))))[0]
    watched = open_page()
    watched.enter(user_make("viewer", username="anna"))
    watched.go(f"/studies/{instance.study_id}/series/{instance.series_id}/preview/")
    look(watched, "preview-none")
    assert "A radiotherapy plan" in watched.page.inner_text("#caption")
    assert watched.faults == []


def test_preview_works_without_javascript(chromium, live_server, stored: House, tmp_path: Path) -> None:  # noqa: F811
    user_make(username="first", superuser=True)
    slices = stored_make(stored, *slices_write(tmp_path / "files", 3))
    context = chromium.new_context(java_script_enabled=False)
    try:
        watched = Watched(context.new_page(), live_server.url)
        watched.enter(user_make("viewer", username="anna"))
        watched.go(f"/studies/{slices[0].study_id}/series/{slices[0].series_id}/preview/?instance={slices[0].pk}")
        watched.page.click("text=After")
        watched.page.wait_for_url(f"**instance={slices[1].pk}*")
        watched.page.click("text=Bone")
        watched.page.wait_for_url("**center=400*")
        watched.page.fill("[name=width]", "90")
        watched.page.click("text=Show")
        watched.page.wait_for_url("**width=90*")
        assert watched.page.locator("#picture").get_attribute("src").endswith("center=400&width=90&size=1024")
    finally:
        context.close()
