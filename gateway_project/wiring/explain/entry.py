"""One error code explained."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """`title`: what happened, in a few words. `cause`: why, most likely. `step`: what to do next, by whom.

    `heals`: the gateway goes on by itself once the cause is gone; else somebody has to do something.
    """

    code: str
    title: str
    cause: str
    step: str
    heals: bool = False


E = Explanation  # the catalogue is long


@dataclass(frozen=True)
class Area:
    """The codes of one part of the gateway, in the order in which the manual lists them."""

    key: str
    title: str
    intro: str
    entries: tuple[Explanation, ...]
