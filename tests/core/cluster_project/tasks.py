"""Tasks that behave well, badly, and worst."""

import os
import signal
import subprocess
import time
from pathlib import Path

from gateway_project.core.processes import stop_wait, stopping


def mark(text: str) -> None:
    """Leaves a line that the test can wait for; one write, so lines of several processes do not mix."""
    with (Path(os.environ["CLUSTER_PROJECT_DIR"]) / "marks").open("ab", buffering=0) as stream:
        stream.write(f"{text}\n".encode())


def killer() -> None:
    mark("killer")
    os.kill(os.getpid(), signal.SIGKILL)


def cooperative() -> None:
    """Takes a moment to give back its work, as one that commits what it has."""
    mark("begun")
    while not stop_wait(60):
        pass
    time.sleep(0.5)
    mark(f"gave back, stopping {stopping()}")


def stubborn() -> None:
    mark("begun")
    time.sleep(300)


def deaf() -> None:
    """Like a codec that hangs: no signal handler of Python's runs, so the timeout's exception never comes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    mark("begun")
    time.sleep(300)


def with_subprocess() -> None:
    with subprocess.Popen(["sleep", "300"]):
        mark("begun")
        time.sleep(300)


def failing() -> None:
    mark("failing")
    raise ValueError("Doe^Jane")
