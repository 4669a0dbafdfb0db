"""What the documentation says is what the code does."""

import re
from pathlib import Path

import pytest

from gateway_project.core.option_docs import options_markdown
from gateway_project.core.options import REGISTRY
from tests.architecture.test_house import ROOT, tracked

DOCS = tracked("*.md")


def test_settings_page_is_made_from_the_options():
    assert (ROOT / "docs/settings.md").read_text() == options_markdown(), (
        "run: manage.py optionlist --markdown > docs/settings.md"
    )


def test_every_option_is_read_somewhere():
    code = "\n".join(p.read_text() for p in tracked("*.py") if p.name not in ("options.py",) and "tests" not in p.parts)
    unread = [o.key for o in REGISTRY.all() if f'"{o.key}"' not in code and o.environment_name not in code]
    assert unread == []


@pytest.mark.parametrize("page", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_every_decision_is_listed():
    pages = {path.name for path in (ROOT / "docs/decisions").glob("0*.md")}
    assert set(re.findall(r"\((0[^)]+\.md)\)", (ROOT / "docs/decisions/README.md").read_text())) == pages


def test_faults_survived_name_tests_that_exist():
    for named in re.findall(r"`(tests/[^`]+)`", (ROOT / "docs/faults.md").read_text()):
        found = list(ROOT.glob(named)) if "*" in named else [ROOT / named]
        assert found, named
        assert all(path.exists() for path in found), named


def test_readme_names_the_default_addresses():
    readme = (ROOT / "README.md").read_text()
    for host, port in (("WEB.HOST", "WEB.PORT"), ("DICOM.HOST", "DICOM.PORT")):
        assert f"{REGISTRY.get(host).default}:{REGISTRY.get(port).default}" in readme
    assert str(REGISTRY.get("VAULT_SERVER.PORT").default) in readme
    assert f"`{REGISTRY.get('DICOM.AE_TITLE').default}`" in readme


def test_readme_names_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)`?", (ROOT / "README.md").read_text())) <= targets | {"is"}
