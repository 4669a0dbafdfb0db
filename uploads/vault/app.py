"""The vault's HTTP interface, version 1 (docs/vault-api.md), as a WSGI application. Translates, and decides nothing.

Bodies are streamed and bounded; the only log line of a request has our own ids and no token.
"""

import base64
import binascii
import json
import logging
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from uploads.envelope.keys import jwk_from_key, thumbprint
from uploads.vault.archive import LIST_LIMIT_MAX, upload_verify_page, uploads_page
from uploads.vault.compression import answer_encode
from uploads.vault.errors import VaultStoreError
from uploads.vault.registry import (
    VERSION,
    Gateway,
    GatewayRegistry,
    VaultIdentity,
    recipient_read,
    vault_create,
    vault_signing_key,
)
from uploads.vault.store import FILE_BYTES_MAX, Readable, VaultStore
from uploads.vault.usage import Quota

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

COMMITMENT_BYTES_MAX = 48 * 1024 * 1024
DISCARD_BYTES_MAX = 64 * 1024 * 1024
"""Up to this size a refused body is read, so that its sender gets to see the refusal and not a reset connection."""
STRANGER_BYTES_MAX = 1024 * 1024
"""The same for those who have no token."""

_STATUS = {
    "name-invalid": 400,
    "upload-id-invalid": 400,
    "size-invalid": 400,
    "too-large": 413,
    "too-many-files": 413,
    "body-incomplete": 400,
    "digest-mismatch": 400,
    "content-conflict": 409,
    "upload-sealed": 409,
    "upload-committed": 409,
    "foreign-upload": 403,
    "commitment-invalid": 400,
    "commitment-mismatch": 409,
    "file-missing": 409,
    "upload-removed": 409,
    "not-committed": 409,
    "page-invalid": 400,
    "store-full": 507,
}
# what the HTTP side alone refuses: code -> (status, detail)
_HTTP_PROBLEMS = {
    "unauthorized": (401, "The bearer token is missing or unknown."),
    "not-found": (404, "There is nothing at this path."),
    "key-unknown": (404, "No recipient's key of this id is registered."),
    "method-not-allowed": (405, "This path does not take this method."),
    "length-required": (411, "Content-Length is required; chunked bodies are not taken."),
    "digest-missing": (400, "Content-Digest with one sha-256 is required (RFC 9530)."),
    "busy": (429, "Another upload is being verified. Ask again in a moment."),
    "internal-error": (500, "The vault failed. Its log says why."),
}


