"""A short, deterministic run of every fuzz target, and proof that each would notice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from network.dimse import command
from studies.dicom import header, normalise, part10
from studies.dicom.scan import DatasetScanner
from tests.fuzz import promises
from tests.fuzz.mutations import mutations, run
from tests.fuzz.promises import TARGETS
from tests.fuzz.seeds import SEEDS, dataset_seeds
from tests.gateway_harness import ROOT

ROUNDS = {"scan": 1500, "readings": 500, "content": 500}


def tried(target: str, *, rounds: int, kept: list[bytes] | None = None) -> int:
    kept = [] if kept is None else kept
    return run(TARGETS[target], mutations(SEEDS[target](), seed=20261120), failed=kept.append, rounds=rounds)


@pytest.mark.parametrize("target", TARGETS)
def test_thousands_of_broken_inputs_break_no_promise(target: str) -> None:
    rounds = ROUNDS.get(target, 2000)
    assert tried(target, rounds=rounds) == rounds


def test_seeds_are_walked_to_their_end_in_part() -> None:
    outcomes = [promises.scan_outcome(*promises.dataset_of_input(seed), 4096)[0] for seed in dataset_seeds()]
    assert outcomes.count("whole") > 10
    assert outcomes.count("dataset-truncated") > 10
    contents = [promises.content_outcome(*promises.dataset_of_input(seed)) for seed in dataset_seeds()]
    assert len({one.sha256 for one in contents if isinstance(one, normalise.Content)}) > 10


def raises(*_arguments: object) -> None:
    raise IndexError


FAULTS = {
    "scan": (DatasetScanner, "finish", raises),
    "readings": (header, "text_decode", lambda *_raw, **_declared: "a\nb"),
    "part10": (part10, "_length_of", raises),
    "content": (normalise, "_dictionary_vr", raises),
    "command": (command, "command_short", raises),
    "request": (promises, "associate_request_check", raises),
    "question": (promises, "codecs_of", raises),
}


@pytest.mark.parametrize("target", TARGETS)
def test_fault_is_noticed_and_its_input_handed_over(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []
    monkeypatch.setattr(*FAULTS[target])
    with pytest.raises((IndexError, promises.PromiseError)):
        tried(target, rounds=1000, kept=kept)
    monkeypatch.undo()
    TARGETS[target](kept[0])


def test_outcome_that_depends_on_the_chunks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = DatasetScanner.feed

    def feed(scanner: DatasetScanner, data: memoryview) -> None:
        real(scanner, data)
        if len(data) > 100:  # more than a seed's second byte asks for
            scanner._flags.add("wrong-vr")

    whole = next(
        seed
        for seed in dataset_seeds()
        if promises.scan_outcome(*promises.dataset_of_input(seed), 99)[:2] == ("whole", ())
    )
    monkeypatch.setattr(DatasetScanner, "feed", feed)
    with pytest.raises(promises.PromiseError, match="chunks"):
        promises.scan(whole)


def test_command_fuzzes_for_so_many_seconds_and_replays_an_input(tmp_path: Path) -> None:
    def fuzz(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.fuzz", *words]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)

    done = fuzz("command", "--seconds", "1", "--seed", "7")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "seed 7" in done.stdout
    (tmp_path / "input").write_bytes(b"anything")
    assert fuzz("command", "--replay", "input").returncode == 0
    assert "no such target" in fuzz("scann").stderr
