"""Specific Character Set: any bytes become text that is safe to show, whatever was declared.

PS3.3 C.12.1.1.2, PS3.5 6.1.
"""

import re
from typing import Final

_SINGLE_BYTE: Final = {
    "13": "shift_jis",
    "100": "latin_1",
    "101": "iso8859_2",
    "109": "iso8859_3",
    "110": "iso8859_4",
    "126": "iso8859_7",
    "127": "iso8859_6",
    "138": "iso8859_8",
    "144": "iso8859_5",
    "148": "iso8859_9",
    "166": "iso8859_11",
    "203": "iso8859_15",
}
_WHOLE: Final = {"ISO IR 192": "utf_8", "GB18030": "gb18030", "GBK": "gbk"}
_CODECS: Final = {
    # As pydicom, Orthanc and most viewers do, Latin-1 stands for what is undeclared: it holds ISO-IR 6.
    "": "latin_1",
    "ISO IR 6": "latin_1",
    "ISO 2022 IR 6": "latin_1",
    **{f"ISO IR {number}": codec for number, codec in _SINGLE_BYTE.items()},
    **{f"ISO 2022 IR {number}": codec for number, codec in _SINGLE_BYTE.items()},
    # Multi-byte sets stand in later values only (Table C.12-4); in the first they leave the default in place.
    "ISO 2022 IR 87": "latin_1",
    "ISO 2022 IR 159": "latin_1",
    "ISO 2022 IR 149": "euc_kr",
    "ISO 2022 IR 58": "gb2312",
    "ISO 2022 58": "gb2312",
    "ISO 2022 GBK": "gbk",
    **_WHOLE,
}

_ESC: Final = 0x1B
_SPACE: Final = 0x20
_UPPER_HALF: Final = 0x80
_PAIR_PREFIX: Final = {"jis_x_0208": b"", "jis_x_0212": b"\x8f"}

# PS3.3 Tables C.12-3 and C.12-4: what an escape sequence designates, to G0 or to G1.
_G0_ESCAPES: Final = {b"\x1b(B": "ascii", b"\x1b(J": "ascii", b"\x1b$B": "jis_x_0208", b"\x1b$(D": "jis_x_0212"}
_G1_ESCAPES: Final = {
    b"\x1b)I": "shift_jis",
    b"\x1b-A": "latin_1",
    b"\x1b-B": "iso8859_2",
    b"\x1b-C": "iso8859_3",
    b"\x1b-D": "iso8859_4",
    b"\x1b-F": "iso8859_7",
    b"\x1b-G": "iso8859_6",
    b"\x1b-H": "iso8859_8",
    b"\x1b-L": "iso8859_5",
    b"\x1b-M": "iso8859_9",
    b"\x1b-T": "iso8859_11",
    b"\x1b-b": "iso8859_15",
    b"\x1b$)C": "euc_kr",
    b"\x1b$)A": "gb2312",
}
_TOKEN: Final = re.compile(rb"\x1b(?:\$[()]?|[()-])[A-Za-z]|\x1b|[\x80-\xff]+|[\x21-\x7e]+|[\x00-\x1a\x1c-\x20\x7f]+")
# What puts the initial character sets back (PS3.5 6.1.2.5.3).
_RESETS_TEXT: Final = frozenset(b"\\\t\n\f\r")
_RESETS_PERSON_NAME: Final = _RESETS_TEXT | frozenset(b"^=")
_TERM: Final = re.compile(r"ISO ?(2022 ?IR|IR) ?([0-9]+)")

# C0 and C1 controls, line separators, direction overrides (which make one text look like another), the byte order mark.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


def charset_is_known(declared: bytes) -> bool:
    """True when every term of the declaration is a defined term, spelled as the standard has it or nearly so."""
    return all(term in _CODECS for term in _terms(declared))


def text_decode(raw: bytes, *, declared: bytes, person_name: bool = False) -> str:
    """Text without control characters and outer padding; U+FFFD for each thing that cannot be decoded. Never raises.

    `declared` is the raw value of (0008,0005). Backslashes, and the "^" and "=" of person names, stay as they are.
    """
    first = _terms(declared)[0]
    codec = _CODECS.get(first, "ascii")
    if _ESC in raw and first not in _WHOLE:
        text = _decode_with_escapes(raw, codec, resets=_RESETS_PERSON_NAME if person_name else _RESETS_TEXT)
    else:
        text = raw.decode(codec, "replace")
    return _UNSAFE.sub("", text).strip(" ")


def _terms(declared: bytes) -> list[str]:
    """The declared terms in one spelling: ISO_IR 100, ISO-IR 100 and ISO IR100 all become "ISO IR 100"."""
    text = declared.decode("ascii", "replace").upper().replace("_", " ").replace("-", " ")
    return [_TERM.sub(_respell, " ".join(term.strip("\0 ").split())) for term in text.split("\\")]


def _respell(match: re.Match[str]) -> str:
    return f"ISO {'2022 IR' if match[1].startswith('2022') else 'IR'} {match[2]}"


def _decode_with_escapes(raw: bytes, initial_g1: str, *, resets: frozenset[int]) -> str:
    """ISO 2022 code extensions (PS3.5 6.1.2.4, 6.1.2.5): G0 is the lower half of the code table, G1 the upper."""
    g0, g1 = "ascii", initial_g1
    out: list[str] = []
    for match in _TOKEN.finditer(raw):
        token = match.group()
        if token[0] == _ESC:
            known = token in _G0_ESCAPES or token in _G1_ESCAPES
            g0, g1 = _G0_ESCAPES.get(token, g0), _G1_ESCAPES.get(token, g1)
            out.append("" if known else "\ufffd")
        elif token[0] >= _UPPER_HALF:
            out.append(token.decode(g1, "replace"))
        elif g0 != "ascii" and token[0] > _SPACE:
            out.append(_decode_pairs(token, prefix=_PAIR_PREFIX[g0]))
        else:
            out.append(token.decode("ascii"))
            if not resets.isdisjoint(token):
                g0, g1 = "ascii", initial_g1
    return "".join(out)


def _decode_pairs(token: bytes, *, prefix: bytes) -> str:
    """Two bytes a character: EUC-JP is JIS X 0208 with the high bits set, and JIS X 0212 the same behind 0x8F."""
    high = bytes(byte | _UPPER_HALF for byte in token)
    return b"".join(prefix + high[at : at + 2] for at in range(0, len(high), 2)).decode("euc_jp", "replace")
