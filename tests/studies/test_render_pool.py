"""Processes that decode pixels: bounded in number, time and memory, killed and replaced, and with nothing to lose."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import psutil
import pytest

from studies.dicom.render_errors import RenderError
from studies.dicom.render_pool import ROOT, Limits, RenderPool
from studies.dicom.render_request import Request
from tests.studies.test_render import RAMP, part10

SECONDS = 30.0
pytestmark = pytest.mark.xdist_group("render_pool")  # its noise takes longer to make than all of this


@pytest.fixture
def pool_of() -> Iterator[Callable[..., RenderPool]]:
    made: list[RenderPool] = []

    def make(**limits: Any) -> RenderPool:
        made.append(RenderPool(Limits(**{"wait_seconds": SECONDS, "seconds": SECONDS, **limits})))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path / "small.dcm", part10(RAMP))


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """81 million pixels: 162 MB, and some time."""
    noise = np.random.default_rng(1).integers(0, 65536, (9000, 9000), dtype=np.uint16)
    return write(tmp_path / "large.dcm", part10(noise))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some seconds of a processor: noise in JPEG 2000."""
    noise = np.random.default_rng(1).integers(0, 65536, (4500, 4500), dtype=np.uint16)
    stream = imagecodecs.jpeg2k_encode(noise, level=0, codecformat="j2k")
    file = part10(noise, syntax="1.2.840.10008.1.2.4.90", frames=[stream])
    return write(tmp_path_factory.mktemp("slow") / "slow.dcm", file)


def write(path: Path, file: io.BytesIO) -> Path:
    path.write_bytes(file.getvalue())
    return path


def look(pool: RenderPool, path: Path, **request: Any) -> str:
    """ "" for a picture, else the code of why there is none."""
    with path.open("rb") as stream:
        try:
            _facts, data = pool.render(stream.fileno(), Request(**request))
        except RenderError as error:
            return error.code
    assert data
    return ""


def child(pool: RenderPool) -> psutil.Process:
    """The process that waits; the pool keeps it."""
    process = pool._idle.get(timeout=SECONDS)
    pool._idle.put(process)
    return psutil.Process(process.process.pid)


def test_one_process_serves_many_pictures(pool_of, small: Path) -> None:
    pool = pool_of()
    assert look(pool, small) == ""
    first = child(pool).pid
    assert [look(pool, small, size=64) for _ in range(5)] == [""] * 5
    assert child(pool).pid == first


def test_file_is_read_from_its_beginning_whoever_read_it_before(pool_of, small: Path) -> None:
    pool = pool_of()
    with small.open("rb") as stream:
        stream.read()
        pool.render(stream.fileno(), Request())
        _facts, data = pool.render(stream.fileno(), Request())
    assert data.startswith(b"\x89PNG")


def test_process_gives_up_what_it_does_not_need(pool_of, small: Path) -> None:
    pool = pool_of(memory_mb=256)
    look(pool, small)
    process = child(pool)
    assert process.nice() >= min(psutil.Process().nice() + 10, 19)
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_NOFILE) == (64, 64)
    assert process.rlimit(psutil.RLIMIT_AS)[1] < 1 << 30
    assert process.num_fds() <= 8
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may always leave the network behind")
def test_process_has_no_network(pool_of, small: Path) -> None:
    pool = pool_of()
    look(pool, small)
    ours, theirs = (Path(f"/proc/{pid}/ns/net").readlink() for pid in ("self", child(pool).pid))
    assert ours != theirs


def test_picture_that_takes_too_long_is_ended_and_the_next_one_is_made(pool_of, small: Path, slow: Path) -> None:
    pool = pool_of(seconds=0.5, memory_mb=4096)
    look(pool, small)
    process = child(pool)
    assert look(pool, slow) == "picture-slow"
    assert not process.is_running()
    assert look(pool, small) == ""


