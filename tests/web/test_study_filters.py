"""Filters of the list: in the address, combined, and made of nothing that a stranger could choose."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from gateway_project.wiring import study_filters
from studies.models import StudyState
from tests.web.factories import revision_make, series_make, study_make, upload_make, vault_make

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def values_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for known in (study_filters._SOURCES, study_filters._MODALITIES):
        monkeypatch.setattr(known, "_until", 0.0)
    monkeypatch.setattr(study_filters, "KEPT_SECONDS", 0.0)


def rows(client, query: str) -> set[int]:
    answer = client.get(f"/studies/?{query}")
    assert answer.status_code == 200
    return {int(part.split('"')[0]) for part in answer.content.decode().split('data-row="')[1:]}


def test_each_filter_and_all_together(viewer) -> None:
    vault, other = vault_make("nord"), vault_make("sued")
    wanted = study_make(source_ae_title="CT_1", modalities="CT\\SR", state=StudyState.UPLOADED)
    series_make(wanted)
    upload_make(revision_make(wanted), vault)
    others = [
        study_make(source_ae_title="MR_1", modalities="MR", state=StudyState.UPLOADED),
        study_make(source_ae_title="CT_1", modalities="PCT", received_at=now() - timedelta(days=40)),
    ]
    series_make(others[0])
    upload_make(revision_make(others[0]), other)
    assert rows(viewer, "source=CT_1") == {wanted.pk, others[1].pk}
    assert rows(viewer, "modality=CT") == {wanted.pk} == rows(viewer, "modality=SR")
    assert rows(viewer, f"vault={vault.pk}") == {wanted.pk}
    assert rows(viewer, "received=30d") == {wanted.pk, others[0].pk}
    whole = f"state=uploaded&source=CT_1&modality=CT&received=7d&vault={vault.pk}"
    assert rows(viewer, whole) == {wanted.pk}
    assert rows(viewer, whole.replace("CT_1", "MR_1")) == set()


def test_days_begin_at_midnight_here(viewer) -> None:
    midnight = study_filters.localtime(now()).replace(hour=0, minute=0, second=0, microsecond=0)
    today = study_make(received_at=midnight)
    yesterday = study_make(received_at=midnight - timedelta(seconds=1))
    study_make(received_at=midnight - timedelta(days=1, seconds=1))
    assert rows(viewer, "received=today") == {today.pk}
    assert rows(viewer, "received=yesterday") == {yesterday.pk}


@pytest.mark.parametrize(
    "query", ["source=NOBODY", "modality=XX", "modality=%25", "received=always", "vault=9999", "vault=x", "state=odd"]
)
def test_values_that_are_not_there_are_refused(viewer, query: str) -> None:
    study_make()
    assert viewer.get(f"/studies/?{query}").status_code == 400
    assert viewer.post(f"/studies/?{query}", {"query": "x"}).status_code == 400


def test_filters_stay_when_something_is_searched_and_when_pages_are_turned(viewer) -> None:
    for _ in range(51):
        study_make(source_ae_title="CT_1", patient_name="Viele^Anna")
    assert viewer.post("/studies/?source=CT_1", {"query": "viele"})["Location"] == "/studies/?source=CT_1"
    html = viewer.get("/studies/?source=CT_1").content.decode()
    assert "?source=CT_1&amp;before=" in html
    assert 'data-live="/studies/live/?source=CT_1"' in html
    assert "a name with “viele”" in html


def test_menus_offer_what_is_there_and_say_what_is_chosen(viewer) -> None:
    study_make(source_ae_title="CT_1", modalities="CT")
    html = viewer.get("/studies/?source=CT_1").content.decode()
    assert "Source: <b>CT_1</b>" in html
    assert 'href="/studies/?source=CT_1&amp;modality=CT"' in html
    assert "Clear all filters" in html
    assert "<summary>Vault" not in html


def test_source_that_is_markup_is_text(viewer) -> None:
    study_make(source_ae_title="<b>AE</b>")
    html = viewer.get("/studies/").content.decode()
    assert "<b>AE" not in html
    assert "source=%3Cb%3EAE" in html
