"""What every test stands on: the outside judges' programs, and a prepared data directory to copy."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.gateway_harness import Gateway, data_directory_prepare
from tests.outside import dcmjs
from tests.outside.npm import npm_missing
from tests.reactor import reactor_mend
from tests.servers import postgres, redis_server

reactor_mend()

# What CI tries is the same for everybody; at home each run tries something new. The machines are shared: no deadlines.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("home", deadline=None)
settings.load_profile("ci" if os.environ.get("GATEWAY_CI") else "home")


def program_missing(program: str) -> str:
    return "" if shutil.which(program) else program


def orthanc_missing() -> str:
    plugin = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    return program_missing("Orthanc") or ("" if plugin.exists() else "orthanc-dicomweb")


# What each mark's judge lacks on this machine; empty where it can judge.
JUDGES: dict[str, Callable[[], str]] = {
    "dcmtk": partial(program_missing, "storescu"),
    "browser": partial(program_missing, "chromium"),
    "dcmjs": partial(npm_missing, dcmjs.PACKAGE),
    "jose": partial(npm_missing, "jose"),
    "axe": partial(npm_missing, "axe-core"),
    "orthanc": orthanc_missing,
    "postgres": postgres.missing,
    "redis": redis_server.missing,
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A judge that this machine lacks: skipped and counted, but a failure in CI, where nothing may be left out."""
    for mark, missing in JUDGES.items():
        if item.get_closest_marker(mark) is not None and (lacking := missing()):
            (pytest.fail if os.environ.get("GATEWAY_CI") else pytest.skip)(f"{lacking} is not installed")


SLOW_ELSEWHERE = (
    "tests/faults/",
    "tests/uploads/test_upload_property.py",
    "tests/uploads/test_weekend.py",
    "tests/uploads/test_custody_size.py",
)
ON_POSTGRES = os.environ.get("GATEWAY_TEST_DATABASE") == "postgres"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL only what works with the database in its own process: the rest would do the same as before."""
    if ON_POSTGRES:
        chosen = [item for item in items if uses_the_database(item) and (not is_slow(item) or soaking(config))]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen


def uses_the_database(item: pytest.Item) -> bool:
    fixtures = {"db", "transactional_db", "live_server"} & set(getattr(item, "fixturenames", ()))
    return bool(fixtures or item.get_closest_marker("django_db"))


def is_slow(item: pytest.Item) -> bool:
    """What takes long for another reason than its database: `make soak` has it on PostgreSQL."""
    marked = any(item.get_closest_marker(name) for name in ("browser", "dcmtk", "orthanc", "dcmjs", "jose"))
    return marked or item.nodeid.startswith(SLOW_ELSEWHERE)


def soaking(config: pytest.Config) -> bool:
    return str(config.getoption("markexpr")) != "not soak"


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """On PostgreSQL nothing is left of a choice that has nothing to do with the database: that is no failure."""
    if ON_POSTGRES and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture
def django_assert_max_num_queries(django_assert_max_num_queries: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Without the question whether options have changed, which is asked every two seconds and so by some runs only."""
    from gateway_project.core.options import REGISTRY, option

    def counted(*arguments: Any, **named: Any) -> Any:
        REGISTRY.invalidate()
        option("DICOM.AE_TITLE")
        monkeypatch.setattr(REGISTRY, "_next_poll", float("inf"))
        return django_assert_max_num_queries(*arguments, **named)

    return counted


@pytest.fixture(autouse=True)
def settings_count_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What receiving remembers of the settings for a fifth of a second, it forgets at once; what the list of studies
    remembers of its sources for a minute, no test has from another.
    """
    from gateway_project.wiring import study_filters
    from studies.services import admit, ingress

    monkeypatch.setattr(admit, "FREE_SECONDS", 0.0)
    monkeypatch.setattr(ingress, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(study_filters._SOURCES, "_until", 0.0)
    monkeypatch.setattr(study_filters._MODALITIES, "_until", 0.0)


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
    with gateway_of(prepared_directory, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared_gateway(prepared_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The same for all tests of a module, none of which may harm the others."""
    with gateway_of(prepared_directory, tmp_path_factory.mktemp("shared")) as made:
        yield made


@contextmanager
def gateway_of(prepared_directory: Path, folder: Path) -> Iterator[Gateway]:
    data = folder / "data"
    shutil.copytree(prepared_directory, data, symlinks=True)
    running = Gateway(data)
    try:
        yield running
    finally:
        running.kill()
