"""The look's own rules: contrast of every pair of tokens that meet, and icons that exist."""

import re

import pytest
from django.conf import settings

STYLE = (settings.BASE_DIR / "static" / "gateway.css").read_text()
TOKEN = re.compile(r"--([a-z-]+): (#[0-9a-f]{6});")
LIGHT = dict(TOKEN.findall(STYLE.split("@media (prefers-color-scheme: dark)")[0]))
DARK = LIGHT | dict(TOKEN.findall(STYLE.split("@media (prefers-color-scheme: dark)")[1]))
GROUNDS = ("ground", "surface", "raised")
PAIRS = [
    *((text, ground) for text in ("ink", "muted", "accent", "ok", "warn", "bad") for ground in GROUNDS),
    *((tone, f"{tone}-soft") for tone in ("ok", "warn", "bad", "accent")),
    *(("ink", f"{tone}-soft") for tone in ("ok", "warn", "bad", "accent", "calm")),
    ("muted", "calm-soft"),
    ("on-accent", "accent"),
]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("tokens", [LIGHT, DARK], ids=["light", "dark"])
def test_text_contrasts_with_its_ground_as_wcag_aa_asks(tokens: dict[str, str]) -> None:
    poor = []
    for text, ground in PAIRS:
        dark, bright = sorted((luminance(tokens[text]), luminance(tokens[ground])))
        if (bright + 0.05) / (dark + 0.05) < 4.5:
            poor.append((text, ground))
    assert poor == []


def test_every_colour_of_the_light_has_its_dark_twin() -> None:
    dark = STYLE.split("@media (prefers-color-scheme: dark)")[1]
    assert set(LIGHT) == {name for name, _colour in TOKEN.findall(dark)}


def test_every_icon_that_is_used_is_drawn() -> None:
    drawn = set(re.findall(r'<symbol id="([a-z]+)"', (settings.BASE_DIR / "static" / "icons.svg").read_text()))
    used = set()
    for template in (settings.BASE_DIR / "templates").rglob("*.html"):
        used |= set(re.findall(r'{% icon "([a-z]+)"', template.read_text()))
    from gateway_project.wiring.templatetags.gateway import JOB_MARKS, STUDY_MARKS

    used |= {icon for icon, _tone in [*STUDY_MARKS.values(), *JOB_MARKS.values()]}
    assert used <= drawn
