"""Character sets of questions and answers (PS3.3 C.12.1.1.2, PS3.5 6.1), as pydicom knows them."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from pydicom.charset import convert_encodings, decode_bytes, encode_string, python_encoding
from pydicom.valuerep import TEXT_VR_DELIMS

SPECIFIC_CHARACTER_SET: Final = 0x00080005
UTF_8: Final = "ISO_IR 192"
CHARSET_VRS: Final = frozenset(["LO", "LT", "PN", "SH", "ST", "UC", "UT"])
"""Those that Specific Character Set is about; all others are ASCII."""
_NAME_DELIMITERS: Final = {ord("^"), ord("=")}
_DEFAULT: Final = ("latin_1",)
_ASCII_TERMS: Final = ("", "ISO_IR 6", "ISO 2022 IR 6")


@lru_cache(maxsize=256)
def codecs_of(declared: tuple[str, ...]) -> tuple[str, ...]:
    """Python's codecs for the terms of Specific Character Set. Latin-1, which holds ASCII, for what is not declared or
    not known.
    """
    if not any(declared) or not all(term in python_encoding for term in declared):
        return _DEFAULT
    found: Sequence[str] = convert_encodings(list(declared))
    return tuple(found)


def text_decode(raw: bytes, vr: str, codecs: tuple[str, ...]) -> str:
    """Text without padding, whatever the bytes are. Never raises."""
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii").strip(" \0")
    if vr not in CHARSET_VRS:
        return raw.decode("utf-8", "replace").strip(" \0")
    try:
        text = str(decode_bytes(raw, list(codecs), _NAME_DELIMITERS if vr == "PN" else TEXT_VR_DELIMS))
    except (LookupError, UnicodeError, ValueError):
        text = raw.decode("latin-1")
    return text.strip(" \0")


def answer_charset(texts: Iterable[str], declared: tuple[str, ...]) -> tuple[str, ...]:
    """The terms to declare for an answer with these texts: none for ASCII, those of the question where they can say it
    all, else UTF-8.
    """
    beyond = [text for text in texts if not text.isascii()]
    if not beyond:
        return ()
    return declared if _can_say(beyond, declared) else (UTF_8,)


def _can_say(texts: Iterable[str], declared: tuple[str, ...]) -> bool:
    if not any(declared) or not all(term in python_encoding for term in declared):
        return False
    codecs, is_ascii = codecs_of(declared), declared[0] in _ASCII_TERMS
    try:
        for text in texts:
            if is_ascii and any("\x80" <= character <= "\xff" for character in text):
                return False  # which Latin-1 could, but it is not declared
            _encode_strictly(text, "PN", codecs)
    except (UnicodeError, LookupError, ValueError):
        return False
    return True


def text_encode(text: str, vr: str, codecs: tuple[str, ...]) -> bytes:
    """The text's bytes in codecs that can say it."""
    if text.isascii():
        return text.encode("ascii")
    if vr not in CHARSET_VRS:
        return text.encode("ascii", "replace")
    return _encode_strictly(text, vr, codecs)


def _encode_strictly(text: str, vr: str, codecs: tuple[str, ...]) -> bytes:
    if len(codecs) == 1:
        return text.encode(codecs[0])
    if vr != "PN":
        return _encoded(text, codecs)
    groups = (b"^".join(_encoded(part, codecs) for part in group.split("^")) for group in text.split("="))
    return b"=".join(groups)  # each begins with the initial character sets (PS3.5 6.1.2.5.3)


def _encoded(text: str, codecs: tuple[str, ...]) -> bytes:
    encoded = bytes(encode_string(text, list(codecs)))
    if text_decode(encoded, "LO", codecs) != text.strip(" \0"):  # it replaces what it cannot say
        raise ValueError("not in these character sets")
    return encoded
