"""Text as a search sees it: without case, without accents, names without what is empty at their ends. No Django."""

import re
import unicodedata
from typing import Final

_ACCENTS: Final = re.compile("[\u0300-\u036f]")
# Letters that Unicode takes for letters of their own, and people without the keyboard for it type as these.
_LETTERS: Final = {
    "ł": "l",
    "đ": "d",
    "ð": "d",
    "ø": "o",
    "ħ": "h",
    "ŧ": "t",
    "\u0131": "i",
    "æ": "ae",
    "œ": "oe",
    "þ": "th",
}
_PLAIN: Final = str.maketrans(
    _LETTERS | {one.upper(): more.upper() for one, more in _LETTERS.items() if one != "\u0131"}
)


def text_fold(text: str, *, case: bool = True, accents: bool = True) -> str:
    """The text in which the differences that do not count are gone. What was folded stays as it is when folded again.

    Accents are those of Latin, Greek and Cyrillic, strokes and ligatures among them (Łukasz, Sørensen, Đức): a voiced
    kana is another kana. Costs nothing much for ASCII.
    """
    if text.isascii():
        return text.lower() if case else text
    if case:
        text = text.casefold()
    if accents:
        text = _ACCENTS.sub("", unicodedata.normalize("NFD", text)).translate(_PLAIN)
    return unicodedata.normalize("NFC", text)


def name_trim(name: str) -> str:
    """A person name without empty components at the ends of its groups, empty groups at its end, and outer spaces of
    components (PS3.5 6.2.1): "DOE ^JOHN^^" is "DOE^JOHN".
    """
    if "^" not in name and "=" not in name:
        return name.strip()
    groups = ("^".join(part.strip() for part in group.split("^")).rstrip("^") for group in name.split("="))
    return "=".join(groups).rstrip("=")


def name_fold(name: str) -> str:
    """What is searched of a person name: trimmed and folded."""
    return text_fold(name_trim(name))
