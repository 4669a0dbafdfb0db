"""One option: its key, type, bounds and default, and the two ways its value arrives (environment text, table JSON).

Nothing here imports Django.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from gateway_project.core.errors import GatewayError

KEY_PATTERN = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*\.[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")
TRUE_WORDS = frozenset({"true", "yes", "on", "1"})
FALSE_WORDS = frozenset({"false", "no", "off", "0"})
SHOWN_CHARACTERS = 80


class OptionError(GatewayError):
    """An option, or a value for one, that cannot be used; the message never holds a secret's value."""

    code = "option-invalid"
    permanent = True


class OptionUnknownError(OptionError):
    """No app declares an option of this key."""

    code = "option-unknown"


class OptionLockedError(OptionError):
    """The environment sets this option, so nobody can change it while the gateway runs."""

    code = "option-locked"


class Kind(Enum):
    """The types an option can have. LIST holds texts: comma separated in the environment, a JSON list in the table."""

    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    STR = "str"
    LIST = "list"
    JSON = "json"


@dataclass(frozen=True)
class Option:
    """One setting that an operator may change; declared once, in the `OPTIONS` of the app that reads it.

    `minimum` and `maximum` bound numbers (inclusive). `choices` are the only texts allowed (in any case; stored as
    written here). `check` gets the typed value and raises ValueError with a reason free of the value.
    `restart`: a change works from the next start on. `secret`: a text, stored encrypted, never shown back.
    Raises OptionError on a declaration that contradicts itself, e.g. a default out of its own bounds.
    """

    key: str
    kind: Kind
    default: Any
    _: KW_ONLY
    help: str
    restart: bool = False
    secret: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], None] | None = None

    def __post_init__(self) -> None:
        if not KEY_PATTERN.fullmatch(self.key):
            raise OptionError(f"option key {self.key!r} is not of the form SECTION.NAME in capitals")
        if not isinstance(self.kind, Kind):
            raise OptionError(f"option {self.key}: kind must be one of Kind")
        if not self.help:
            raise OptionError(f"option {self.key} needs a help text")
        if self.secret and self.kind is not Kind.STR:
            raise OptionError(f"option {self.key}: a secret must be Kind.STR")
        if (self.minimum is not None or self.maximum is not None) and self.kind not in (Kind.INT, Kind.FLOAT):
            raise OptionError(f"option {self.key}: minimum and maximum are for numbers")
        if self.choices and self.kind not in (Kind.STR, Kind.LIST):
            raise OptionError(f"option {self.key}: choices are for texts and lists")
        object.__setattr__(self, "default", self.validate(self.default))

    @cached_property
    def environment_name(self) -> str:
        """`SETTLING.SCAN_SECONDS` -> `GATEWAY_SETTLING__SCAN_SECONDS`."""
        return "GATEWAY_" + self.key.replace(".", "__")

    def validate(self, value: object) -> Any:
        """The typed value of a JSON value (from the table, the API or the code); raises OptionError."""
        try:
            return self._bounded(_TYPED[self.kind](value))
        except ValueError as error:
            raise OptionError(f"option {self.key} {self._reason(error, value)}") from None

    def parse(self, text: str) -> Any:
        """The typed value of an environment variable's text; raises OptionError naming the variable."""
        try:
            return self._bounded(_TYPED[self.kind](_PARSED[self.kind](text)))
        except ValueError as error:
            raise OptionError(
                f"environment variable {self.environment_name} {self._reason(error, text)}",
                code="option-environment-invalid",
            ) from None

    def _reason(self, error: ValueError, value: object) -> str:
        if self.secret:
            return "has a value that cannot be used (a secret, so not shown)"
        shown = repr(value)
        if len(shown) > SHOWN_CHARACTERS:
            shown = shown[:SHOWN_CHARACTERS] + "..."
        return f"{error}; it is {shown}"

    def _bounded(self, value: Any) -> Any:
        if self.minimum is not None and value < self.minimum:
            raise ValueError(f"must be at least {self.minimum}")
        if self.maximum is not None and value > self.maximum:
            raise ValueError(f"must be at most {self.maximum}")
        if self.choices:
            value = [self._choice(item) for item in value] if self.kind is Kind.LIST else self._choice(value)
        if self.check is not None:
            self.check(value)
        return value

    def _choice(self, text: str) -> str:
        for choice in self.choices:
            if choice.casefold() == text.casefold():
                return choice
        raise ValueError(f"must be one of {', '.join(self.choices)}")


def _typed_int(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("must be a whole number")


def _typed_float(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError("must be a number")


def _typed_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def _typed_str(value: object) -> str:
    if isinstance(value, str) and "\x00" not in value:
        return value
    raise ValueError("must be a text without NUL characters")


def _typed_list(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [_typed_str(item) for item in value]
    raise ValueError("must be a list of texts")


def _typed_json(value: object) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise ValueError("must be a JSON value") from None


def _parsed_int(text: str) -> int:
    if WHOLE_NUMBER.fullmatch(text.strip()):
        return int(text)
    raise ValueError("must be a whole number")


def _parsed_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("must be a number") from None


def _parsed_bool(text: str) -> bool:
    word = text.strip().lower()
    if word in TRUE_WORDS | FALSE_WORDS:
        return word in TRUE_WORDS
    raise ValueError("must be true or false")


def _parsed_str(text: str) -> str:
    return text


def _parsed_list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _parsed_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("must be JSON") from None


_TYPED: dict[Kind, Callable[[object], Any]] = {
    Kind.INT: _typed_int,
    Kind.FLOAT: _typed_float,
    Kind.BOOL: _typed_bool,
    Kind.STR: _typed_str,
    Kind.LIST: _typed_list,
    Kind.JSON: _typed_json,
}
_PARSED: dict[Kind, Callable[[str], Any]] = {
    Kind.INT: _parsed_int,
    Kind.FLOAT: _parsed_float,
    Kind.BOOL: _parsed_bool,
    Kind.STR: _parsed_str,
    Kind.LIST: _parsed_list,
    Kind.JSON: _parsed_json,
}
