"""What only the reader of a canary can say: proof that a recipient's private key opens what is sealed for it."""

import base64
import hashlib
import hmac

NONCE_BYTES = 32
_PROOF_BYTES = 20


def canary_proof(nonce: bytes, content: bytes, *, upload_id: str, kid: str) -> str:
    """32 letters and digits in groups of four, for one canary and one key; 160 bits that nobody guesses.

    `nonce` stands in the sealed map, `content` in the sealed file, so both kinds of object have been opened by whoever
    knows it (docs/envelope.md, section 13).
    """
    parts = (b"GVE1 canary", upload_id.encode("ascii"), kid.encode("ascii"), hashlib.sha256(content).digest())
    digest = hmac.digest(nonce, b"\0".join(parts), "sha256")[:_PROOF_BYTES]
    letters = base64.b32encode(digest).decode("ascii")
    return "-".join(letters[start : start + 4] for start in range(0, len(letters), 4))


def proof_digest(proof: str) -> str:
    """SHA-256 (hexadecimal) of a proof, however it was typed: what a gateway keeps, and compares with."""
    return hashlib.sha256("".join(proof.upper().replace("-", " ").split()).encode("utf-8")).hexdigest()
