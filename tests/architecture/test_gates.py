"""Each gate of `make check` fails on a planted error: a gate that matches nothing would pass for ever."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.test_house import ROOT, tracked

pytestmark = [pytest.mark.timeout(180)]
BIN = Path(sys.executable).parent
CHECKS = [sys.executable, "-m", "gateway_project.checks"]


@pytest.fixture(scope="module")
def clean_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as git would give it, in a folder of its own."""
    copy = tmp_path_factory.mktemp("copy")
    for path in tracked("*"):
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return copy


def gate(copy: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=170, check=False)


def planted(copy: Path, name: str, text: str) -> tuple[Path, str | None]:
    """Adds the text to the file's end (or makes the file); answers what restores it."""
    path = copy / name
    before = path.read_text() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((before or '"""Planted."""\n') + text)
    return path, before


def restore(path: Path, before: str | None) -> None:
    if before is None:
        path.unlink()
    else:
        path.write_text(before)


PLANTS = {
    "format": (
        [str(BIN / "ruff"), "format", "--check", "."],
        "studies/planted.py",
        "x  =  1\n",
        r"studies/planted\.py",
    ),
    "lint": ([str(BIN / "ruff"), "check", "."], "studies/planted.py", "import os\n", "F401"),
    "complexity": (
        [str(BIN / "ruff"), "check", "."],
        "studies/planted.py",
        "def f(x: int) -> int:\n"
        + "".join(f"    if x == {n}:\n        return {n}\n" for n in range(12))
        + "    return 0\n",
        "C901",
    ),
    "layers": (
        [str(BIN / "lint-imports")],
        "gateway_project/core/planted.py",
        "import studies.models\n",
        "One order of imports",
    ),
    "siblings": ([str(BIN / "lint-imports")], "hl7/planted.py", "import uploads.models\n", "One order of imports"),
    "upwards in an app": (
        [str(BIN / "lint-imports")],
        "studies/models.py",
        "import studies.services.settle\n",
        "always downwards",
    ),
    "Django in a pure package": (
        [str(BIN / "lint-imports")],
        "studies/dicom/planted.py",
        "import django.db\n",
        "Protocol code is pure",
    ),
    "decryption in the gateway": (
        [str(BIN / "lint-imports")],
        "uploads/services/planted.py",
        "import uploads.envelope.unseal\n",
        "The gateway cannot decrypt",
    ),
    "types": ([str(BIN / "mypy")], "studies/dicom/planted.py", "def f(x) -> int:\n    return 'a'\n", r"planted\.py"),
    "deployment": (CHECKS, "gateway_project/settings.py", "SECURE_HSTS_SECONDS = 0\n", r"security\.W004"),
    "migrations": (
        CHECKS,
        "routing/models.py",
        "from django.db import models\n\n\nclass Planted(models.Model):\n    name = models.TextField()\n",
        "Create model Planted",
    ),
}


@pytest.mark.parametrize("name", PLANTS)
def test_gate_fails_on_a_planted_error(clean_copy: Path, name: str) -> None:
    command, file, text, found = PLANTS[name]
    path, before = planted(clean_copy, file, text)
    try:
        done = gate(clean_copy, *command)
    finally:
        restore(path, before)
    assert done.returncode != 0
    assert re.search(found, done.stdout + done.stderr), (done.stdout + done.stderr)[-2000:]


def test_every_gate_is_in_the_makefile() -> None:
    recipe = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    for tool in ("ruff format --check", "ruff check", "lint-imports", "mypy", "gateway_project.checks"):
        assert tool in recipe


def test_ci_calls_the_same_targets() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert "make check" in script
    assert "make test" in script


@pytest.mark.parametrize(
    ("variables", "installs"),
    [({"NPM": "npm"}, True), ({"NPM": ""}, False), ({"NPM": "", "GATEWAY_CI": "1"}, True)],
    ids=["with npm", "without npm", "in CI without npm"],
)
def test_outside_sender_is_installed_where_npm_is_and_always_in_ci(variables: dict[str, str], installs: bool) -> None:
    words = [f"{name}={value}" for name, value in ({"GATEWAY_CI": ""} | variables).items()]
    plan = gate(ROOT, "make", "-n", "-W", "tests/outside/package-lock.json", "test", *words)
    assert plan.returncode == 0, plan.stderr
    assert ("npm ci" in plan.stdout) is installs


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("1", 2)], ids=["at home", "in CI"])
def test_failing_npm_stops_ci_alone(clean_copy: Path, tmp_path: Path, ci: str, code: int) -> None:
    (tmp_path / "npm").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "npm").chmod(0o700)
    target = "tests/outside/node_modules/.package-lock.json"
    command = ["env", f"PATH={tmp_path}:/usr/bin:/bin", f"GATEWAY_CI={ci}", "make", target]
    assert gate(clean_copy, *command).returncode == code
