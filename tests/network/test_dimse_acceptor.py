"""The acceptor and its receiver processes: sockets are shared, limits hold, deaths are survived, the end is orderly."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from network.dimse import scu
from network.dimse.acceptor import Acceptor, ConnectionLimits
from network.dimse.errors import ListenError
from network.dimse.part10_head import sendable_file
from network.dimse.receiver_process import FIRST_RESTART_SECONDS, LONGEST_RESTART_SECONDS, restart_delay
from network.dimse.scu import association
from network.dimse.scu.store import store_each
from tests.network.dimse_fixtures import ROOT, Gateway, raw_connection, read_events, wait_until, write_instance


def test_killed_receiver_is_replaced_and_the_next_association_works(tmp_path: Path):
    with Gateway(tmp_path) as gateway:
        scu.echo(**gateway.peer)
        first = gateway.events("started")[0]["pid"]
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(gateway.events("started")) == 2)
        scu.echo(**gateway.peer)
        assert next(event["pid"] for event in gateway.events("opened")) == first
        assert gateway.events("opened")[-1]["pid"] != first


def test_connections_of_a_killed_receiver_leave_the_live_list(tmp_path: Path):
    with Gateway(tmp_path) as gateway, raw_connection(gateway.endpoints[0]) as connection:
        wait_until(gateway.acceptor.live)
        os.kill(gateway.events("started")[0]["pid"], signal.SIGKILL)
        assert connection.recv(1) == b""
        wait_until(lambda: not gateway.acceptor.live())


def test_two_receivers_share_the_associations(tmp_path: Path):
    context = [scu.VERIFICATION_PROPOSAL]
    with Gateway(tmp_path, receivers=2) as gateway:
        wait_until(lambda: len(gateway.events("started")) == 2)
        while {one.receiver for one in gateway.acceptor.live()} != {0, 1}:
            # The second may not be ready yet; once it is, it is the least loaded.
            with association(context, **gateway.peer), association(context, **gateway.peer):
                receivers = {one.receiver for one in gateway.acceptor.live()}
                if receivers == {0, 1}:
                    break
        pids = {event["pid"] for event in gateway.events("opened")}
    assert pids == {event["pid"] for event in gateway.events("started")}


def test_live_list_tells_who_sends_what(tmp_path: Path):
    dataset = write_instance(tmp_path / "a.dcm")
    with Gateway(tmp_path) as gateway:
        context = [scu.Proposal("1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.1.2.1",))]
        with association(context, **gateway.peer) as opened:
            list(store_each(opened, [sendable_file(tmp_path / "a.dcm")]))
            (one,) = wait_until(lambda: [one for one in gateway.acceptor.live() if one.objects_stored])
            assert (one.calling_ae_title, one.called_ae_title, one.address) == ("MODALITY", "GATEWAY", "127.0.0.1")
            assert (one.objects_stored, one.objects_refused, one.bytes_received) == (1, 0, len(dataset))
            assert one.association_id == gateway.events("opened")[0]["association_id"]
        wait_until(lambda: not gateway.acceptor.live())


def test_s06_stop_finishes_the_object_in_flight(tmp_path: Path):
    dataset = write_instance(tmp_path / "a.dcm")
    (tmp_path / "hold").touch()
    reports = []
    with Gateway(tmp_path) as gateway:
        sender = threading.Thread(
            target=lambda: reports.append(scu.send_instances([tmp_path / "a.dcm"], **gateway.peer))
        )
        sender.start()
        wait_until(lambda: gateway.events("storing"))
        gateway.acceptor.stop()
        wait_until(lambda: not _accepts(gateway.endpoints[0]))
        (tmp_path / "hold").unlink()
        sender.join(20)
        gateway.thread.join(20)
    assert reports[0].stored == 1
    assert (tmp_path / "1.2.3.4.dataset").read_bytes() == dataset
    assert gateway.events("ended")


def test_receiver_that_does_not_end_is_killed(tmp_path: Path):
    write_instance(tmp_path / "a.dcm")
    (tmp_path / "hold").touch()
    with Gateway(tmp_path, options={"grace_seconds": 3600}, stop_seconds=0.3) as gateway:
        sender = threading.Thread(target=_send_and_be_cut, args=(tmp_path / "a.dcm", gateway))
        sender.start()
        wait_until(lambda: gateway.events("storing"))
        gateway.acceptor.stop()
        gateway.thread.join(20)
        assert not gateway.thread.is_alive()
        sender.join(20)
    assert not _is_running(gateway.events("started")[0]["pid"])
    assert gateway.events("stored", "ended") == []


def test_port_in_use_is_a_clear_error_and_starts_nothing():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        acceptor = Acceptor([("127.0.0.1", port)], receiver_command=lambda _index, _fd: ["false"])
        with pytest.raises(ListenError) as caught:
            acceptor.serve()
    assert caught.value.code == "port-in-use"
    assert str(port) in str(caught.value)


def test_address_of_another_machine_is_a_clear_error():
    acceptor = Acceptor([("192.0.2.1", 0)], receiver_command=lambda _index, _fd: ["false"])
    with pytest.raises(ListenError) as caught:
        acceptor.serve()
    assert caught.value.code == "address-unknown"


def test_both_address_families_are_served(tmp_path: Path):
    with Gateway(tmp_path, endpoints=[("127.0.0.1", 0), ("::1", 0)]) as gateway:
        for host, port in gateway.endpoints:
            scu.echo(**gateway.peer | {"address": host, "port": port})
        wait_until(lambda: len(gateway.events("closed")) == 2)
        assert [event["address"] for event in gateway.events("opened")] == ["127.0.0.1", "::1"]


@pytest.mark.parametrize("limit", ["in_all", "per_address"])
def test_connections_beyond_the_limit_are_closed_before_they_reach_a_receiver(tmp_path: Path, limit: str):
    with Gateway(tmp_path, limits=ConnectionLimits(**{limit: 2})) as gateway:
        endpoint = gateway.endpoints[0]
        with raw_connection(endpoint) as first, raw_connection(endpoint):
            wait_until(lambda: len(gateway.acceptor.live()) == 2)
            with raw_connection(endpoint) as third:
                assert third.recv(1) == b""
            assert len(gateway.acceptor.live()) == 2
            first.close()
            wait_until(lambda: len(gateway.acceptor.live()) == 1)
            assert scu.echo(**gateway.peer) >= 0


def test_receiver_that_dies_at_once_is_not_started_in_a_tight_loop(tmp_path: Path):
    starts: list[float] = []

    def command(_index: int, _descriptor: int) -> list[str]:
        starts.append(time.monotonic())
        return ["false"]

    acceptor = Acceptor([("127.0.0.1", 0)], receiver_command=command)
    thread = threading.Thread(target=acceptor.serve)
    thread.start()
    wait_until(lambda: len(starts) >= 3)
    acceptor.stop()
    thread.join(20)
    assert starts[1] - starts[0] >= FIRST_RESTART_SECONDS
    assert starts[2] - starts[1] >= 2 * FIRST_RESTART_SECONDS


def test_restart_delay_grows_to_a_limit():
    delays = [restart_delay(failures) for failures in range(1, 40)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (FIRST_RESTART_SECONDS, LONGEST_RESTART_SECONDS)


def test_program_that_does_not_exist_is_tried_again_and_stop_still_works():
    tried = threading.Semaphore(0)

    def command(_index: int, _descriptor: int) -> list[str]:
        tried.release()
        return ["/does/not/exist"]

    acceptor = Acceptor([("127.0.0.1", 0)], receiver_command=command)
    thread = threading.Thread(target=acceptor.serve)
    thread.start()
    assert tried.acquire(timeout=20)
    assert tried.acquire(timeout=20)
    acceptor.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_s11_accept_survives_the_descriptor_limit(tmp_path: Path):
    with _acceptor_program(tmp_path) as (program, peer):
        scu.echo(**peer)
        program.send_signal(signal.SIGUSR1)
        with raw_connection((peer["address"], peer["port"])):
            wait_until(lambda: b"accept failed, pausing" in (tmp_path / "log").read_bytes())
            program.send_signal(signal.SIGUSR2)
            assert scu.echo(**peer) >= 0
        assert (tmp_path / "log").read_bytes().count(b"accept failed") < 100


def test_receivers_end_when_the_acceptor_is_killed(tmp_path: Path):
    with _acceptor_program(tmp_path) as (program, peer):
        scu.echo(**peer)
        (started,) = read_events(tmp_path, "started")
        program.kill()
        program.wait(20)
        wait_until(lambda: not _is_running(started["pid"]))
        assert read_events(tmp_path, "ended")


@contextlib.contextmanager
def _acceptor_program(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict]]:
    with (directory / "log").open("wb") as log:
        program = subprocess.Popen(
            [sys.executable, "-m", "tests.network.acceptor_program", str(directory)], stderr=log, cwd=ROOT
        )
    try:
        wait_until((directory / "port").exists)
        port = int((directory / "port").read_text())
        yield program, {
            "address": "127.0.0.1", "port": port, "calling_ae_title": "MODALITY", "called_ae_title": "GATEWAY"
        }  # fmt: skip
    finally:
        program.terminate()
        program.wait(30)


def _accepts(endpoint: tuple[str, int]) -> bool:
    try:
        socket.create_connection(endpoint, timeout=5).close()
    except OSError:
        return False
    return True


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def _send_and_be_cut(path: Path, gateway: Gateway) -> None:
    with contextlib.suppress(scu.AssociationError):
        scu.send_instances([path], **gateway.peer)
