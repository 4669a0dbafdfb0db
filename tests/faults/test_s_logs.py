"""S21: the disk or directory of the logs takes nothing. Receiving goes on, an alert tells, and all heals by itself."""

import logging
import os
from pathlib import Path

import pytest
from django.utils.timezone import now

from gateway_project.core.log_files import directory_probe
from gateway_project.core.models import Alert
from gateway_project.core.queues import REGISTRY
from gateway_project.core.tasks import logs_watch
from gateway_project.wiring.supervision import supervisor_config
from tests.studies.test_store import in_own_mounts

RECEIVE = """
import logging.config, os, pathlib, subprocess, sys
os.environ["GATEWAY_STORAGE__STOP_SPACE_GB"] = os.environ["GATEWAY_STORAGE__LOW_SPACE_GB"] = "0"
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
os.environ["GATEWAY_STORAGE__STOP_SPACE_GB"] = "0"
from gateway_project.core.log_files import directory_probe, lines_lost
from gateway_project.core.logs import console_silence, logging_config
from tests.studies.house import House
folder = pathlib.Path(sys.argv[1])
logs = folder / "logs"
logging.config.dictConfig(logging_config(directory=logs))
console_silence()
logger = logging.getLogger("studies.test")
house = House(folder / "store")
filler = logs / "filler"
def fill():
    try:
        with filler.open("ab", buffering=0) as stream:
            while stream.write(bytes(4096)):
                pass
    except OSError:
        return
fill()
logger.warning("one")
kept = []
for number in range(20):
    logger.warning("object", extra={"number": number})
    kept.append(house.receive(f"1.2.3.{number}").spooled)
print(len(kept), all(one.path.stat().st_size == one.size_bytes + one.meta_bytes for one in kept), lines_lost() > 0)
print(directory_probe(logs))
if filler.exists():
    filler.unlink()
else:
    subprocess.run(["mount", "-o", "remount,rw", str(logs)], check=True)
logger.warning("after")
print(directory_probe(logs) == "", '"log lines lost"' in (logs / "gateway.log").read_text())
"""


@pytest.mark.parametrize(("options", "code"), [("size=64k", "ENOSPC"), ("ro", "EROFS")], ids=["full", "read-only"])
def test_s21_receiving_goes_on_while_no_log_can_be_written(tmp_path: Path, options: str, code: str) -> None:
    (tmp_path / "logs").mkdir(mode=0o700)
    mount = f"mount -t tmpfs -o mode=700,{options} none {tmp_path}/logs"
    output = in_own_mounts(mount, RECEIVE, str(tmp_path)).splitlines()
    assert output[-3:] == ["20 True True", code, "True True"]


@pytest.mark.django_db
def test_s21_one_alert_tells_and_heals(tmp_path: Path, settings, caplog: pytest.LogCaptureFixture) -> None:
    settings.DATA_DIR = tmp_path
    (tmp_path / "logs").write_text("a file where the directory belongs")
    with caplog.at_level(logging.INFO):
        logs_watch(now())
        logs_watch(now())
        alert = Alert.objects.get(healed_at=None)
        assert (alert.code, alert.count) == ("logs-unwritable", 2)
        assert "receiving and sending go on" in alert.words
        (tmp_path / "logs").unlink()
        logs_watch(now())
    assert not Alert.objects.filter(healed_at=None).exists()
    assert list((tmp_path / "logs").iterdir()) == []
    assert REGISTRY.periodics["logs"].seconds() <= 60


def test_s21_probe_that_a_crash_left_does_not_matter(tmp_path: Path) -> None:
    assert directory_probe(tmp_path) == ""
    (tmp_path / f".probe-{os.getpid()}").write_bytes(b"left")
    assert directory_probe(tmp_path) == ""


@pytest.mark.django_db
def test_s21_supervisor_starts_without_its_log(tmp_path: Path, settings) -> None:
    settings.DATA_DIR = tmp_path
    assert f"logfile={tmp_path}/logs/supervisord.log" in supervisor_config(None).splitlines()
    (tmp_path / "logs" / "supervisord.log").unlink()
    (tmp_path / "logs").rmdir()
    (tmp_path / "logs").write_text("a file where the directory belongs")
    assert "logfile=/dev/null" in supervisor_config(None).splitlines()
