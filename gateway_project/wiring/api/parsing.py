"""JSON bodies, read strictly: bounded, no key twice, no NaN, no depth that nobody means."""

import json
import math
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from gateway_project.wiring.problems import Refused

BODY_BYTES = 64 * 1024
DEPTH = 8


class StrictJsonParser(BaseParser):
    """An object in UTF-8. Refuses with 413 what is too large before it is read, and with 400 what JSON leaves open."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            value = json.loads(
                _read(stream).decode("utf-8"),
                object_pairs_hook=_pairs,
                parse_constant=_constant,
                parse_float=_float,
                parse_int=_int,
            )
        except (ValueError, RecursionError) as error:
            raise ParseError from error
        if not isinstance(value, dict) or _depth(value) > DEPTH:
            raise ParseError
        return value


def _read(stream: IO[Any]) -> bytes:
    body: bytes = stream.read(BODY_BYTES + 1)
    if len(body) > BODY_BYTES:
        raise Refused(413, "body-too-large", f"A body has at most {BODY_BYTES // 1024} KiB.")
    return body


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _constant(_text: str) -> NoReturn:
    raise ValueError("not a number of JSON")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number without bounds")
    return number


def _int(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number without bounds")
    return int(text)


def _depth(value: Any) -> int:
    deepest, todo = 0, [(value, 1)]
    while todo:
        each, depth = todo.pop()
        deepest = max(deepest, depth)
        if isinstance(each, dict):
            todo += [(inner, depth + 1) for inner in each.values()]
        elif isinstance(each, list):
            todo += [(inner, depth + 1) for inner in each]
    return deepest
