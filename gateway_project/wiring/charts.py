"""Charts as places on a grid, for one SVG template: pure arithmetic; bars, and marks above them.

The SVG is stretched to the width it is given, so nothing in it has a width that must not change: words stand beside it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 1000.0, 100.0
GAP_SHARE = 0.22
LEAST_HEIGHT = 1.5


@dataclass(frozen=True)
class Point:
    """One step of a chart: its words, its value, and perhaps a second, higher one. None: nothing happened."""

    label: str
    value: float | None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Bar:
    x: str
    y: str
    width: str
    height: str
    hit_x: str
    hit_width: str
    mark_y: str
    title: str


@dataclass(frozen=True)
class Chart:
    """`top` and `middle` are the words of the two lines across; `ticks` stand below, evenly spread over the width."""

    name: str
    title: str
    description: str
    bars: list[Bar]
    top: str
    middle: str
    ticks: list[str]
    rows: list[tuple[str, ...]]
    columns: tuple[str, ...]
    empty: str


def chart(
    name: str,
    points: Sequence[Point],
    *,
    title: str,
    description: str,
    words: Callable[[float], str],
    scale: Callable[[float], float],
    ticks: list[str],
    rows: list[tuple[str, ...]],
    columns: tuple[str, ...],
    empty: str,
) -> Chart:
    """`words` says a value, `scale` answers the value that the top line stands for."""
    highest = max((point.high or point.value or 0.0 for point in points), default=0.0)
    top = scale(highest) if highest > 0 else 0.0
    return Chart(
        name=name,
        title=title,
        description=description,
        bars=[_bar(number, point, len(points), top) for number, point in enumerate(points)] if top else [],
        top=words(top) if top else "",
        middle=words(top / 2) if top else "",
        ticks=ticks,
        rows=rows,
        columns=columns,
        empty=empty,
    )


def _bar(number: int, point: Point, count: int, top: float) -> Bar:
    step = WIDTH / count
    value = point.value or 0.0
    height = max(HEIGHT * value / top, LEAST_HEIGHT) if value > 0 else 0.0
    return Bar(
        x=_place(number * step + step * GAP_SHARE / 2),
        y=_place(HEIGHT - height),
        width=_place(step * (1 - GAP_SHARE)),
        height=_place(height),
        hit_x=_place(number * step),
        hit_width=_place(step),
        mark_y=_place(HEIGHT - HEIGHT * point.high / top) if point.high is not None else "",
        title=f"{point.label}: {point.note}" if point.note else point.label,
    )


def _place(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def scale_decimal(highest: float) -> float:
    """The next of 1, 2, 4, 5, 10 times a power of ten, which halves well: for bytes and counts."""
    power: float = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= highest)


def scale_duration(highest: float) -> float:
    """A time that people say, and that halves into one: 2 min, 10 min, 1 h, 4 h ..."""
    steps = (10, 20, 60, 120, 240, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400)
    return float(next((step for step in steps if step >= highest), 172_800 * math.ceil(highest / 172_800)))
