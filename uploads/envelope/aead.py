"""A256CBC-HS512 (RFC 7518 5.2.5), the sealing half; the half that decrypts is in `unseal`."""

import hmac
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY_BYTES = 64
"""First half for the MAC, second half for the cipher (RFC 7518 5.2.2.1, step 1)."""
IV_BYTES = 16
BLOCK_BYTES = 16
TAG_BYTES = 32


def padding(size_bytes: int) -> bytes:
    """PKCS #7 padding for a plaintext of that size: 1 to 16 octets (RFC 5652 6.3)."""
    count = BLOCK_BYTES - size_bytes % BLOCK_BYTES
    return bytes([count]) * count


def aead_encrypt(padded: bytes | memoryview, *, key: bytes, iv: bytes, aad: bytes) -> tuple[bytes, bytes]:
    """Ciphertext and tag of a plaintext that carries its `padding` already (so that no copy is needed to add it).

    The caller gives a fresh random `iv` for every call.
    """
    ciphertext = Cipher(algorithms.AES(key[32:]), modes.CBC(iv)).encryptor().update(padded)
    return ciphertext, aead_tag(ciphertext, key=key, iv=iv, aad=aad)


def aead_encrypt_pieces(
    pieces: Sequence[bytes | memoryview], *, key: bytes, iv: bytes, aad: bytes
) -> tuple[list[bytes], bytes]:
    """As `aead_encrypt`, of a plaintext that lies in pieces and carries no padding yet; nothing is copied together."""
    encryptor = Cipher(algorithms.AES(key[32:]), modes.CBC(iv)).encryptor()
    padded = [*pieces, padding(sum(map(len, pieces)))]
    ciphertext = [encrypted for piece in padded if (encrypted := encryptor.update(piece))]
    return ciphertext, aead_tag(*ciphertext, key=key, iv=iv, aad=aad)


def aead_tag(*ciphertext: bytes | memoryview, key: bytes, iv: bytes, aad: bytes) -> bytes:
    """The 32-octet tag over aad, iv, ciphertext and the bit length of aad (RFC 7518 5.2.2.1, steps 4 and 5)."""
    mac = hmac.new(key[:32], aad + iv, "sha512")
    for piece in ciphertext:
        mac.update(piece)
    mac.update((len(aad) * 8).to_bytes(8, "big"))
    return mac.digest()[:TAG_BYTES]
