"""Compressed answers: taken as their plain selves, and never larger than a plain one may be."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.uploads.scripted_server import answer, scripted
from uploads.client import SMALL_ANSWER_BYTES, VaultClient
from uploads.ports import VaultError
from uploads.transport import PROBLEM_BYTES

UPLOAD = "0123456789abcdef0123456789abcdef"
ENTRIES = [{"name": f"file-{n:05}.gve", "size_bytes": 300_000 + n, "sha256": f"{n:064x}"} for n in range(2000)]
STATE = json.dumps({"upload_id": UPLOAD, "files": ENTRIES, "receipt": None}).encode()


def client_of(url: str) -> VaultClient:
    return VaultClient(url, token="t" * 20, timeout_seconds=20, connect_seconds=5)


def told(content: bytes, coding: str, *, status: int = 200, content_type: str = "application/json") -> bytes:
    return answer(status, content, content_type=content_type, headers=f"Content-Encoding: {coding}\r\n")


def failure(answered: bytes, call: Callable[[VaultClient], Any] = lambda client: client.describe()) -> VaultError:
    with scripted(answered) as server, pytest.raises(VaultError) as caught:
        call(client_of(server.url))
    return caught.value


def bomb(size_bytes: int) -> bytes:
    """Spaces, which JSON allows anywhere, at about a thousand to one."""
    packer = zlib.compressobj(9, wbits=31)
    block = b" " * (1 << 20)
    return b"".join(packer.compress(block) for _ in range(size_bytes >> 20)) + packer.flush()


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip"])
def test_compressed_state_is_asked_for_and_understood(coding: str) -> None:
    with scripted(told(gzip.compress(STATE), coding)) as server:
        state = client_of(server.url).upload_state(UPLOAD)
    assert server.requests[0].headers["accept-encoding"] == "gzip"
    assert sorted(state.files) == [entry["name"] for entry in ENTRIES]


@pytest.mark.parametrize("headers", ["", "Content-Encoding: identity\r\n", "Content-Encoding: \r\n"])
def test_vault_that_does_not_compress_is_understood(headers: str) -> None:
    with scripted(answer(200, STATE, headers=headers)) as server:
        assert len(client_of(server.url).upload_state(UPLOAD).files) == len(ENTRIES)


def test_compressed_receipt_is_the_token_itself() -> None:
    token = f"a.{'b' * 5000}.c"
    with scripted(told(gzip.compress(token.encode()), "gzip", content_type="application/jose")) as server:
        assert client_of(server.url).commit(UPLOAD, "x.y.z") == token


def test_bomb_is_refused_and_never_held() -> None:
    """256 MiB out of 260 kB: no more than the bound of a plain answer is ever in memory."""
    answered = told(bomb(256 << 20), "gzip")
    tracemalloc.start()
    try:
        error = failure(answered)
        _now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (error.code, error.lane_fault) == ("answer-too-large", True)
    assert most < len(answered) * 2 + 16 * SMALL_ANSWER_BYTES


@pytest.mark.parametrize("more", [0, 1])
def test_bound_is_that_of_the_inflated_answer(more: int) -> None:
    description = json.dumps({"version": 2}).encode()
    content = gzip.compress(description.ljust(SMALL_ANSWER_BYTES + more))
    assert len(content) < 1000
    assert failure(told(content, "gzip")).code == ("answer-too-large" if more else "version-unsupported")


def test_octets_that_inflate_to_nothing_are_bounded_too() -> None:
    packer = zlib.compressobj(wbits=31)
    empty = packer.flush(zlib.Z_SYNC_FLUSH) + b"\x00\x00\x00\xff\xff" * SMALL_ANSWER_BYTES
    assert failure(told(empty, "gzip")).code == "answer-too-large"


def test_bomb_in_a_refusal_leaves_what_the_status_says() -> None:
    problem = json.dumps({"code": "store-full"}).encode().ljust(PROBLEM_BYTES + 1)
    refused = told(gzip.compress(problem), "gzip", status=507, content_type="application/problem+json")
    assert failure(refused).code == "vault-full"


def test_code_of_a_compressed_refusal_is_read() -> None:
    problem = json.dumps({"code": "upload-removed"}).encode()
    refused = told(gzip.compress(problem), "gzip", status=409, content_type="application/problem+json")
    assert failure(refused, lambda client: client.verify(UPLOAD)).code == "upload-removed"


WHOLE = gzip.compress(STATE)


@pytest.mark.parametrize(
    ("content", "coding", "code"),
    [
        (STATE, "gzip", "unexpected-answer"),
        (b"\x1f\x8b\x08" + b"\0" * 40, "gzip", "unexpected-answer"),
        (WHOLE[:-8] + bytes(8), "gzip", "unexpected-answer"),  # neither checksum nor length
        (WHOLE + b"{}", "gzip", "unexpected-answer"),
        (WHOLE + WHOLE, "gzip", "unexpected-answer"),
        (zlib.compress(STATE), "gzip", "unexpected-answer"),
        (zlib.compress(STATE), "deflate", "unexpected-answer"),
        (gzip.compress(WHOLE), "gzip, gzip", "unexpected-answer"),
        (STATE, "br", "unexpected-answer"),
        (WHOLE[:-1], "gzip", "connection-lost"),
        (WHOLE[: len(WHOLE) // 2], "gzip", "connection-lost"),
        (b"", "gzip", "connection-lost"),
    ],
)
def test_what_is_not_one_whole_gzip_is_no_answer(content: bytes, coding: str, code: str) -> None:
    error = failure(told(content, coding), lambda client: client.upload_state(UPLOAD))
    assert (error.code, error.lane_fault, error.permanent) == (code, True, False)
