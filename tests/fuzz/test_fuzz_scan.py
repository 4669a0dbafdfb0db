"""A short, deterministic run of the fuzz target, and proof that it would notice."""

from pathlib import Path

import pytest

from studies.dicom.header import Header
from studies.dicom.scan import DatasetScanner
from tests.fuzz import fuzz_scan


def test_thousands_of_broken_files_break_no_promise() -> None:
    assert fuzz_scan.run(fuzz_scan.mutations(seed=20261120), rounds=1500) == 1500


def test_seeds_are_walked_to_their_end_in_part() -> None:
    outcomes = [fuzz_scan._outcome(fuzz_scan.SYNTAXES[s[0] % 6], s[2:], 4096)[0] for s in fuzz_scan.seeds()]
    assert len(outcomes) > 100
    assert outcomes.count("whole") > 10
    assert outcomes.count("dataset-truncated") > 10


def test_fault_of_the_walk_is_noticed_and_its_input_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = DatasetScanner.finish

    def finish(scanner: DatasetScanner) -> Header:
        header = real(scanner)
        raise IndexError(len(header.values))

    monkeypatch.setattr(fuzz_scan, "FAILURES", tmp_path)
    monkeypatch.setattr(DatasetScanner, "finish", finish)
    with pytest.raises(IndexError):
        fuzz_scan.run(fuzz_scan.mutations(seed=1), rounds=1000)
    (kept,) = tmp_path.iterdir()
    monkeypatch.undo()
    fuzz_scan.one_input(kept.read_bytes())


def test_outcome_that_depends_on_the_chunks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = DatasetScanner.feed

    def feed(scanner: DatasetScanner, data: memoryview) -> None:
        real(scanner, data)
        scanner._flags.add(str(len(data)))

    monkeypatch.setattr(DatasetScanner, "feed", feed)
    whole = next(
        seed
        for seed in fuzz_scan.seeds()
        if fuzz_scan._outcome(fuzz_scan.SYNTAXES[seed[0] % 6], seed[2:], 99)[0] == "whole"
    )
    with pytest.raises(fuzz_scan.InvariantError):
        fuzz_scan.one_input(whole)
