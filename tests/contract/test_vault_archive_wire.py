"""The archive over HTTP, as docs/vault-api.md says it: listed, read again on demand, and full at some time."""

import secrets

import pytest

from tests.contract.conftest import VaultUnderTest
from tests.contract.wire import call, commit, names, problem, put, put_all
from tests.uploads.sealed_upload import SealedUpload


def _listed(vault: VaultUnderTest, *, limit: int = 2, token: str = "") -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    after: str | None = ""
    while after is not None:
        query = f"?limit={limit}" + (f"&after={after}" if after else "")
        response = call(vault, "GET", f"/v1/uploads{query}", token=token)
        assert response.status_code == 200
        assert response.headers["Content-Type"].partition(";")[0] == "application/json"
        page = response.json()
        ids = [each["upload_id"] for each in page["uploads"]]
        assert len(ids) <= limit
        assert ids == sorted(ids)
        assert all(each > after for each in ids)
        assert not set(ids) & set(found)
        found |= {each["upload_id"]: each for each in page["uploads"]}
        assert page["next"] is None or page["next"] > after
        after = page["next"]
    return found


def test_uploads_are_listed_once_in_order_for_their_gateway_alone(vault: VaultUnderTest, upload: SealedUpload) -> None:
    put_all(vault, upload)
    begun = [secrets.token_hex(16) for _ in range(5)]
    for upload_id in begun:
        assert put(vault, upload_id, "file-00001.gve", b"one").status_code == 201
    found = _listed(vault)
    assert set(begun) <= set(found)
    assert found[upload.upload_id]["committed"] is False
    assert commit(vault, upload).status_code == 200
    after = _listed(vault, limit=1000)[upload.upload_id]
    assert after["committed"] is True
    assert after["file_count"] == len(upload.files)
    assert after["size_bytes"] == sum(map(len, upload.files.values()))
    assert isinstance(after["stored_at"], str)
    assert after["removed_at"] is None
    if vault.other_token is not None:
        assert upload.upload_id not in _listed(vault, limit=1000, token=vault.other_token)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=-1", "after=..%2f", "after=A"])
def test_pages_that_cannot_be(vault: VaultUnderTest, query: str) -> None:
    problem(call(vault, "GET", f"/v1/uploads?{query}"), 400, "page-invalid")


def test_nothing_of_the_archive_without_a_token(vault: VaultUnderTest) -> None:
    problem(call(vault, "GET", "/v1/uploads", token=None), 401, "unauthorized")
    problem(call(vault, "POST", f"/v1/uploads/{'0' * 32}/verify", token=None, body=b""), 401, "unauthorized")


def test_c25_a_committed_upload_is_read_again_to_its_end(vault: VaultUnderTest, upload: SealedUpload) -> None:
    put_all(vault, upload)
    path = f"/v1/uploads/{upload.upload_id}/verify"
    problem(call(vault, "POST", path, body=b""), 409, "not-committed")
    assert commit(vault, upload).status_code == 200
    checked, after = 0, ""
    while True:
        response = call(vault, "POST", path + (f"?after={after}" if after else ""), body=b"")
        assert response.status_code == 200, response.text
        page = response.json()
        assert (page["upload_id"], page["file_count"], page["damaged"]) == (upload.upload_id, len(upload.files), [])
        assert page["checked"] > 0
        checked += page["checked"]
        if page["next"] is None:
            break
        assert page["next"] > after
        after = page["next"]
    assert checked == len(upload.files)
    last = max(upload.files)
    rest = call(vault, "POST", f"{path}?after={last}", body=b"").json()
    assert (rest["checked"], rest["next"]) == (0, None)
    problem(call(vault, "POST", f"{path}?after=..%2fx", body=b""), 400, "page-invalid")
    problem(call(vault, "GET", f"{path}"), 405, "method-not-allowed")


def test_verifying_is_for_the_owner(vault: VaultUnderTest, upload: SealedUpload) -> None:
    if vault.other_token is None:
        pytest.skip("VAULT_OTHER_TOKEN is not given")
    put_all(vault, upload)
    path = f"/v1/uploads/{upload.upload_id}/verify"
    problem(call(vault, "POST", path, token=vault.other_token, body=b""), 403, "foreign-upload")


def test_our_own_client_lists_and_verifies(vault: VaultUnderTest, upload: SealedUpload) -> None:
    put_all(vault, upload)
    assert commit(vault, upload).status_code == 200
    page = vault.client.verify(upload.upload_id)
    assert (page.file_count, page.damaged) == (len(upload.files), ())
    found: list[tuple[str, bool]] = []
    after: str | None = ""
    while after is not None:
        uploads = vault.client.uploads_page(after=after)
        found += uploads.uploads
        after = uploads.next_after
    assert (upload.upload_id, True) in found


def test_a_full_vault_says_so_keeps_what_it_has_and_stores_nothing_of_the_rest(
    vault: VaultUnderTest, upload_id: str
) -> None:
    if vault.full_token is None:
        pytest.skip("VAULT_FULL_TOKEN is not given")
    large = secrets.token_bytes(1_000_000)
    problem(put(vault, upload_id, "file-00002.gve", large, token=vault.full_token), 507, "store-full")
    assert put(vault, upload_id, "file-00001.gve", b"one", token=vault.full_token).status_code in (200, 201)
    problem(put(vault, upload_id, "file-00002.gve", large, token=vault.full_token), 507, "store-full")
    files = call(vault, "GET", f"/v1/uploads/{upload_id}", token=vault.full_token).json()["files"]
    assert [file["name"] for file in files] == ["file-00001.gve"]
    assert names(vault, secrets.token_hex(16)) == []


@pytest.mark.parametrize("accepted", ["identity", "", "*;q=0, identity", "gzip;q=0"])
def test_nothing_is_compressed_for_who_does_not_ask(vault: VaultUnderTest, upload_id: str, accepted: str) -> None:
    _put_many(vault, upload_id)
    response = call(vault, "GET", f"/v1/uploads/{upload_id}", headers={"Accept-Encoding": accepted})
    assert response.headers.get("Content-Encoding", "identity") == "identity"
    assert len(response.json()["files"]) == 20


def test_asked_for_gzip_a_vault_answers_gzip_or_plain_and_the_same(vault: VaultUnderTest, upload_id: str) -> None:
    """Whether it compresses is the vault's to say: this one sees that it is gzip, and no other answer."""
    _put_many(vault, upload_id)
    plain, asked = (
        call(vault, "GET", f"/v1/uploads/{upload_id}", headers={"Accept-Encoding": accepted})
        for accepted in ("identity", "gzip")
    )
    assert asked.status_code == 200
    assert asked.headers["Content-Type"] == plain.headers["Content-Type"]
    assert asked.headers.get("Content-Encoding", "identity") in ("identity", "gzip")
    assert asked.json() == plain.json()
    assert sorted(vault.client.upload_state(upload_id).files) == [file["name"] for file in plain.json()["files"]]


def _put_many(vault: VaultUnderTest, upload_id: str) -> None:
    for number in range(20):
        assert put(vault, upload_id, f"file-{number:05}.gve", b"%d" % number).status_code == 201
