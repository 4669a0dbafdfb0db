"""Our side: the gateway's own processes on a data directory that the measurement makes and removes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree

from benchmarks.peers import BenchmarkError
from tests.gateway_harness import Gateway, data_directory_prepare, run_code

CODE_SECONDS = 300.0


class GatewayReceiver:
    """`manage.py runlisteners`: fsync before every answer, and the index."""

    ae_title = "GATEWAY"
    label = "gateway"

    def __init__(self, gateway: Gateway, label: str = label) -> None:
        self.gateway = gateway
        self.port = gateway.dimse_port
        self.label = label

    def count(self) -> int:
        """By the highest row, which is free with a million of them too: nothing is ever deleted here."""
        return int(self.gateway.value("SELECT coalesce(max(id), 0) FROM studies_instance"))


@contextmanager
def gateway_running(
    folder: Path, *, whole: bool = False, prepare: Callable[[Path], None] | None = None, **environment: str
) -> Iterator[Gateway]:
    """A prepared gateway that runs inside the block: its listeners, or all of it when `whole`; none of its processes is
    left after it. `prepare` gets the data directory before the start.
    """
    data = folder / "gateway"
    prepared = folder.parent / "prepared"
    if not prepared.exists():
        data_directory_prepare(prepared)
    copytree(prepared, data)
    if prepare is not None:
        prepare(data)
    gateway = Gateway(data)
    gateway.log = folder / "gateway.log"
    try:
        process = gateway.run(**environment) if whole else gateway.start_listeners(**environment)
        if process.poll() is not None:
            raise BenchmarkError(f"The gateway ended by itself: {gateway.log.read_text(errors='replace')[-500:]}")
        yield gateway
        gateway.stop(process)
    finally:
        gateway.kill()


def gateway_run(gateway: Gateway, code: str) -> str:
    """Runs code inside the gateway's Django in a process of its own; answers the last line it printed."""
    done = run_code(code, gateway.env, timeout=CODE_SECONDS)
    if done.returncode != 0 or not done.stdout.strip():
        raise BenchmarkError(f"The gateway's own code failed: {done.stderr.strip()[-500:]}")
    return done.stdout.strip().splitlines()[-1]
