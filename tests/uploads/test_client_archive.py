"""What the client believes of a vault that is asked about its archive."""

import json

import pytest

from tests.uploads.scripted_server import answer, scripted
from uploads.client import VaultClient
from uploads.ports import UploadPage, VaultError, VerifyPage

UPLOAD, LATER = "0" * 31 + "1", "0" * 31 + "2"
CHECKED = {"upload_id": UPLOAD, "file_count": 3, "checked": 2, "checked_bytes": 20, "damaged": ["map.jwe"], "next": "b"}


def _client(url: str) -> VaultClient:
    return VaultClient(url, token="very-secret-token", timeout_seconds=5, connect_seconds=5)


def test_a_verified_page_and_where_the_next_begins() -> None:
    with scripted(answer(200, json.dumps(CHECKED))) as server:
        assert _client(server.url).verify(UPLOAD, after="a") == VerifyPage(3, 2, ("map.jwe",), "b")
        assert server.requests[0].line.startswith(f"POST /v1/uploads/{UPLOAD}/verify?after=a ")


def test_a_page_of_uploads() -> None:
    document = {"uploads": [{"upload_id": LATER, "committed": True, "more": 1}], "next": None}
    with scripted(answer(200, json.dumps(document))) as server:
        assert _client(server.url).uploads_page(after=UPLOAD) == UploadPage(((LATER, True),), None)
        assert server.requests[0].line.startswith(f"GET /v1/uploads?after={UPLOAD} ")


@pytest.mark.parametrize(
    "change",
    [{"upload_id": LATER}, {"damaged": ["../x"]}, {"damaged": [1]}, {"next": "a"}, {"next": 1}, {"checked": "2"}],
)
def test_c05_a_page_that_contradicts_itself_or_leads_in_a_circle_is_no_answer(change: dict[str, object]) -> None:
    with scripted(answer(200, json.dumps({**CHECKED, **change}))) as server:
        with pytest.raises(VaultError) as caught:
            _client(server.url).verify(UPLOAD, after="a")
        assert (caught.value.code, caught.value.lane_fault) == ("unexpected-answer", True)


@pytest.mark.parametrize("entry", [1, {"upload_id": "x", "committed": True}, {"upload_id": LATER, "committed": 1}])
def test_c05_an_upload_that_is_none_is_no_answer(entry: object) -> None:
    with scripted(answer(200, json.dumps({"uploads": [entry], "next": None}))) as server:
        with pytest.raises(VaultError) as caught:
            _client(server.url).uploads_page()
        assert caught.value.code == "unexpected-answer"


@pytest.mark.parametrize("after", ["A", "a/b", "..", "a&b"])
def test_nothing_else_ever_stands_in_the_address(after: str) -> None:
    with pytest.raises(VaultError) as caught:
        _client("http://127.0.0.1:1").verify(UPLOAD, after=after)
    assert caught.value.code == "argument-invalid"