class _ProblemError(Exception):
    """A refusal of the HTTP side; `code` is one of `_HTTP_PROBLEMS`."""

    def __init__(self, code: str, *, allow: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.allow = allow


@dataclass(frozen=True)
class _Answer:
    status: int
    content: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class _Body:
    """The request's body, never read beyond its Content-Length; a block may be shorter than was asked for."""

    source: Readable
    missing: int

    def read(self, size: int, /) -> bytes:
        try:
            block = self.source.read(min(size, self.missing))
        except OSError as error:  # the sender is silent or gone, which is no fault of the vault's
            self.missing = 0
            raise VaultStoreError("body-incomplete") from error
        self.missing -= len(block)
        return block

    def whole(self) -> bytes:
        """All of it; `body-incomplete` when the sender ends early."""
        blocks = []
        while self.missing:
            blocks.append(self.read(self.missing))
            if not blocks[-1]:
                raise VaultStoreError("body-incomplete")
        return b"".join(blocks)

    def discard(self, limit: int) -> None:
        """Reads what is left, unless it is more than `limit`; a sender cut off in mid body would not see its answer."""
        if self.missing > limit:
            return
        while self.missing and self.read(65536):
            continue


def make_app(directory: Path, *, vault_id: str, demonstration: bool) -> "WSGIApplication":
    """Returns the WSGI application of the vault in this directory, which is made first if it is not there.

    May be used by many threads and processes at once. Raises VaultStoreError, EnvelopeError or OSError at once if the
    directory cannot be used, never later.
    """
    vault_create(directory, vault_id=vault_id, demonstration=demonstration)
    return VaultApp(directory, identity=VaultIdentity(vault_id, demonstration))


class VaultApp:
    """One vault over HTTP. Every failure of ours is a 500 with a log line and never ends the process."""

    def __init__(self, directory: Path, *, identity: VaultIdentity) -> None:
        signing_key = vault_signing_key(directory)
        receipt_jwk = jwk_from_key(signing_key)
        self._directory = directory
        self._description = {
            "version": VERSION,
            "vault_id": identity.vault_id,
            "demonstration": identity.demonstration,
            "receipt_jwk": {**receipt_jwk, "kid": thumbprint({**receipt_jwk})},
            "file_bytes_max": FILE_BYTES_MAX,
        }
        self._gateways = GatewayRegistry(directory)
        self._store = VaultStore(directory, identity=identity, signing_key=signing_key)
        self._verifying = threading.Lock()
        self._routes: list[tuple[re.Pattern[str], dict[str, Callable[..., _Answer]]]] = [
            (re.compile(r"/v1/"), {"GET": self._describe}),
            (re.compile(r"/v1/keys/(?P<kid>[^/]{1,200})"), {"GET": self._key}),
            (re.compile(r"/v1/uploads"), {"GET": self._list}),
            (re.compile(r"/v1/uploads/(?P<upload_id>[^/]{1,200})"), {"GET": self._state}),
            (re.compile(r"/v1/uploads/(?P<upload_id>[^/]{1,200})/verify"), {"POST": self._verify}),
            (re.compile(r"/v1/uploads/(?P<upload_id>[^/]{1,200})/commit"), {"POST": self._commit}),
            (re.compile(r"/v1/uploads/(?P<upload_id>[^/]{1,200})/(?P<name>[^/]{1,200})"), {"PUT": self._put}),
        ]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        answer = self._answer(environ)
        content, encoding = answer_encode(answer.content, environ.get("HTTP_ACCEPT_ENCODING", ""))
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(content))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *encoding,
            *answer.headers,
        ]
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
        return [content]

    def _answer(self, environ: "WSGIEnvironment") -> _Answer:
        body = _body(environ)
        gateway: Gateway | None = None
        try:
            gateway = self._authenticate(environ)
            return self._dispatch(environ, gateway, body)
        except _ProblemError as error:
            answer = _problem(error.code, *_HTTP_PROBLEMS[error.code], allow=error.allow)
        except VaultStoreError as error:
            answer = _store_problem(error)
        except Exception:  # the outermost loop of a request: log, answer, go on
            logger.exception("vault.request-failed")
            answer = _problem("internal-error", *_HTTP_PROBLEMS["internal-error"])
        if body is not None:
            _discard(body, DISCARD_BYTES_MAX if gateway else STRANGER_BYTES_MAX)
        return answer

    def _dispatch(self, environ: "WSGIEnvironment", gateway: Gateway | None, body: "_Body | None") -> _Answer:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        for pattern, methods in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            handler = methods.get(method)
            if handler is None:
                continue
            if gateway is None and handler != self._describe:
                raise _ProblemError("unauthorized")
            return handler(environ, gateway, body, **match.groupdict())
        allow = sorted({name for pattern, methods in self._routes if pattern.fullmatch(path) for name in methods})
        if gateway is None:
            raise _ProblemError("unauthorized")
        if allow:
            raise _ProblemError("method-not-allowed", allow=", ".join(allow))
        raise _ProblemError("not-found")

    def _authenticate(self, environ: "WSGIEnvironment") -> Gateway | None:
        """Returns whose token came, None when none came; a token that is nobody's is refused everywhere."""
        header = environ.get("HTTP_AUTHORIZATION", "")
        if not header:
            return None
        scheme, _, token = header.partition(" ")
        gateway = self._gateways.by_token(token.strip()) if scheme.lower() == "bearer" else None
        if gateway is None:
            raise _ProblemError("unauthorized")
        return gateway

    def _describe(self, _environ: "WSGIEnvironment", _gateway: Gateway | None, _body: "_Body | None") -> _Answer:
        return _json(200, self._description)

    def _key(self, _environ: "WSGIEnvironment", _gateway: Gateway, _body: "_Body | None", *, kid: str) -> _Answer:
        jwk = recipient_read(self._directory, kid)
        if jwk is None:
            raise _ProblemError("key-unknown")
        return _json(200, jwk, content_type="application/jwk+json")

    def _state(
        self, _environ: "WSGIEnvironment", gateway: Gateway, _body: "_Body | None", *, upload_id: str
    ) -> _Answer:
        files, receipt = self._store.state(upload_id, gateway_id=gateway.gateway_id)
        entries = [{"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in files]
        return _json(200, {"upload_id": upload_id, "files": entries, "receipt": receipt})

    def _list(self, environ: "WSGIEnvironment", gateway: Gateway, _body: "_Body | None") -> _Answer:
        after, limit = _page(environ)
        page = uploads_page(self._directory, gateway_id=gateway.gateway_id, after=after, limit=limit)
        entries = [
            {
                "upload_id": each.upload_id,
                "committed": each.committed,
                "stored_at": each.stored_at or None,
                "file_count": each.file_count,
                "size_bytes": each.size_bytes,
                "removed_at": each.removed_at or None,
            }
            for each in page.uploads
        ]
        return _json(200, {"uploads": entries, "next": page.next_after})

    def _verify(
        self, environ: "WSGIEnvironment", gateway: Gateway, _body: "_Body | None", *, upload_id: str
    ) -> _Answer:
        after, _limit = _page(environ)
        if not self._verifying.acquire(blocking=False):  # one disk, and uploads come first
            raise _ProblemError("busy")
        try:
            page = upload_verify_page(self._directory, upload_id, gateway_id=gateway.gateway_id, after=after)
        finally:
            self._verifying.release()
        if page.damaged:
            logger.error("vault.upload-damaged", extra={"upload_id": upload_id, "files": len(page.damaged)})
        document = {
            "upload_id": upload_id,
            "file_count": page.file_count,
            "checked": page.checked,
            "checked_bytes": page.checked_bytes,
            "damaged": list(page.damaged),
            "next": page.next_after,
        }
        return _json(200, document)

    def _put(
        self, environ: "WSGIEnvironment", gateway: Gateway, body: "_Body | None", *, upload_id: str, name: str
    ) -> _Answer:
        if body is None:
            raise _ProblemError("length-required")
        sha256 = _digest(environ)
        size_bytes = body.missing
        new = self._store.put(
            upload_id,
            name,
            body,
            gateway_id=gateway.gateway_id,
            size_bytes=size_bytes,
            sha256=sha256,
            quota=Quota(self._gateways.registered().quota_bytes, gateway.quota_bytes),
        )
        return _json(201 if new else 200, {"name": name, "size_bytes": size_bytes, "sha256": sha256})

    def _commit(
        self, _environ: "WSGIEnvironment", gateway: Gateway, body: "_Body | None", *, upload_id: str
    ) -> _Answer:
        if body is None:
            raise _ProblemError("length-required")
        if body.missing > COMMITMENT_BYTES_MAX:
            raise VaultStoreError("too-large")
        content = body.whole()
        receipt = self._store.commit(upload_id, content.decode("ascii", "replace").strip(), gateway=gateway)
        logger.info("vault.upload-committed", extra={"upload_id": upload_id, "gateway_id": gateway.gateway_id})
        return _Answer(200, receipt.encode("ascii"), "application/jose")


def _body(environ: "WSGIEnvironment") -> _Body | None:
    length = environ.get("CONTENT_LENGTH", "")
    if environ.get("HTTP_TRANSFER_ENCODING") or not re.fullmatch(r"[0-9]{1,18}", length):
        return None
    return _Body(environ["wsgi.input"], int(length))


def _digest(environ: "WSGIEnvironment") -> str:
    """Returns the hexadecimal SHA-256 of Content-Digest (RFC 9530 2), which may name other algorithms beside it."""
    for member in environ.get("HTTP_CONTENT_DIGEST", "").split(","):
        match = re.fullmatch(r"sha-256=:([A-Za-z0-9+/]{43}=):", member.strip())
        if match is not None:
            try:
                return base64.b64decode(match[1], validate=True).hex()
            except binascii.Error as error:
                raise _ProblemError("digest-missing") from error
    raise _ProblemError("digest-missing")


def _page(environ: "WSGIEnvironment") -> tuple[str, int]:
    """Returns `after` and `limit` of the query; `page-invalid` for what they cannot be."""
    try:
        query = dict(parse_qsl(environ.get("QUERY_STRING", ""), max_num_fields=8))
    except ValueError as error:
        raise VaultStoreError("page-invalid") from error
    after, limit = query.get("after", ""), query.get("limit", str(LIST_LIMIT_MAX))
    if not re.fullmatch(r"[a-z0-9.-]{0,80}", after) or not re.fullmatch(r"[1-9][0-9]{0,3}", limit):
        raise VaultStoreError("page-invalid")
    if int(limit) > LIST_LIMIT_MAX:
        raise VaultStoreError("page-invalid")
    return after, int(limit)


def _discard(body: _Body, limit: int) -> None:
    try:
        body.discard(limit)
    except VaultStoreError:
        logger.info("vault.body-lost")  # the sender is gone; there is nobody to answer


def _json(status: int, document: object, *, content_type: str = "application/json") -> _Answer:
    return _Answer(status, json.dumps(document, sort_keys=True).encode(), content_type)


def _store_problem(error: VaultStoreError) -> _Answer:
    status = _STATUS.get(error.code)
    if status is None:  # the vault's own state is at fault, not the request
        logger.error("vault.store-unusable", extra={"code": error.code})
        return _problem("internal-error", *_HTTP_PROBLEMS["internal-error"])
    return _problem(error.code, status, str(error))


def _problem(code: str, status: int, detail: str, *, allow: str = "") -> _Answer:
    """Returns a problem document (RFC 9457); `code` is the stable member, the rest is for people."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    headers = [("Allow", allow)] if allow else []
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers.append(("Retry-After", "2"))
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append(("WWW-Authenticate", "Bearer"))
    content = json.dumps(document, sort_keys=True).encode()
    return _Answer(status, content, "application/problem+json", tuple(headers))
