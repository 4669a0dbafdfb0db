"""Compressed pages: for who asks, with all their headers, and with nothing in them that a stranger chose."""

import gzip
import io
from pathlib import Path

import pytest
from django.test import Client

from studies.models import Study, StudyState
from tests.web.factories import day_make, series_make, study_make, uploaded_study_make
from uploads.custody import CustodyReader
from uploads.services.identity import identity_jwk

pytestmark = pytest.mark.django_db
PAGES = ["/", "/now/live/", "/studies/", "/studies/live/", "/studies/{}/", "/studies/{}/live/", "/studies/{}/custody/"]
STUCK = dict.fromkeys(["/", "/now/live/"], b"Nakamura")  # these pages name what needs a hand alone
ASKED = {"Accept-Encoding": "gzip, deflate, br"}
KEPT = [
    "Cache-Control",
    "Content-Security-Policy",
    "Content-Type",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "Referrer-Policy",
    "Cross-Origin-Opener-Policy",
]


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, settings) -> None:
    settings.DATA_DIR = tmp_path


@pytest.fixture
def study(vault) -> Study:
    day_make(vault)
    return uploaded_study_make(vault, patient_name="Lindqvist^Maja")


@pytest.mark.parametrize("path", PAGES)
def test_page_is_compressed_for_who_asks_and_keeps_its_headers(operator: Client, study: Study, path: str) -> None:
    address = path.format(study.pk)
    plain, packed = operator.get(address), operator.get(address, headers=ASKED)
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert STUCK.get(path, b"Lindqvist") in gzip.decompress(packed.content)
    assert len(packed.content) < len(plain.content) / 2
    assert {name: packed.headers[name] for name in KEPT} == {name: plain.headers[name] for name in KEPT}
    assert packed.headers["Cache-Control"] == "private, no-store"
    assert "default-src 'self'" in packed.headers["Content-Security-Policy"]
    assert {"Accept-Encoding", "Cookie"} <= set(packed.headers["Vary"].split(", "))
    assert "X-Correlation-ID" in packed.headers


def test_length_of_a_page_says_little(operator: Client, study: Study) -> None:
    """Heal the BREACH: the same page has another length each time; its form tokens are masked anew besides."""
    lengths = {len(operator.get(f"/studies/{study.pk}/live/", headers=ASKED).content) for _ in range(20)}
    assert len(lengths) > 5


def test_list_holds_nothing_of_an_address_but_what_it_understood(viewer: Client, study: Study) -> None:
    """What a stranger may put beside patients' data in a compressed page measures that data."""
    address = "/studies/?state=uploaded&guess=MARKguess&MARKname=1&before=&after="
    answer = viewer.get(address)
    assert answer.status_code == 200
    assert "MARK" not in answer.content.decode()
    assert 'data-live="/studies/live/?state=uploaded"' in answer.content.decode()
    assert viewer.get("/studies/?state=MARKguess").status_code == 400


def test_live_part_is_asked_for_at_the_same_place_of_the_list(viewer: Client, study: Study) -> None:
    answer = viewer.get("/studies/?before=1795000000000000-99")
    assert 'data-live="/studies/live/?before=1795000000000000-99"' in answer.content.decode()


def test_custody_document_is_compressed_on_its_way_and_verifies(operator: Client) -> None:
    study = study_make(state=StudyState.UPLOADED)
    series_make(study, instances=300)
    answer = operator.post(f"/studies/{study.pk}/custody/export/", headers=ASKED)
    packed = b"".join(answer.streaming_content)
    document = gzip.decompress(packed)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert len(packed) < len(document) / 4
    assert CustodyReader(io.BytesIO(document)).verify(identity_jwk()).counts["instance"] == 300


@pytest.mark.parametrize("path", ["/health", "/version", "/login/", "/admin/", "/admin/studies/study/"])
def test_other_answers_are_left_as_they_are(administrator: Client, study: Study, path: str) -> None:
    """Small ones, and the admin's, which repeat what was searched for."""
    answer = administrator.get(path, headers=ASKED)
    assert "Content-Encoding" not in answer.headers
    assert answer.content[:2] != b"\x1f\x8b"


def test_problems_are_readable_whatever_was_asked(viewer: Client) -> None:
    answer = viewer.get("/studies/?state=nowhere", headers=ASKED)
    assert answer.status_code == 400
    assert "Content-Encoding" not in answer.headers
    assert b"<html" in answer.content
