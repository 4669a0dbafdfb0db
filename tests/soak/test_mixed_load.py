"""Senders of several makes, attackers and re-sends at once, while receivers and listeners are killed and restarted.

make soak                                          an hour; GATEWAY_SOAK_MINUTES says otherwise
GATEWAY_SOAK_SEED=7 make test PYTEST_ARGS='-k mixed_load'      the same kills and sizes again
"""

import logging
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.gateway_harness import Gateway
from tests.soak.chaos import DECK, KILL_RECEIVER, Life, plan
from tests.soak.senders import pynetdicom
from tests.soak.soak import Soak
from tests.soak.stock import SMALL_SIDE

MINUTES = float(os.environ.get("GATEWAY_SOAK_MINUTES", "60"))
SHORT_SECONDS = 6.0


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """pynetdicom's requestor writes several lines about each connection that it cannot have."""
    caplog.set_level(logging.CRITICAL, logger="pynetdicom")


def seed() -> int:
    return int(os.environ.get("GATEWAY_SOAK_SEED", "") or time.time())


def soak(gateway: Gateway, folder: Path, seconds: float) -> str:
    one = Soak(gateway, folder / "stock", seconds=seconds, seed=seed())
    print(f"GATEWAY_SOAK_SEED={one.seed}")
    words = one.run()
    print(words)
    shutil.rmtree(folder)
    return words


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # pynetdicom's, where it could not connect
@pytest.mark.timeout(240)
def test_short_mixed_load_with_kills_loses_nothing(gateway: Gateway, tmp_path: Path) -> None:
    soak(gateway, tmp_path, SHORT_SECONDS)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.timeout(MINUTES * 90 + 600)
def test_mixed_load_with_kills_loses_nothing(
    gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        soak(gateway, tmp_path, MINUTES * 60)


@pytest.mark.parametrize("seconds", [SHORT_SECONDS, 3600])
def test_plan_kills_everything_and_then_lets_an_acceptor_live(seconds: float) -> None:
    actions = plan(random.Random(1), seconds)
    kinds = [action for _gap, action in actions]
    last = max(index for index, kind in enumerate(kinds) if kind != KILL_RECEIVER)
    assert set(kinds[: last + 1]) == set(DECK)
    assert sum(gap for gap, _action in actions[last + 1 :]) > seconds / 4
    assert actions == plan(random.Random(1), seconds)


def test_growth_of_an_acceptor_is_noticed() -> None:
    def life(resident_bytes: int, descriptors: int) -> Life:
        return Life([(1.0, 1 << 20, 10), (6.0, 60 << 20, 20), (9.0, resident_bytes, descriptors), (99.0, 60 << 20, 20)])

    assert life(100 << 20, 50).grew() == ""
    assert "resident" in life(110 << 20, 20).grew()
    assert "descriptors" in life(60 << 20, 60).grew()


def test_reckoning_notices_what_is_lost_doubled_or_left_over(gateway: Gateway, tmp_path: Path) -> None:
    """One honest burst; then each thing that must never be, one after the other."""
    one = Soak(gateway, tmp_path / "stock", seconds=0, seed=1)
    items = one.stock.take(random.Random(1), 3, side=SMALL_SIDE)
    listeners = gateway.start_listeners()
    one.promised |= pynetdicom(gateway.dimse_port, items)
    gateway.stop(listeners)
    one.reckon()

    one.promised.add("1.2.3")
    with pytest.raises(AssertionError, match="lost"):
        one.reckon()
    one.promised.remove("1.2.3")

    stray, left = gateway.store / "objects" / "stray.dcm", gateway.store / "incoming" / "left.slot"
    for path, words in ((stray, "without a row"), (left, "left.slot")):
        path.write_bytes(b"x")
        with pytest.raises(AssertionError, match=words):
            one.reckon()
        path.unlink()

    kept = gateway.store / gateway.value("SELECT path FROM studies_instance LIMIT 1")
    whole = kept.read_bytes()
    kept.chmod(0o600)
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(AssertionError, match="other bytes"):
        one.reckon()
    kept.write_bytes(whole)
    one.reckon()
