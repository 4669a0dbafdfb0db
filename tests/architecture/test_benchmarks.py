"""`make bench` works: a few objects through everything that it measures. No figure is judged here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import program

ROOT = Path(__file__).resolve().parents[2]
COMPARISONS = [
    ("receive 8 x 526 kB CT, tuned sender", "Orthanc"),
    ("receive 8 x 526 kB CT, tuned sender", "DCMTK storescp"),
    ("receive 20 x 8 kB small, tuned sender", "Orthanc"),
    ("receive 20 x 8 kB small, tuned sender", "DCMTK storescp"),
    ("receive 5 x 8 kB small, sender as installed", "Orthanc"),
    ("receive 5 x 8 kB small, sender as installed", "DCMTK storescp"),
    ("seal 8 CT (4 MB) in memory", "primitives"),
    ("open 8 CT (4 MB) in memory", "our sealing in memory"),
    ("upload 8 CT (4 MB) to the local vault", "primitives"),
    ("open 8 CT (4 MB) from the vault, recipient's tool", "our upload"),
    ("upload 8 small to the local vault", "primitives"),
]
MEASURE = re.compile(r"[\d.e-]+ s \(n=1\), [\d.e-]+ ms each, [\d.e+-]+ MB/s")


@pytest.mark.dcmtk
@pytest.mark.timeout(60)
def test_quick_benchmark_prints_every_comparison_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick"]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    table = {(cells[0], cells[2]): cells for cells in lines[2:]}
    assert list(table) == COMPARISONS
    for (_figure, beside), (_, ours, _, theirs, ratio, to_reach) in table.items():
        assert MEASURE.fullmatch(ours), ours
        assert to_reach
        if beside == "Orthanc" and program("Orthanc") is None:
            assert (theirs, ratio) == ("not installed", "-")
            continue
        assert MEASURE.fullmatch(theirs), theirs
        assert re.fullmatch(r"[\d.e-]+x", ratio), ratio
    for named in ("machine", "load", "disk", "versions"):
        assert re.search(rf"^{named} +\S", done.stdout, re.MULTILINE), done.stdout
    assert list(tmp_path.iterdir()) == []
