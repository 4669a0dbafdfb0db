"""What a peer may do once it is in, and which studies it may see: one value, decided with the association.

DECIDED: whoever is not known may echo and store, and nothing else.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from network.dimse.errors import ConfigurationError

SEEN_KEYWORDS: Final = (
    "AccessionNumber",
    "InstitutionName",
    "IssuerOfPatientID",
    "PatientID",
    "PatientName",
    "ReferringPhysicianName",
    "StudyDescription",
    "StudyID",
    "StudyInstanceUID",
)
"""The attributes of a study that a condition may name."""
MAX_CONDITIONS: Final = 20
MAX_SOURCES: Final = 50
_CONDITION: Final = re.compile(r"([A-Za-z]+)\s*(!=|=)\s*(.{1,64}?)\s*")
_ITEMS: Final = re.compile(r"[,\n]")


@dataclass(frozen=True)
class Condition:
    """`keyword = glob` or `keyword != glob` on an attribute of the study; `*` and `?` stand for any characters and for
    one, and neither case nor accents count.
    """

    keyword: str
    is_not: bool
    glob: str

    def __str__(self) -> str:
        return f"{self.keyword} {'!=' if self.is_not else '='} {self.glob}"


@dataclass(frozen=True)
class Visible:
    """Which studies a peer may see: those for which everything that is set holds. Nothing set: all of them.

    `sources` and `modalities` are alternatives: the latest instance came from one of them; one of the study's series is
    of one of them.
    """

    sources: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @property
    def is_everything(self) -> bool:
        return not (self.sources or self.modalities or self.conditions)


@dataclass(frozen=True)
class Rights:
    """What one association may do. The default is what an unknown caller may."""

    store: bool = True
    query: bool = False
    retrieve: bool = False
    commit: bool = False
    visible: Visible = Visible()


UNKNOWN: Final = Rights()


def rights_from_json(message: Mapping[str, Any]) -> Rights:
    """What `dataclasses.asdict` made of it, after a way through JSON."""
    visible = message["visible"]
    conditions = tuple(Condition(**one) for one in visible["conditions"])
    seen = Visible(tuple(visible["sources"]), tuple(visible["modalities"]), conditions)
    return Rights(**{**message, "visible": seen})


def items_of(text: str) -> tuple[str, ...]:
    """What stands between commas or on lines of its own, without the space around it: AE titles may hold spaces."""
    return tuple(item.strip() for item in _ITEMS.split(text) if item.strip())


def conditions_parse(lines: Iterable[str]) -> tuple[Condition, ...]:
    """One condition a line, empty lines passed over. Raises ConfigurationError (`condition-invalid`), naming the line
    by its number.
    """
    found: list[Condition] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _CONDITION.fullmatch(line.strip())
        if match is None or match[1] not in SEEN_KEYWORDS or len(found) == MAX_CONDITIONS:
            raise ConfigurationError(
                f"Line {number} is no condition such as `StudyDescription != *RESEARCH*`: at most {MAX_CONDITIONS}, "
                f"each on one of {', '.join(SEEN_KEYWORDS)}.",
                code="condition-invalid",
            )
        found.append(Condition(match[1], match[2] == "!=", match[3]))
    return tuple(found)
