"""How texts are compared in a search: without case and accents, the same on every database. No Django."""

import unicodedata


def folded(text: str) -> str:
    """Case and accents gone, so that "muller" finds "MÜLLER"; what no column can hold (NUL, half pairs) too."""
    storable = text.replace("\0", "").encode("utf-8", "ignore").decode()
    apart = unicodedata.normalize("NFKD", storable.casefold())
    return "".join(c for c in apart if not unicodedata.combining(c))


def folded_ids(*ids: str) -> str:
    """Each on a line of its own: one of them is there when `folded_id` of it is in it."""
    return "".join(["\n", *(f"{folded(each).strip()}\n" for each in ids if each)])


def folded_id(text: str) -> str:
    return f"\n{folded(text).strip()}\n"
