"""The vault's HTTP interface, version 1, as docs/vault-api.md says it; runs against any vault (see conftest)."""

import dataclasses
import hashlib
import http.client
import io
import socket
import threading
from urllib.parse import urlsplit

import pytest
import requests

from tests.contract.conftest import VaultUnderTest
from tests.contract.wire import call, commit, digest, names, problem, put, put_all
from tests.uploads.sealed_upload import SealedUpload
from uploads.envelope.keys import key_from_jwk, key_generate, thumbprint
from uploads.envelope.receipt import commitment_sign, receipt_verify


def test_description_names_vault_and_receipt_key(vault: VaultUnderTest) -> None:
    response = call(vault, "GET", "/v1/")
    assert response.status_code == 200
    assert response.headers["Content-Type"].partition(";")[0] == "application/json"
    document = response.json()
    assert document["version"] == 1
    assert isinstance(document["demonstration"], bool)
    assert document["vault_id"]
    key_from_jwk(document["receipt_jwk"])


@pytest.mark.parametrize("path", ["/v1/keys/x", "/v1/uploads/" + "0" * 32, "/v1/nowhere"])
def test_nothing_but_the_description_without_a_token(vault: VaultUnderTest, path: str) -> None:
    problem(call(vault, "GET", path, token=None), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/v1/", "/v1/keys/x", "/v1/uploads/" + "0" * 32])
@pytest.mark.parametrize("header", ["Bearer wrong-token-of-nobody", "Basic dXNlcjpwYXNz", "Bearer", "Bearer \u00e4"])
def test_a_wrong_token_is_refused_everywhere(vault: VaultUnderTest, path: str, header: str) -> None:
    response = call(vault, "GET", path, token=None, headers={"Authorization": header})
    problem(response, 401, "unauthorized")
    assert "bearer" in response.headers["WWW-Authenticate"].lower()


def test_put_without_a_right_token_stores_nothing(vault: VaultUnderTest, upload_id: str) -> None:
    response = put(vault, upload_id, "file-00001.gve", b"x" * 100_000, token="wrong-token-of-nobody")
    problem(response, 401)
    assert names(vault, upload_id) == []


def test_keys_by_id(vault: VaultUnderTest) -> None:
    response = call(vault, "GET", f"/v1/keys/{vault.recipient_kid}")
    assert response.status_code == 200
    assert response.headers["Content-Type"].partition(";")[0] == "application/jwk+json"
    assert thumbprint(response.json()) == vault.recipient_kid
    assert "d" not in response.json()
    problem(call(vault, "GET", f"/v1/keys/{'x' * 43}"), 404, "key-unknown")
    problem(call(vault, "GET", "/v1/keys/..%2fvault"), 404)


def test_put_is_created_then_known_then_in_conflict(vault: VaultUnderTest, upload_id: str) -> None:
    expected = {"name": "file-00001.gve", "size_bytes": 3, "sha256": hashlib.sha256(b"one").hexdigest()}
    for status in (201, 200):
        response = put(vault, upload_id, "file-00001.gve", b"one")
        assert response.status_code == status
        assert response.json() == expected
    problem(put(vault, upload_id, "file-00001.gve", b"two"), 409, "content-conflict")
    assert call(vault, "GET", f"/v1/uploads/{upload_id}").json() == {
        "upload_id": upload_id,
        "files": [expected],
        "receipt": None,
    }


def test_unknown_upload_is_empty(vault: VaultUnderTest, upload_id: str) -> None:
    response = call(vault, "GET", f"/v1/uploads/{upload_id}")
    assert response.status_code == 200
    assert response.json() == {"upload_id": upload_id, "files": [], "receipt": None}


def test_body_with_another_digest_is_not_stored(vault: VaultUnderTest, upload_id: str) -> None:
    path = f"/v1/uploads/{upload_id}/file-00001.gve"
    problem(call(vault, "PUT", path, body=b"one", headers=digest(b"two")), 400, "digest-mismatch")
    assert names(vault, upload_id) == []


@pytest.mark.parametrize("digest", ["", "sha-256=:AAAA:", "md5=:AAAA:", "sha-256=abc", "sha-256=::", "\u00e4"])
def test_missing_or_malformed_digest(vault: VaultUnderTest, upload_id: str, digest: str) -> None:
    path = f"/v1/uploads/{upload_id}/file-00001.gve"
    problem(call(vault, "PUT", path, body=b"one", headers={"Content-Digest": digest}), 400, "digest-missing")


def test_digest_among_others(vault: VaultUnderTest, upload_id: str) -> None:
    both = f"sha-512=:AAAA:, {digest(b'one')['Content-Digest']}"
    path = f"/v1/uploads/{upload_id}/file-00001.gve"
    assert call(vault, "PUT", path, body=b"one", headers={"Content-Digest": both}).status_code == 201


def test_chunked_body_needs_a_length(vault: VaultUnderTest, upload_id: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        response = session.put(
            f"{vault.url}/v1/uploads/{upload_id}/file-00001.gve",
            data=iter([b"one"]),
            headers={"Authorization": f"Bearer {vault.token}", **digest(b"one")},
            timeout=30,
        )
    problem(response, 411, "length-required")


def test_empty_file_is_refused(vault: VaultUnderTest, upload_id: str) -> None:
    problem(put(vault, upload_id, "file-00001.gve", b""), 400, "size-invalid")


@pytest.mark.parametrize("name", ["A.gve", "-a", ".a", "..%2f..%2fx", "a%00", "a%20b", "a" * 81, "%C3%A4", "a%0a"])
def test_names_outside_of_the_alphabet(vault: VaultUnderTest, upload_id: str, name: str) -> None:
    response = put(vault, upload_id, name, b"x")
    assert response.status_code in (400, 404)
    problem(response, response.status_code)
    assert names(vault, upload_id) == []


@pytest.mark.parametrize("bad", ["0" * 31, "G" * 32, "ABCDEF" + "0" * 26, "%2e%2e"])
def test_upload_ids_outside_of_the_alphabet(vault: VaultUnderTest, bad: str) -> None:
    for response in (put(vault, bad, "a", b"x"), call(vault, "GET", f"/v1/uploads/{bad}")):
        assert response.status_code in (400, 404)
        problem(response, response.status_code)


def _raw(vault: VaultUnderTest) -> http.client.HTTPConnection:
    parts = urlsplit(vault.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=30)


def _headers_only(vault: VaultUnderTest, path: str, length: int, content: bytes) -> http.client.HTTPConnection:
    connection = _raw(vault)
    connection.putrequest("PUT", path)
    for name, value in {
        "Authorization": f"Bearer {vault.token}",
        "Content-Length": str(length),
        **digest(content),
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection


def test_too_large_is_refused_by_its_header(vault: VaultUnderTest, upload_id: str) -> None:
    connection = _headers_only(vault, f"/v1/uploads/{upload_id}/file-00001.gve", 2**50 - 1, b"")
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"too-large" in answer.read()
    connection.close()


def test_c06_body_cut_at_byte_n_stores_nothing_and_may_be_repeated(vault: VaultUnderTest, upload_id: str) -> None:
    content = b"z" * 300_000
    for sent in (0, 1, 299_999):
        connection = _headers_only(vault, f"/v1/uploads/{upload_id}/file-00001.gve", len(content), content)
        connection.send(content[:sent])
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_WR)
            connection.sock.recv(65536)  # whatever is answered, it is over then
        connection.close()
        assert names(vault, upload_id) == []
    assert put(vault, upload_id, "file-00001.gve", content).status_code == 201


def test_other_methods_and_paths(vault: VaultUnderTest, upload_id: str) -> None:
    response = call(vault, "DELETE", f"/v1/uploads/{upload_id}")
    problem(response, 405, "method-not-allowed")
    assert "GET" in response.headers["Allow"]
    problem(call(vault, "GET", "/v1/nowhere"), 404, "not-found")


def test_upload_of_another_gateway_is_forbidden(vault: VaultUnderTest, upload_id: str) -> None:
    if vault.other_token is None:
        pytest.skip("VAULT_OTHER_TOKEN is not given")
    assert put(vault, upload_id, "file-00001.gve", b"one").status_code == 201
    problem(put(vault, upload_id, "file-00002.gve", b"two", token=vault.other_token), 403, "foreign-upload")
    problem(call(vault, "GET", f"/v1/uploads/{upload_id}", token=vault.other_token), 403, "foreign-upload")


def test_commit_answers_a_verifiable_receipt_and_repeats_it(vault: VaultUnderTest, upload: SealedUpload) -> None:
    put_all(vault, upload)
    response = commit(vault, upload)
    assert response.status_code == 200
    assert response.headers["Content-Type"].partition(";")[0] == "application/jose"
    description = vault.client.describe()
    receipt = receipt_verify(
        response.text.strip(), description.receipt_jwk, commitment_token=upload.token, commitment=upload.commitment
    )
    assert receipt.demonstration is description.demonstration
    assert commit(vault, upload).text == response.text
    assert call(vault, "GET", f"/v1/uploads/{upload.upload_id}").json()["receipt"] == response.text.strip()


def test_c19_committed_upload_takes_no_other_map_and_no_more_files(vault: VaultUnderTest, upload: SealedUpload) -> None:
    put_all(vault, upload)
    assert commit(vault, upload).status_code == 200
    other = dataclasses.replace(upload.commitment, map_sha256="0" * 64)
    problem(commit(vault, upload, commitment_sign(other, identity=vault.identity)), 409, "upload-committed")
    problem(put(vault, upload.upload_id, "file-00009.gve", b"late"), 409, "upload-sealed")
    assert put(vault, upload.upload_id, "map.jwe", upload.files["map.jwe"]).status_code == 200


def test_commit_needs_every_listed_file_exactly(vault: VaultUnderTest, upload: SealedUpload) -> None:
    for name, content in upload.files.items():
        if name != "file-00002.gve":
            assert put(vault, upload.upload_id, name, content).status_code == 201
    problem(commit(vault, upload), 409, "file-missing")
    assert call(vault, "GET", f"/v1/uploads/{upload.upload_id}").json()["receipt"] is None
    assert put(vault, upload.upload_id, "file-00002.gve", upload.files["file-00002.gve"]).status_code == 201
    assert commit(vault, upload).status_code == 200


def test_commit_needs_the_maps_own_hash(vault: VaultUnderTest, upload: SealedUpload) -> None:
    put_all(vault, upload)
    other = dataclasses.replace(upload.commitment, map_sha256="0" * 64)
    problem(commit(vault, upload, commitment_sign(other, identity=vault.identity)), 409, "commitment-mismatch")


@pytest.mark.parametrize("field", ["upload_id", "gateway_id", "vault_id"])
def test_commitment_for_another_party_is_refused(vault: VaultUnderTest, upload: SealedUpload, field: str) -> None:
    put_all(vault, upload)
    other = dataclasses.replace(upload.commitment, **{field: "f" * 32})  # type: ignore[arg-type]
    problem(commit(vault, upload, commitment_sign(other, identity=vault.identity)), 409, "commitment-mismatch")


def test_commitment_must_be_signed_by_the_registered_identity(vault: VaultUnderTest, upload: SealedUpload) -> None:
    put_all(vault, upload)
    forged = commitment_sign(upload.commitment, identity=key_generate())
    for token in (forged, upload.token[:-4] + "AAAA", "a.b.c", "{}"):
        problem(commit(vault, upload, token), 400, "commitment-invalid")


def test_many_at_once(vault: VaultUnderTest, upload_id: str) -> None:
    statuses: list[int] = []

    def put_one(number: int) -> None:
        statuses.append(put(vault, upload_id, f"file-{number:05}.gve", b"%d" % number * 50_000).status_code)

    threads = [threading.Thread(target=put_one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * 20
    assert len(names(vault, upload_id)) == 20


def test_our_own_client_goes_the_whole_way(vault: VaultUnderTest, upload: SealedUpload) -> None:
    client = vault.client
    description = client.describe()
    assert thumbprint({**client.recipient_key(vault.recipient_kid)}) == vault.recipient_kid
    wanted = {file.name: file for file in upload.commitment.files}
    for name, content in upload.files.items():
        for _ in range(2):
            client.put(
                upload.upload_id,
                name,
                io.BytesIO(content),
                size_bytes=wanted[name].size_bytes,
                sha256=wanted[name].sha256,
            )
    assert client.upload_state(upload.upload_id).files == wanted
    receipt = client.commit(upload.upload_id, upload.token)
    receipt_verify(receipt, description.receipt_jwk, commitment_token=upload.token, commitment=upload.commitment)
    assert client.upload_state(upload.upload_id).receipt == receipt
