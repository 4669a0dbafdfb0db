"""Sizes, times and names as people say them."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway_project.wiring.words import (
    ago_words,
    count_words,
    duration_words,
    isolated,
    person_words,
    size_words,
    uid_short,
)

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_440, "99.4 kB"),
        (206_000_000, "206 MB"),
        (999_700, "1.0 MB"),
        (5_300_000_000, "5.3 GB"),
        (7 * 10**18, "7000 PB"),
        (None, ""),
    ],
)
def test_size(size: int | None, words: str) -> None:
    assert size_words(size).replace("\u00a0", " ") == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (192, "3 min 12 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration_words(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "just now"),
        (4, "just now"),
        (12, "12 s ago"),
        (3599, "59 min ago"),
        (86_400, "1 day ago"),
        (200_000, "2 days ago"),
        (-240, "in 4 min"),
    ],
)
def test_ago(seconds: int, words: str) -> None:
    assert ago_words(NOON - timedelta(seconds=seconds), NOON) == words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Muster^Eva^Maria^Dr.^M.Sc.", "Muster, Eva Maria"),
        ("Muster", "Muster"),
        ("^Eva", "Eva"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou"),
        ("=山田^太郎", "山田, 太郎"),
        ("^^^^", ""),
        ("", ""),
        ("a^b^c^d^e^f^g", "a, b c"),
    ],
)
def test_person(name: str, words: str) -> None:
    assert person_words(name) == words


def test_count_and_uid() -> None:
    assert count_words(1, "study", "studies") == "1 study"
    assert count_words(1204, "study", "studies") == "1,204 studies"
    assert uid_short("1.2.840.10008.1.2") == "1.2.840.10008.1.2"
    assert uid_short("1.2.826.0.1.3680043.10.511.20260001.7919.1") == "1.2.826.0.1…01.7919.1"


def test_only_what_is_written_from_right_to_left_is_set_apart() -> None:
    assert isolated("Müller, Zoë") == "Müller, Zoë"
    hebrew = "\u05db\u05d4\u05df, \u05d3\u05d5\u05d3"
    assert isolated(hebrew) == f"\u2068{hebrew}\u2069"
    assert isolated("") == ""
