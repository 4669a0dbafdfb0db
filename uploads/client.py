"""The HTTP client of a vault (docs/vault-api.md): every answer bounded, every failure one `VaultError`.

Never logs, raises or shows the token, and never follows a redirect, so the token goes to the configured address only.
"""

import base64
import binascii
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, TypeVar

import requests
from requests.auth import AuthBase

from uploads.envelope.receipt import StoredFile
from uploads.ports import UploadPage, UploadState, VaultDescription, VaultError, VerifyPage
from uploads.transport import answer_read, answer_unexpected, refusal_translate
from uploads.ways import Way, session_open, way_open

API_VERSION = 1
BLOCK_BYTES = 256 * 1024
SLOWEST_BYTES_PER_SECOND = 8 * 1024.0
"""A vault that takes less over a whole file is at fault; what a slow line still carries."""
SMALL_ANSWER_BYTES = 64 * 1024
LARGE_ANSWER_BYTES = 64 * 1024 * 1024  # the state of an upload of 100,000 files is about 14 MB

_T = TypeVar("_T")
_NO_HEADERS: Mapping[str, str] = {}
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,79}")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_JWS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class VaultClient:
    """An `ArchivePort` over HTTP. One client may be shared by the threads of one process.

    `timeout_seconds` is the longest silence while sending, and the longest wait from the last byte sent to the last
    byte of the answer; sending a body may take that and what it takes at `slowest_bytes_per_second`; it goes in blocks
    of `block_bytes`. `connect_seconds` bounds connecting. `ca` is what alone is trusted (PEM text, or the path of a PEM
    file), empty for the well-known authorities. Plain http is for loopback: anywhere else it would show the token to
    the network, so it raises `insecure-address`. `proxy` is an address, with name and password if need be; without it
    proxies come from the environment, and none is used for loopback.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None,
        timeout_seconds: float = 300,
        connect_seconds: float = 10,
        slowest_bytes_per_second: float = SLOWEST_BYTES_PER_SECOND,
        block_bytes: int = BLOCK_BYTES,
        ca: str = "",
        proxy: str | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout = (connect_seconds, timeout_seconds)
        self._slowest = slowest_bytes_per_second
        self._block_bytes = block_bytes
        self._session = session_open(
            base_url,
            auth=_Bearer(token),
            headers={"Accept-Encoding": "gzip", "User-Agent": f"gateway-vault-client/{API_VERSION}"},
            timeout_seconds=timeout_seconds,
            ca=ca,
            proxy=proxy,
        )
        self._way: Way | None = None

    def __repr__(self) -> str:
        return f"VaultClient({self._base_url!r})"

    def close(self) -> None:
        """Closes the kept connections; the client may be used again afterwards."""
        self._session.close()
        self._way = None

    def describe(self) -> VaultDescription:
        """Answers the vault's description; raises `version-unsupported` for an interface we do not speak."""
        document = self._get_json("/v1/", "application/json", SMALL_ANSWER_BYTES)
        version = _member(document, "version", int)
        if version != API_VERSION:
            raise VaultError(
                "version-unsupported", "The vault speaks another version of the interface.", lane_fault=True
            )
        return VaultDescription(
            vault_id=_member(document, "vault_id", str),
            receipt_jwk=_jwk(_member(document, "receipt_jwk", dict)),
            version=version,
            demonstration=_member(document, "demonstration", bool),
        )

    def recipient_key(self, key_id: str) -> dict[str, str]:
        """Answers the public JWK published under this id, unpinned. 404 is `key-unknown`, a fault of the lane."""
        _check(_KEY_ID, key_id, "recipient key id")
        return _jwk(
            self._get_json(
                f"/v1/keys/{key_id}",
                "application/jwk+json",
                SMALL_ANSWER_BYTES,
                not_found=("key-unknown", _KEY_UNKNOWN),
            )
        )

    def upload_state(self, upload_id: str) -> UploadState:
        """Answers what is stored of this upload. Its receipt, when there is one, is unverified."""
        _check(_UPLOAD_ID, upload_id, "upload id")
        document = self._get_json(f"/v1/uploads/{upload_id}", "application/json", LARGE_ANSWER_BYTES)
        receipt = document.get("receipt")
        if document.get("upload_id") != upload_id or not (receipt is None or isinstance(receipt, str)):
            raise answer_unexpected()
        files = [_stored_file(entry) for entry in _member(document, "files", list)]
        return UploadState(files={file.name: file for file in files}, receipt=receipt)

    def put(
        self,
        upload_id: str,
        name: str,
        source: BinaryIO | bytes,
        *,
        size_bytes: int,
        sha256: str,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Returns only when the vault has answered, in its own words, that it holds this size and hash (RFC 9530
        digest).

        Bytes are taken for what was hashed: only the vault hashes them again. Code `source-changed` when the source
        ends early or has another hash, `source-unreadable` when reading it fails.
        """
        _check(_UPLOAD_ID, upload_id, "upload id")
        _check(_NAME, name, "file name")
        _check(_SHA256, sha256, "hash")
        if size_bytes < 1:
            raise VaultError("source-empty", "A file of an upload is never empty; seal it again.", permanent=True)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Digest": f"sha-256=:{base64.b64encode(binascii.unhexlify(sha256)).decode()}:",
        }
        allowed_seconds = self._timeout[1] + size_bytes / self._slowest
        body = _Body(
            source,
            size_bytes=size_bytes,
            sha256=sha256,
            on_progress=on_progress,
            allowed_seconds=allowed_seconds,
            block_bytes=self._block_bytes,
        )
        answer = self._request(
            "PUT",
            f"/v1/uploads/{upload_id}/{name}",
            expected=(200, 201),
            content_type="application/json",
            limit=SMALL_ANSWER_BYTES,
            body=body,
            headers={**headers, "Content-Length": str(size_bytes)},
        )
        if _stored_file(_json_object(answer)) != StoredFile(name=name, size_bytes=size_bytes, sha256=sha256):
            raise answer_unexpected()

    def commit(self, upload_id: str, commitment: str) -> str:
        """Returns the receipt as it came. Repeating the same commitment is answered with the same receipt."""
        _check(_UPLOAD_ID, upload_id, "upload id")
        answer = self._request(
            "POST",
            f"/v1/uploads/{upload_id}/commit",
            expected=(200,),
            content_type="application/jose",
            limit=LARGE_ANSWER_BYTES,
            body=commitment.encode("ascii"),
            headers={"Content-Type": "application/jose"},
        )
        receipt = answer.decode("ascii", errors="replace").strip()
        if not _JWS.fullmatch(receipt):
            raise answer_unexpected()
        return receipt

    def verify(self, upload_id: str, *, after: str = "") -> VerifyPage:
        """Answers what the vault found in a bounded number of files. Its codes: `not-committed`, `upload-removed`."""
        _check(_UPLOAD_ID, upload_id, "upload id")
        answer = self._request(
            "POST",
            f"/v1/uploads/{upload_id}/verify{_after(_NAME, after)}",
            expected=(200,),
            content_type="application/json",
            limit=LARGE_ANSWER_BYTES,
            body=b"",
        )
        document = _json_object(answer)
        page = VerifyPage(
            file_count=_member(document, "file_count", int),
            checked=_member(document, "checked", int),
            damaged=tuple(_text(_NAME, name) for name in _member(document, "damaged", list)),
            next_after=_next(_NAME, document, after),
        )
        if document.get("upload_id") != upload_id:
            raise answer_unexpected()
        return page

    def uploads_page(self, *, after: str = "") -> UploadPage:
        """Answers a page of our uploads in the vault, in the order of their ids."""
        document = self._get_json(f"/v1/uploads{_after(_UPLOAD_ID, after)}", "application/json", LARGE_ANSWER_BYTES)
        entries = [_member({"entry": entry}, "entry", dict) for entry in _member(document, "uploads", list)]
        uploads = tuple(
            (_text(_UPLOAD_ID, entry.get("upload_id")), _member(entry, "committed", bool)) for entry in entries
        )
        return UploadPage(uploads=uploads, next_after=_next(_UPLOAD_ID, document, after))

    def _get_json(
        self, path: str, content_type: str, limit: int, *, not_found: tuple[str, str] | None = None
    ) -> dict[str, Any]:
        return _json_object(
            self._request("GET", path, expected=(200,), content_type=content_type, limit=limit, not_found=not_found)
        )

    def _request(
        self,
        method: str,
        path: str,
        *,
        expected: tuple[int, ...],
        content_type: str,
        limit: int,
        not_found: tuple[str, str] | None = None,
        body: bytes | Iterable[bytes | memoryview] | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> bytes:
        if self._way is None:
            self._way = way_open(self._session, self._base_url)
        with self._way.request(method, path, body=body, headers=headers, timeout=self._timeout) as response:
            if response.status == 404 and not_found:
                raise VaultError(*not_found, lane_fault=True)
            if response.status not in expected:
                raise refusal_translate(response, deadline_seconds=self._timeout[1])
            if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() != content_type:
                raise answer_unexpected()
            return answer_read(response, limit=limit, deadline_seconds=self._timeout[1])


_KEY_UNKNOWN = "The vault does not know the recipient's key; check the key id in the vault's settings."


class _Bearer(AuthBase):
    """Adds the token; being an auth object also keeps requests from taking credentials out of a .netrc file."""

    def __init__(self, token: str | None) -> None:
        if token is not None and not re.fullmatch(r"[\x21-\x7e]+", token):
            raise VaultError("token-invalid", "The token holds characters that no header can carry.", permanent=True)
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Body:
    """What is sent, in blocks of `block_bytes` and in constant memory, and never for longer than it may take."""

    def __init__(
        self,
        source: BinaryIO | bytes,
        *,
        size_bytes: int,
        sha256: str,
        on_progress: Callable[[int], None] | None,
        allowed_seconds: float,
        block_bytes: int,
    ) -> None:
        self._block_bytes = block_bytes
        self._until = time.monotonic() + allowed_seconds
        self._source = source
        self._size_bytes = size_bytes
        self._sha256 = sha256
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[bytes | memoryview]:
        sent = 0
        for block in self._held(self._source) if isinstance(self._source, bytes) else self._read(self._source):
            sent += len(block)
            yield block
            if time.monotonic() > self._until:
                raise VaultError("timeout", "The vault takes the bytes too slowly; it is tried again.", lane_fault=True)
            if self._on_progress is not None:
                self._on_progress(sent)

    def _held(self, content: bytes) -> Iterator[memoryview]:
        if len(content) != self._size_bytes:
            raise _source_changed()
        view = memoryview(content)
        size = self._block_bytes
        return (view[at : at + size] for at in range(0, len(view), size))

    def _read(self, source: BinaryIO) -> Iterator[bytes]:
        digest = hashlib.sha256()
        missing = self._size_bytes
        while missing:
            block = _block(source, min(self._block_bytes, missing))
            digest.update(block)
            missing -= len(block)
            # the last block leaves only when the hash is right, so a changed source is never even offered whole
            if not missing and digest.hexdigest() != self._sha256:
                raise _source_changed()
            yield block


def _block(source: BinaryIO, count: int) -> bytes:
    try:
        block = source.read(count)
    except OSError as error:
        # not OSError: urllib3 would take it for a fault of the connection, and blame the lane
        raise VaultError("source-unreadable", "The staged ciphertext cannot be read; check the disk.") from error
    if not block:
        raise _source_changed()
    return block


def _source_changed() -> VaultError:
    return VaultError("source-changed", "The staged ciphertext is not what was sealed; seal the file again.")


def _check(pattern: re.Pattern[str], value: str, what: str) -> None:
    if not pattern.fullmatch(value):
        raise VaultError("argument-invalid", f"This {what} cannot be used in the vault's interface.", permanent=True)


def _json_object(answer: bytes) -> dict[str, Any]:
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        raise answer_unexpected() from None
    if not isinstance(document, dict):
        raise answer_unexpected()
    return document


def _member(document: dict[str, Any], name: str, kind: type[_T]) -> _T:
    value = document.get(name)
    if type(value) is not kind:  # not isinstance: true is no number here
        raise answer_unexpected()
    return value


def _text(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise answer_unexpected()
    return value


def _after(pattern: re.Pattern[str], after: str) -> str:
    if not after:
        return ""
    _check(pattern, after, "page")
    return f"?after={after}"


def _next(pattern: re.Pattern[str], document: dict[str, Any], after: str) -> str | None:
    """Where the next page begins; always further on, so that no vault can keep us asking for ever."""
    value = document.get("next")
    if value is not None and _text(pattern, value) <= after:
        raise answer_unexpected()
    return value


def _jwk(document: dict[str, Any]) -> dict[str, str]:
    if not all(isinstance(value, str) for value in document.values()) or "kty" not in document or "d" in document:
        raise answer_unexpected()
    return document


def _stored_file(entry: object) -> StoredFile:
    if not isinstance(entry, dict):
        raise answer_unexpected()
    name, sha256 = _member(entry, "name", str), _member(entry, "sha256", str)
    size_bytes = _member(entry, "size_bytes", int)
    if not _NAME.fullmatch(name) or not _SHA256.fullmatch(sha256) or size_bytes < 0:
        raise answer_unexpected()
    return StoredFile(name=name, size_bytes=size_bytes, sha256=sha256)
