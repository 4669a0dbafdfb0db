"""The cache of pictures: bounded in bytes and age, forgetful on demand, harmless when it fails."""

import fcntl
import os
import time
from pathlib import Path

import pytest

from studies.dicom.render_request import Request
from studies.services import picture_cache
from studies.services.picture_cache import PictureCache, picture_name

MOST = 100_000
FACTS = {"frame": 1, "format": "png"}


@pytest.fixture
def cache(tmp_path: Path) -> PictureCache:
    return PictureCache(tmp_path / "pictures")


def keep(cache: PictureCache, key: str, *, size: int = 10_000, age: float = 0.0) -> None:
    before = set(cache.root.rglob("*.picture"))
    cache.store(key, Request(), (FACTS, bytes(size)), most_bytes=MOST)
    for path in set(cache.root.rglob("*.picture")) - before:
        os.utime(path, (time.time() - age, time.time() - age))


def kept(cache: PictureCache, keys: list[str]) -> list[str]:
    return [key for key in keys if cache.load(key, Request()) is not None]


def test_what_is_kept_comes_back_for_the_same_question_alone(cache: PictureCache) -> None:
    cache.store("k1", Request(frame=2, center=1, width=2), (FACTS, b"\n{}\npixels"), most_bytes=MOST)
    assert cache.load("k1", Request(frame=2, center=1, width=2)) == (FACTS, b"\n{}\npixels")
    for key, other in (("k2", Request(frame=2, center=1, width=2)), ("k1", Request(frame=3, center=1, width=2)),
                       ("k1", Request(frame=2)), ("k1", Request(frame=2, center=1, width=2, size=64))):  # fmt: skip
        assert cache.load(key, other) is None


def test_hash_of_the_file_is_no_part_of_the_question() -> None:
    assert picture_name("k", Request(sha256="a" * 64)) == picture_name("k", Request())


def test_cache_stays_within_its_bytes_and_the_longest_unseen_go_first(cache: PictureCache) -> None:
    keys = [f"k{n}" for n in range(40)]
    for n, key in enumerate(keys):
        keep(cache, key, age=1000 - n)
        assert sum(path.stat().st_size for path in cache.root.rglob("*.picture")) <= MOST * 1.2
    assert 0 < cache.trim(most_bytes=MOST) <= MOST
    left = kept(cache, keys)
    assert left == keys[-len(left) :]
    assert len(left) >= 8


def test_picture_that_was_looked_at_stays(cache: PictureCache) -> None:
    for n in range(9):
        keep(cache, f"k{n}", age=90_000 - n)
    assert cache.load("k0", Request()) is not None
    cache.trim(most_bytes=30_000)
    assert "k0" in kept(cache, ["k0", "k1"])
    assert "k1" not in kept(cache, ["k0", "k1"])


def test_old_pictures_go_although_there_is_room(cache: PictureCache) -> None:
    keep(cache, "old", age=31 * 86_400)
    keep(cache, "new")
    cache.trim(most_bytes=MOST)
    assert kept(cache, ["old", "new"]) == ["new"]


def test_one_object_is_forgotten_with_all_its_pictures(cache: PictureCache) -> None:
    for size in (64, 128, 4096):
        cache.store("gone", Request(size=size), (FACTS, b"x"), most_bytes=MOST)
    keep(cache, "stays")
    cache.forget("gone")
    assert all(cache.load("gone", Request(size=size)) is None for size in (64, 128, 4096))
    assert kept(cache, ["stays"]) == ["stays"]
    cache.forget("never there")


def test_reason_that_may_pass_is_asked_again_after_ten_minutes(cache: PictureCache, monkeypatch) -> None:
    for key, passing in (("slow", True), ("report", False)):
        facts = {"error": "picture-slow", "words": "", "passing": passing}
        cache.store(key, Request(), (facts, b""), most_bytes=MOST)
    assert kept(cache, ["slow", "report"]) == ["slow", "report"]
    monkeypatch.setattr(picture_cache, "FAULT_SECONDS", -1)
    assert kept(cache, ["slow", "report"]) == ["report"]


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\n", b"x" * 100_000])
def test_damaged_entry_is_as_none(cache: PictureCache, damage: bytes) -> None:
    keep(cache, "k")
    next(cache.root.rglob("*.picture")).write_bytes(damage)
    assert cache.load("k", Request()) is None


def test_disk_that_takes_nothing_costs_no_picture(cache: PictureCache) -> None:
    cache.root.parent.mkdir(exist_ok=True)
    cache.root.write_text("not a directory")
    cache.store("k", Request(), (FACTS, b"x"), most_bytes=MOST)
    assert cache.load("k", Request()) is None


def test_two_processes_do_not_trim_at_once(cache: PictureCache) -> None:
    keep(cache, "k")
    with (cache.root / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cache.trim(most_bytes=1) == -1
    assert kept(cache, ["k"]) == ["k"]
