"""How an answer of the vault travels: gzip where it is large and was asked for (docs/decisions/0014)."""

import gzip
import re

COMPRESSED_BYTES_MIN = 1400
"""Smaller answers fit into one packet as they are."""
LEVEL = 1
"""Most of an answer are hashes; of them a higher level saves 2 % more for two to six times the time."""

Headers = tuple[tuple[str, str], ...]


def answer_encode(content: bytes, accepted: str) -> tuple[bytes, Headers]:
    """The octets to send to whoever sent this Accept-Encoding, and the headers that say how they are coded."""
    if len(content) < COMPRESSED_BYTES_MIN:
        return content, ()
    vary = ("Vary", "Accept-Encoding")
    if not takes_gzip(accepted):
        return content, (vary,)
    return gzip.compress(content, compresslevel=LEVEL, mtime=0), (vary, ("Content-Encoding", "gzip"))


def takes_gzip(accepted: str) -> bool:
    """Whether Accept-Encoding names gzip, and not with the weight 0 (RFC 9110 12.5.3); a bare `*` is not enough."""
    for member in accepted.lower().split(","):
        coding, _, weight = member.partition(";")
        if coding.strip() == "gzip":
            return not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight)
    return False
