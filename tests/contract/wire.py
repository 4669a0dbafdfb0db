"""How the wire tests speak: plain requests, so that no client of ours can hide what a vault answers."""

import base64
import hashlib

import requests

from tests.contract.conftest import VaultUnderTest
from tests.uploads.sealed_upload import SealedUpload


def call(
    vault: VaultUnderTest,
    method: str,
    path: str,
    *,
    token: str | None = "",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> requests.Response:
    sent = dict(headers or {})
    if token is not None:
        sent["Authorization"] = f"Bearer {token or vault.token}"
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, vault.url + path, data=body, headers=sent, timeout=30, allow_redirects=False)


def digest(content: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"}


def put(vault: VaultUnderTest, upload_id: str, name: str, content: bytes, *, token: str = "") -> requests.Response:
    return call(vault, "PUT", f"/v1/uploads/{upload_id}/{name}", token=token, body=content, headers=digest(content))


def problem(response: requests.Response, status: int, code: str | None = None) -> None:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"].partition(";")[0] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert isinstance(problem["code"], str)
    if code is not None:
        assert problem["code"] == code


def names(vault: VaultUnderTest, upload_id: str) -> list[str]:
    return [file["name"] for file in call(vault, "GET", f"/v1/uploads/{upload_id}").json()["files"]]


def put_all(vault: VaultUnderTest, upload: SealedUpload) -> None:
    for name, content in upload.files.items():
        assert put(vault, upload.upload_id, name, content).status_code == 201


def commit(vault: VaultUnderTest, upload: SealedUpload, token: str | None = None) -> requests.Response:
    body = (token or upload.token).encode()
    return call(vault, "POST", f"/v1/uploads/{upload.upload_id}/commit", body=body)
