"""The two commands' first: the whole gateway in the foreground, as an operator meets it."""

import json
import signal
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from tests.crash.test_receiving_crash import incoming
from tests.dicom_samples import study_files
from tests.gateway_harness import Gateway, listens, wait_until

pytestmark = [pytest.mark.timeout(150)]

STOP_SECONDS = 30


def ports_free(gateway: Gateway) -> bool:
    return not any(listens(port) for port in (gateway.dimse_port, gateway.web_port, gateway.vault_port))


def maps(pid: int, library: str) -> bool:
    return library in Path(f"/proc/{pid}/maps").read_text()


def nothing_left(gateway: Gateway) -> None:
    assert gateway.strays() == []
    assert ports_free(gateway)
    assert [path.name for path in (gateway.data / "run").iterdir() if path.suffix in (".pid", ".sock", ".conf")] == []


def test_demo_shows_every_step_and_ctrl_c_leaves_nothing(gateway: Gateway) -> None:
    process = gateway.run()
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.web_port}/health", timeout=10) as answer:
        health = json.load(answer)
    assert set(health) == {"status", "instanceId", "startupTime", "utcNow"}
    demo = gateway.manage("demo")
    assert demo.returncode == 0, demo.stdout + demo.stderr
    for step in ("received", "settled", "sealed", "uploaded", "receipt verified", "opened", "compared"):
        assert f"ok  {step}" in demo.stdout, demo.stdout
    assert f"http://127.0.0.1:{gateway.web_port}/studies/" in demo.stdout
    assert [process.pid for process in gateway.strays() if maps(process.pid, "numpy")] == []
    assert gateway.stop(process, number=signal.SIGINT, seconds=STOP_SECONDS) == 0
    nothing_left(gateway)


@pytest.mark.dcmtk
def test_stops_in_time_under_load_and_keeps_what_it_acknowledged(gateway: Gateway, tmp_path: Path) -> None:
    process = gateway.run()
    loads = [study_files(tmp_path / f"load{n}", count=30, patient_id=f"L{n}") for n in range(2)]
    outputs: list[str] = []
    senders = [
        threading.Thread(target=lambda files=files: outputs.append(gateway.storescu(*files * 20).stdout))
        for files in loads
    ]
    for sender in senders:
        sender.start()
    wait_until(lambda: gateway.value("SELECT count(*) FROM studies_instance") > 5, what="the first objects")
    began = time.monotonic()
    assert gateway.stop(process, number=signal.SIGTERM, seconds=STOP_SECONDS) == 0
    assert time.monotonic() - began < STOP_SECONDS
    for sender in senders:
        sender.join()
    nothing_left(gateway)
    again = gateway.start_listeners()  # what was acknowledged and not indexed is recovered
    wait_until(lambda: not incoming(gateway), what="the recovery")
    gateway.stop(again)
    rows = gateway.rows("SELECT path FROM studies_instance")
    assert all((gateway.store / path).is_file() for (path,) in rows)


def test_it_starts_from_any_directory(gateway: Gateway, tmp_path: Path) -> None:
    """As under a supervisor that was told no working directory."""
    process = gateway.run(cwd=tmp_path)
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.web_port}/health", timeout=10) as answer:
        assert json.load(answer)["status"] == "ok"
    assert listens(gateway.vault_port)
    gateway.stop(process)


def test_second_gateway_on_the_same_directory_refuses(gateway: Gateway) -> None:
    process = gateway.run()
    second = gateway.manage("rungateway")
    assert second.returncode != 0
    assert "already running" in second.stderr
    assert process.poll() is None
    gateway.stop(process)


def test_killed_parent_takes_everything_along(gateway: Gateway) -> None:
    process = gateway.run()
    process.kill()
    process.wait()
    wait_until(lambda: not gateway.strays() and ports_free(gateway), what="the end of everything")


def test_killed_supervisor_ends_the_gateway_with_an_error(gateway: Gateway) -> None:
    process = gateway.run()
    supervisor = next(p for p in gateway.strays() if any("supervisor" in word for word in p.cmdline()))
    supervisor.kill()
    assert process.wait(STOP_SECONDS) != 0
    nothing_left(gateway)


def test_taken_port_is_named_with_the_setting_that_moves_it(gateway: Gateway) -> None:
    blocker = gateway.start("-m", "http.server", "--bind", "127.0.0.1", str(gateway.dimse_port))
    wait_until(lambda: listens(gateway.dimse_port), what="the blocker")
    refused = gateway.manage("rungateway", GATEWAY_DICOM__HOST="127.0.0.1")
    blocker.kill()
    assert refused.returncode != 0
    assert "GATEWAY_DICOM__PORT" in refused.stderr


def test_directory_that_others_can_enter_is_refused(gateway: Gateway) -> None:
    gateway.data.chmod(0o755)
    refused = gateway.manage("rungateway")
    assert refused.returncode != 0
    assert "chmod 700" in refused.stderr


def test_demo_without_a_gateway_says_what_to_do(gateway: Gateway) -> None:
    failed = gateway.manage("demo")
    assert failed.returncode != 0
    assert "make run" in failed.stderr
