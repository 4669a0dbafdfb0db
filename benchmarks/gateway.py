"""Our side: the gateway's own processes on a data directory that the measurement makes and removes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers import BenchmarkError
from tests.gateway_harness import Gateway, data_directory_prepare, run_code

CODE_SECONDS = 300.0


class GatewayReceiver:
    """`manage.py runlisteners`: fsync before every answer, and the index."""

    ae_title = "GATEWAY"
    label = "gateway"

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.port = gateway.dimse_port

    def count(self) -> int:
        return int(self.gateway.value("SELECT count(*) FROM studies_instance"))


@contextmanager
def gateway_running(folder: Path) -> Iterator[Gateway]:
    """A prepared gateway whose listener runs inside the block; none of its processes is left after it."""
    data = folder / "gateway"
    data_directory_prepare(data)
    gateway = Gateway(data)
    gateway.log = folder / "gateway.log"
    try:
        listeners = gateway.start_listeners()
        if listeners.poll() is not None:
            raise BenchmarkError(f"The listener ended by itself: {gateway.log.read_text(errors='replace')[-500:]}")
        yield gateway
        gateway.stop(listeners)
    finally:
        gateway.kill()


def gateway_run(gateway: Gateway, code: str) -> str:
    """Runs code inside the gateway's Django in a process of its own; answers the last line it printed."""
    done = run_code(code, gateway.env, timeout=CODE_SECONDS)
    if done.returncode != 0 or not done.stdout.strip():
        raise BenchmarkError(f"The gateway's own code failed: {done.stderr.strip()[-500:]}")
    return done.stdout.strip().splitlines()[-1]
