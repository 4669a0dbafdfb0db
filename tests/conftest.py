"""What every test stands on: the outside judges' programs, and a prepared data directory to copy."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.gateway_harness import Gateway, data_directory_prepare

# What CI tries is the same for everybody; at home each run tries something new. The machines are shared: no deadlines.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("home", deadline=None)
settings.load_profile("ci" if os.environ.get("GATEWAY_CI") else "home")

JUDGES = {
    "dcmtk": "storescu",
    "browser": "chromium",
    "orthanc": "Orthanc",
}
# What a judge needs beside its program.
PLUGINS = {"orthanc": Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A judge that this machine lacks: skipped and counted, but a failure in CI, where nothing may be left out."""
    for mark, program in JUDGES.items():
        missing = shutil.which(program) is None or (mark in PLUGINS and not PLUGINS[mark].exists())
        if item.get_closest_marker(mark) is not None and missing:
            (pytest.fail if os.environ.get("GATEWAY_CI") else pytest.skip)(f"{program} is not installed")


@pytest.fixture(scope="session")
def prepared_directory() -> Iterator[Path]:
    """A data directory as the first start leaves it; made once for each test process, to be copied."""
    with tempfile.TemporaryDirectory(prefix="gateway-prepared-") as folder:
        path = Path(folder) / "data"
        data_directory_prepare(path)
        yield path


@pytest.fixture
def gateway(prepared_directory: Path, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of its own: its processes, ports and data; nothing of it is left afterwards."""
    data = tmp_path / "data"
    shutil.copytree(prepared_directory, data, symlinks=True)
    running = Gateway(data)
    yield running
    running.kill()
