"""Thumbnails, previews and the pages around them: who sees them, what a bad address gets, what is not shown."""

from io import BytesIO
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from PIL import Image

from gateway_project.core.models import AuditEvent, AuditEventType
from studies.models import Instance, Series
from studies.services import pictures
from tests.dicom_samples import bundled_root
from tests.studies.house import House
from tests.web.factories import series_make, study_make
from tests.web.stored import slices_write, stored_make

pytestmark = pytest.mark.django_db


@pytest.fixture
def slices(stored: House, tmp_path: Path) -> list[Instance]:
    return stored_make(stored, *slices_write(tmp_path / "files", 5))


def thumbnail(series: Series) -> str:
    return reverse("series-thumbnail", args=(series.study_id, series.pk))


def preview(instance: Instance, query: str = "") -> str:
    return reverse("instance-preview", args=(instance.pk,)) + query


def image(answer: object) -> Image.Image:
    return Image.open(BytesIO(answer.content))


def test_thumbnail_and_preview_are_pictures_of_the_object(viewer: Client, slices: list[Instance]) -> None:
    small = viewer.get(thumbnail(slices[0].series))
    assert (small.status_code, small["Content-Type"]) == (200, "image/jpeg")
    assert image(small).size == (128, 128)
    large = viewer.get(preview(slices[0]))
    assert (large.status_code, large["Content-Type"]) == (200, "image/png")
    assert image(large).size == (128, 128)
    assert len(set(image(large).tobytes())) > 50
    assert image(viewer.get(preview(slices[0], "?size=32"))).size == (32, 32)


def test_window_changes_the_picture(viewer: Client, slices: list[Instance]) -> None:
    dark = image(viewer.get(preview(slices[0], "?center=3000&width=100")))
    bright = image(viewer.get(preview(slices[0], "?center=-3000&width=100")))
    assert (max(dark.tobytes()), min(bright.tobytes())) == (0, 255)


@pytest.mark.parametrize(
    "query",
    ["frame=0", "frame=2", "frame=-1", "frame=x", "frame=99999999999", "size=0", "size=15", "size=4097", "size=9e9",
     "center=1", "width=1", "center=1&width=0", "center=1&width=-5", "center=nan&width=1", "center=inf&width=1",
     "center=1e10&width=1", "center=1&width=" + "9" * 30, "center=%00&width=1", "frame=\u0661"],
)  # fmt: skip
def test_values_out_of_bounds_are_refused(viewer: Client, slices: list[Instance], query: str) -> None:
    assert viewer.get(preview(slices[0], f"?{query}")).status_code == 400


@pytest.mark.parametrize(
    ("role", "status"), [("viewer", 200), ("operator", 200), ("administrator", 200), ("integration", 403), ("", 403)]
)
def test_pictures_are_for_staff_roles(client_as, slices: list[Instance], role: str, status: int) -> None:
    series = slices[0].series
    client = client_as(role)
    page = reverse("series", args=(series.study_id, series.pk))
    for path in (thumbnail(series), preview(slices[0]), page, page + "preview/"):
        assert client.get(path).status_code == status, path
        assert client.post(path).status_code == (405 if status == 200 else 403)


def test_strangers_see_no_picture(client_as, slices: list[Instance]) -> None:
    client_as("viewer")
    for path in (thumbnail(slices[0].series), preview(slices[0])):
        assert Client().get(path)["Location"].startswith("/login/")


def test_series_of_another_study_is_not_found(viewer: Client, slices: list[Instance]) -> None:
    other, series = study_make(), slices[0].series
    for name in ("series", "series-preview", "series-thumbnail"):
        assert viewer.get(reverse(name, args=(other.pk, series.pk))).status_code == 404
        assert viewer.get(reverse(name, args=(series.study_id, 10**18))).status_code == 404
    assert viewer.get(reverse("instance-preview", args=(10**30,))).status_code == 404
    elsewhere = series_make(other, instances=1).instances.get()
    page = reverse("series-preview", args=(series.study_id, series.pk))
    assert viewer.get(f"{page}?instance={elsewhere.pk}").status_code == 404


def test_browser_may_keep_a_picture_privately_and_asks_whether_it_changed(
    viewer: Client, slices: list[Instance]
) -> None:
    first = viewer.get(preview(slices[0]))
    assert first["Cache-Control"].startswith("private")
    assert "no-store" not in first["Cache-Control"]
    again = viewer.get(preview(slices[0]), headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = viewer.get(preview(slices[0], "?size=64"), headers={"If-None-Match": first["ETag"]})
    assert other.status_code == 200


def test_second_look_needs_no_rendering(viewer: Client, slices: list[Instance], monkeypatch) -> None:
    first = viewer.get(preview(slices[0])).content
    monkeypatch.setattr(pictures, "_render_pool", lambda: pytest.fail("rendered again"))
    assert viewer.get(preview(slices[0])).content == first


def test_cached_pictures_are_ours_alone_and_named_by_nothing_of_the_patient(
    viewer: Client, slices: list[Instance], tmp_path: Path
) -> None:
    viewer.get(preview(slices[0]))
    kept = [path for path in (tmp_path / "pictures").rglob("*") if path.suffix == ".picture"]
    assert len(kept) == 1
    assert kept[0].stat().st_mode & 0o777 == 0o600
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept[0].parents if tmp_path in path.parents)
    for word in (slices[0].sop_instance_uid, slices[0].key, slices[0].study.patient_id):
        assert word not in str(kept[0])


