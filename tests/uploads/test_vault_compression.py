"""The reference vault compresses what is large, for whoever asks, and nothing else."""

import gzip
import json
from io import BytesIO
from pathlib import Path

import pytest

from uploads.envelope.keys import jwk_from_key, key_generate
from uploads.vault.app import make_app
from uploads.vault.compression import COMPRESSED_BYTES_MIN, answer_encode, takes_gzip
from uploads.vault.registry import gateway_register

TOKEN = "token-of-gateway-01"
LARGE = b"0123456789abcdef" * 200


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.5", True),
        ("deflate,gzip ;q=0.001", True),
        ("", False),
        ("identity", False),
        ("*", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("deflate, gzip;q=0, *", False),
        ("gzipped", False),
        ("x-gzip", False),
    ],
)
def test_who_asks_for_gzip(accepted: str, taken: bool) -> None:
    assert takes_gzip(accepted) is taken


def test_large_answers_alone_are_compressed() -> None:
    content, headers = answer_encode(LARGE, "gzip")
    assert gzip.decompress(content) == LARGE
    assert dict(headers) == {"Vary": "Accept-Encoding", "Content-Encoding": "gzip"}
    assert answer_encode(LARGE, "identity") == (LARGE, (("Vary", "Accept-Encoding"),))
    small = LARGE[: COMPRESSED_BYTES_MIN - 1]
    assert answer_encode(small, "gzip") == (small, ())


def test_same_answer_is_the_same_octets() -> None:
    """No clock in the header: repeating a request gives the same answer."""
    assert answer_encode(LARGE, "gzip")[0][4:8] == bytes(4)


def test_headers_of_a_compressed_answer(tmp_path: Path) -> None:
    """Length of what is sent, and all that a plain answer carries."""
    app = make_app(tmp_path / "vault", vault_id="vault-01", demonstration=True)
    gateway_register(tmp_path / "vault", gateway_id="gateway-01", token=TOKEN, jwk=jwk_from_key(key_generate()))
    upload = "ab" * 16

    def ask(method: str, path: str, **environ: object) -> tuple[dict[str, str], bytes]:
        told: dict[str, str] = {}
        base = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
        content = app({**base, **environ}, lambda _status, headers: told.update(headers))  # type: ignore[arg-type]
        return told, b"".join(content)

    for number in range(40):
        put = {"wsgi.input": BytesIO(b"x"), "CONTENT_LENGTH": "1"}
        digest = "sha-256=:LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=:"
        ask("PUT", f"/v1/uploads/{upload}/file-{number}", HTTP_CONTENT_DIGEST=digest, **put)
    plain, content = ask("GET", f"/v1/uploads/{upload}")
    packed, compressed = ask("GET", f"/v1/uploads/{upload}", HTTP_ACCEPT_ENCODING="gzip, br")
    assert len(json.loads(content)["files"]) == 40
    assert gzip.decompress(compressed) == content
    assert packed == plain | {"Content-Encoding": "gzip", "Content-Length": str(len(compressed))}
    assert (packed["Cache-Control"], packed["Vary"]) == ("no-store", "Accept-Encoding")
