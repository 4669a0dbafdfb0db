"""A second reader, written from docs/envelope.md alone and sharing no code with ours, opens the vectors."""

import base64
import hashlib
import hmac
import json
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

VECTORS = json.loads((Path(__file__).parents[2] / "docs/vectors/gve1.json").read_text(encoding="utf-8"))


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def length_first(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-512; 64 octets are one block."""
    return hmac.digest(hmac.digest(salt, secret, "sha512"), info + b"\x01", "sha512")


def decrypt(key: bytes, iv: bytes, ciphertext: bytes, tag: bytes, aad: bytes) -> bytes:
    """RFC 7518 5.2.2.2."""
    whole = hmac.digest(key[:32], aad + iv + ciphertext + (8 * len(aad)).to_bytes(8, "big"), "sha512")
    assert whole[:32] == tag
    padded = Cipher(algorithms.AES(key[32:]), modes.CBC(iv)).decryptor().update(ciphertext)
    return padded[: -padded[-1]]


def jwe_decrypt(key: bytes, content: str) -> bytes:
    header, _, iv, ciphertext, tag = content.split(".")
    return decrypt(key, unb64(iv), unb64(ciphertext), unb64(tag), header.encode())


def session_key() -> bytes:
    content = VECTORS["key_document"]["content"]
    header = json.loads(unb64(content.split(".")[0]))
    x, y = (int.from_bytes(unb64(header["epk"][name]), "big") for name in ("x", "y"))
    d = int.from_bytes(unb64(VECTORS["keys"]["recipient"]["public_test_private_key_d"]), "big")
    curve = ec.SECP521R1()
    ephemeral = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    shared = ec.derive_private_key(d, curve).exchange(ec.ECDH(), ephemeral)
    assert shared.hex() == VECTORS["key_document"]["z"]
    fields = (b"ECDH-ES+A256KW", unb64(header["apu"]), unb64(header["apv"]))
    wrapping_key = hashlib.sha256(
        b"\x00\x00\x00\x01" + shared + b"".join(map(length_first, fields)) + b"\x00\x00\x01\x00"
    ).digest()
    content_key = aes_key_unwrap(wrapping_key, unb64(content.split(".")[1]))
    return unb64(json.loads(jwe_decrypt(content_key, content))["session_key"])


@pytest.mark.parametrize("entry", VECTORS["files"], ids=lambda entry: entry["name"])
def test_second_reader_opens_files(entry):
    sealed = base64.b64decode(entry["sealed"])
    position = 6 + int.from_bytes(sealed[4:6], "big")
    hashed = hashlib.sha512(sealed[:position]).digest()
    salt = unb64(json.loads(sealed[6:position])["salt"])
    key = hkdf(session_key(), salt, b"GVE1 file\x00" + hashed)
    assert (hashed.hex(), key.hex()) == (entry["header_hash"], entry["file_key"])
    stream, declared, index, final = b"", 0, 0, 0
    while not final:
        size, final = int.from_bytes(sealed[position : position + 4], "big"), sealed[position + 4]
        iv, body = sealed[position + 5 : position + 21], sealed[position + 21 : position + 21 + size]
        tag = sealed[position + 21 + size : position + 53 + size]
        plain = decrypt(key, iv, body, tag, hashed + index.to_bytes(8, "big") + bytes([final]))
        declared, stream = int.from_bytes(plain[:8], "big"), stream + plain[8:]
        position, index = position + 53 + size, index + 1
    content = zstandard.ZstdDecompressor().decompressobj().decompress(stream)
    assert position == len(sealed)
    assert (content, len(content)) == (base64.b64decode(entry["content"]), declared)


@pytest.mark.parametrize("entry", VECTORS["documents"], ids=lambda entry: entry["kind"])
def test_second_reader_opens_documents(entry):
    header = json.loads(unb64(entry["content"].split(".")[0]))
    info = b"GVE1 document\x00" + entry["kind"].encode() + b"\x00" + header["kid"].encode()
    key = hkdf(session_key(), unb64(header["salt"]), info)
    assert key.hex() == entry["document_key"]
    padded = jwe_decrypt(key, entry["content"])
    assert len(padded) == 4096
    payload = json.loads(unb64(padded.rstrip(b" ").split(b".")[1].decode()))
    assert payload["document"] == entry["document"]
    assert payload["upload_id"] == VECTORS["key_document"]["upload_id"]