def placeholder(answer: object) -> str:
    assert answer.status_code == 200
    assert answer["Content-Type"] == "image/svg+xml"
    assert "no-store" in answer["Cache-Control"]
    return answer["X-Gateway-Picture"]


def test_file_that_is_not_what_was_received_is_not_shown(viewer: Client, slices: list[Instance], stored: House) -> None:
    path = stored.store.root / slices[0].path
    raw = bytearray(path.read_bytes())
    raw[-100] ^= 1
    path.write_bytes(raw)
    assert placeholder(viewer.get(preview(slices[0]))) == "picture-file-damaged"


def test_file_that_is_gone_takes_its_pictures_with_it(
    viewer: Client, slices: list[Instance], stored: House, tmp_path: Path
) -> None:
    etag = viewer.get(preview(slices[0]))["ETag"]
    (stored.store.root / slices[0].path).unlink()
    assert placeholder(viewer.get(preview(slices[0]))) == "picture-file-missing"
    assert not list((tmp_path / "pictures").rglob("*.picture"))
    Instance.objects.filter(pk=slices[1].pk).update(file_deleted_at="2026-01-01T00:00Z")
    answer = viewer.get(preview(slices[1]), headers={"If-None-Match": etag})
    assert placeholder(answer) == "picture-file-missing"


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("reportsi.dcm", "picture-none", "A structured report"),
        ("rtplan.dcm", "picture-none", "A radiotherapy plan"),
        ("liver_1frame.dcm", "picture-none", "A segmentation"),
        ("waveform_ecg.dcm", "picture-none", "A waveform"),
    ],
)
def test_objects_without_a_picture_say_what_they_are(viewer: Client, stored: House, name, code, words) -> None:
    found = [path for path in (bundled_root() / name,) if path.exists()]
    if not found:
        from pydicom.data import get_testdata_file

        found = [Path(str(get_testdata_file(name)))]
    instance = stored_make(stored, *found)[0]
    answer = viewer.get(preview(instance))
    assert placeholder(answer) == code
    assert words in answer.content.decode()
    page = viewer.get(reverse("series-preview", args=(instance.study_id, instance.series_id)))
    assert words in page.content.decode()


def test_switched_off_is_said(viewer: Client, slices: list[Instance], monkeypatch) -> None:
    monkeypatch.setenv("GATEWAY_PICTURES__PROCESSES", "0")
    answer = viewer.get(preview(slices[0]))
    assert placeholder(answer) == "picture-off"
    assert "PICTURES.PROCESSES" in answer.content.decode()


def test_too_many_at_once_are_asked_to_come_again(viewer: Client, slices: list[Instance], monkeypatch) -> None:
    class Full:
        def render(self, *_args: object) -> None:
            raise pictures.RenderError("picture-busy")

    monkeypatch.setattr(pictures, "_render_pool", Full)
    answer = viewer.get(preview(slices[0]))
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    monkeypatch.undo()


def test_looking_is_audited_once_for_each_person_study_and_hour(client_as, slices: list[Instance]) -> None:
    first, second = client_as("viewer"), client_as("viewer")
    for client in (first, first, second):
        for instance in slices:
            client.get(preview(instance, "?size=64"))
    events = AuditEvent.objects.filter(event=AuditEventType.INSTANCES_ACCESSED)
    assert sorted(events.values_list("subject", flat=True)) == [f"study:{slices[0].study_id}"] * 2
    assert len(set(events.values_list("actor", flat=True))) == 2


def test_series_page_lists_its_objects_by_number_a_page_at_a_time(
    viewer: Client, slices: list[Instance], django_assert_max_num_queries
) -> None:
    series = slices[0].series
    address = reverse("series", args=(series.study_id, series.pk))
    with django_assert_max_num_queries(12):
        html = viewer.get(address).content.decode()
    places = [html.index(preview(instance)) for instance in slices]
    assert places == sorted(places)
    assert html.count('loading="lazy"') == 5
    assert "1 to 5 of 5 objects" in html
    assert "Nothing on this page" in viewer.get(f"{address}?page=2").content.decode()
    for page in ("0", "x", "-1", "9" * 12):
        assert viewer.get(f"{address}?page={page}").status_code == 400


def test_preview_leads_to_its_neighbours_and_keeps_the_window(
    viewer: Client, slices: list[Instance], django_assert_max_num_queries
) -> None:
    series = slices[0].series
    address = reverse("series-preview", args=(series.study_id, series.pk))
    with django_assert_max_num_queries(14):
        html = viewer.get(f"{address}?instance={slices[1].pk}&center=40&width=400").content.decode()
    for neighbour in (slices[0], slices[2]):
        assert f"?instance={neighbour.pk}&amp;center=40&amp;width=400" in html
    assert f"?instance={slices[3].pk}&" not in html
    assert 'aria-current="true">Soft tissue' in html
    first = viewer.get(f"{address}?instance={slices[0].pk}").content.decode()
    assert 'id="before" aria-disabled="true"' in first


def test_markup_in_a_description_is_text(viewer: Client, slices: list[Instance]) -> None:
    evil = "<script>alert(1)</script>"
    Series.objects.update(series_description=evil, manufacturer=evil)
    Instance.objects.update(flags=evil)
    series = slices[0].series
    address = reverse("series", args=(series.study_id, series.pk))
    for path in (address, address + "preview/"):
        html = viewer.get(path).content.decode()
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert" in html