def test_processor_time_is_bounded_by_the_kernel(pool_of, small: Path, slow: Path) -> None:
    """Also when nobody is left who could end it: the parent's clock is far away here."""
    pool = pool_of(seconds=1.0, memory_mb=4096)
    look(pool, small)
    process = pool._idle.get(timeout=SECONDS)
    object.__setattr__(process._limits, "seconds", 60.0)
    with slow.open("rb") as stream, pytest.raises(RenderError) as caught:
        process.render(stream.fileno(), Request())
    pool._idle.put(process)
    assert caught.value.code == "picture-slow"
    assert process.process.returncode == -signal.SIGXCPU


def test_picture_that_needs_too_much_memory_is_refused_and_the_next_one_is_made(
    pool_of, small: Path, large: Path
) -> None:
    pool = pool_of(memory_mb=128)
    assert look(pool, large, size=64) == "picture-killed"
    assert look(pool, small) == ""
    enough = pool_of(memory_mb=1024)
    assert look(enough, large, size=64) == ""


def test_process_that_dies_over_a_picture_is_replaced(pool_of, small: Path, slow: Path) -> None:
    pool = pool_of(memory_mb=4096)
    look(pool, small)
    victim = child(pool)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(look, pool, slow)
        deadline = time.monotonic() + SECONDS
        while pool._idle.qsize() and time.monotonic() < deadline:
            time.sleep(0.01)
        victim.kill()
        assert answer.result(SECONDS) == "picture-killed"
    assert look(pool, small) == ""
    assert child(pool).pid != victim.pid


def test_process_that_died_while_idle_is_replaced_without_anybody_noticing(pool_of, small: Path) -> None:
    pool = pool_of()
    look(pool, small)
    victim = child(pool)
    victim.kill()
    psutil.wait_procs([victim], timeout=SECONDS)
    assert look(pool, small) == ""


def test_what_is_beyond_the_bound_is_refused_at_once(pool_of, small: Path) -> None:
    pool = pool_of(processes=1, waiting=1)
    process = pool._idle.get()  # as if it were at work
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(look, pool, small) for _ in range(2)]
        deadline = time.monotonic() + SECONDS
        while pool._places._value and time.monotonic() < deadline:
            time.sleep(0.005)
        assert look(pool, small) == "picture-busy"
        assert not any(answer.done() for answer in waiting)
        pool._idle.put(process)
        assert [answer.result(SECONDS) for answer in waiting] == ["", ""]
    assert look(pool, small) == ""


def test_who_waits_too_long_is_refused(pool_of, small: Path) -> None:
    pool = pool_of(wait_seconds=0.05)
    taken = pool._idle.get()
    assert look(pool, small) == "picture-busy"
    pool._idle.put(taken)
    assert look(pool, small) == ""


def test_many_threads_get_their_own_pictures(pool_of, tmp_path: Path) -> None:
    pool, before = pool_of(processes=2, waiting=40), threading.active_count()
    paths = [write(tmp_path / f"{n}.dcm", part10(RAMP, WindowCenter=100 * (n + 1), WindowWidth=500)) for n in range(12)]

    def center(path: Path) -> float:
        with path.open("rb") as stream:
            return pool.render(stream.fileno(), Request())[0]["center"]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(center, paths * 3)) == [100 * (n + 1) for n in range(12)] * 3
    assert threading.active_count() < before + 10


def test_processes_end_with_their_parent(small: Path) -> None:
    program = (
        "import sys; from studies.dicom.render_pool import *; from studies.dicom.render_request import Request\n"
        "pool = RenderPool(Limits()); stream = open(sys.argv[1], 'rb'); pool.render(stream.fileno(), Request())\n"
        "print(pool._idle.get().process.pid, flush=True); import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(small)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    deadline = time.monotonic() + SECONDS
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_web_imports_no_codec() -> None:
    program = (
        "import sys, studies.dicom.render_pool; print({'numpy', 'PIL', 'imagecodecs', 'pydicom'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
