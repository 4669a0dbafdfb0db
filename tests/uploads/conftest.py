"""A house with a data directory of its own."""

from pathlib import Path

import pytest

from tests.uploads.upload_house import House


@pytest.fixture
def house(db: None, tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch) -> House:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir(mode=0o700)
    monkeypatch.setenv("GATEWAY_STORAGE__STOP_SPACE_GB", "0")
    monkeypatch.setenv("GATEWAY_UPLOAD__PARALLEL_FILES", "1")  # in turn, so that a test knows what comes after what
    found = House()
    monkeypatch.setattr("uploads.tasks.vault_client", lambda _vault: found.vault)
    monkeypatch.setattr("gateway_project.core.tasks.close_old_connections", lambda: None)  # the test's own transaction
    return found
