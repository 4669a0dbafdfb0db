"""The associations that this process keeps open to peers: one pool, swept, and told to the pages."""

import logging
import os
import threading

from gateway_project.core.options import option
from network.dimse.scu.pool import AssociationPool
from network.dimse.scu.pool_file import PoolFile
from network.selectors.pools import pools_directory

logger = logging.getLogger(__name__)
SWEEP_SECONDS = 1.0
WAIT_SECONDS = 30.0


class PoolKeeper:
    """The pool of one process, with a thread that lets go of what was idle for too long and tells what is open.

    The options count from the next piece of work on.
    """

    def __init__(self, process: str) -> None:
        self._pool = AssociationPool(wait_seconds=WAIT_SECONDS)
        self._file = PoolFile(pools_directory(), process)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="association pool", daemon=True)

    def start(self) -> None:
        """Sweep and tell from now on."""
        self._thread.start()

    def pool(self) -> AssociationPool:
        """The pool as the options bound it now."""
        self._pool.idle_seconds = option("POOL.IDLE_SECONDS")
        self._pool.per_peer = option("POOL.PER_PEER")
        self._pool.total = option("POOL.TOTAL")
        return self._pool

    def stop(self) -> None:
        """Release what is idle, keep nothing any more, and tell nothing. May be repeated."""
        self._over.set()
        self._pool.close()
        if self._thread.is_alive():
            self._thread.join(SWEEP_SECONDS * 5)
        self._file.remove()

    def look(self) -> None:
        """Once: what the thread does every second."""
        self._pool.sweep()
        self._file.write(self._pool.state())

    def _run(self) -> None:
        while not self._over.wait(SWEEP_SECONDS):
            try:
                self.look()
            except Exception as exc:  # noqa: BLE001 - the outermost loop of the sweep
                logger.error("association pool not swept", extra={"exception": type(exc).__name__})  # noqa: TRY400


_lock = threading.Lock()
_keeper: tuple[int, PoolKeeper] | None = None


def worker_pool() -> AssociationPool:
    """The pool of this worker process, made when it is first asked for; a forked child makes its own."""
    global _keeper  # noqa: PLW0603 - one for each process
    with _lock:
        if _keeper is None or _keeper[0] != os.getpid():
            keeper = PoolKeeper("worker")
            keeper.start()
            _keeper = (os.getpid(), keeper)
        return _keeper[1].pool()
