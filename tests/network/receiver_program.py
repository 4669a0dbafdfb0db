"""A small receiver for tests: keeps what it is sent in a directory, and says there what happened.

`python -m tests.network.receiver_program CHANNEL_FD DIRECTORY OPTIONS_JSON`
"""

import json
import os
import resource
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from network.dimse.channel import channel_open
from network.dimse.ports import AssociationSummary, Peer, StoreRequest, StoreResult
from network.dimse.receiver import Receiver, ReceiverConfig
from tests.network.dimse_fixtures import CollectingSink, WholeRequest


class DirectoryPort:
    """One line of JSON per event in `events.jsonl`; one file per data set; waits while a file named `hold` exists."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()

    def write(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, "pid": os.getpid(), **values}, default=str) + "\n"
        with self._lock, (self.directory / "events.jsonl").open("a") as stream:
            stream.write(line)

    def association_opened(self, peer: Peer) -> None:
        self.write("opened", **asdict(peer))

    def begin(self, request: StoreRequest) -> CollectingSink:
        return CollectingSink(request, self._keep)

    def _keep(self, request: WholeRequest) -> StoreResult:
        self.write("storing", sop_instance_uid=request.sop_instance_uid)
        while (self.directory / "hold").exists():
            time.sleep(0.005)
        (self.directory / f"{request.sop_instance_uid}.dataset").write_bytes(request.dataset)
        self.write("stored", sop_instance_uid=request.sop_instance_uid, syntax=request.transfer_syntax_uid)
        return StoreResult(0x0000)

    def association_releasing(self, peer: Peer) -> None:
        self.write("releasing", calling=peer.calling_ae_title)

    def association_closed(self, peer: Peer, summary: AssociationSummary) -> None:
        self.write("closed", calling=peer.calling_ae_title, **asdict(summary))


def starve_on_signals(port: DirectoryPort) -> None:
    """SIGUSR1: no more descriptors; SIGHUP: no more memory for a thread's stack; SIGUSR2: as before."""
    before = {limit: resource.getrlimit(limit) for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS)}

    def starve(limit: int, soft: int) -> None:
        port.write("starved")  # while that can be written
        resource.setrlimit(limit, (soft, before[limit][1]))

    def feed(*_: object) -> None:
        for limit, values in before.items():
            resource.setrlimit(limit, values)
        port.write("fed")

    def address_space() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return pages * resource.getpagesize() + (24 << 20)

    signal.signal(signal.SIGUSR1, lambda *_: starve(resource.RLIMIT_NOFILE, 3))
    signal.signal(signal.SIGHUP, lambda *_: starve(resource.RLIMIT_AS, address_space()))
    signal.signal(signal.SIGUSR2, feed)


def main(descriptor: str, directory: str, options: str) -> None:
    settings = json.loads(options)
    grace_seconds = settings.pop("grace_seconds", 5.0)
    if stack_bytes := settings.pop("stack_bytes", 0):
        threading.stack_size(stack_bytes)  # more than the C library keeps for reuse
    port = DirectoryPort(Path(directory))
    receiver = Receiver(channel_open(int(descriptor)), ReceiverConfig(**{"ae_title": "GATEWAY"} | settings), port)
    signal.signal(signal.SIGTERM, lambda *_: receiver.stop(grace_seconds=grace_seconds))
    starve_on_signals(port)
    port.write("started", monotonic=time.monotonic())
    receiver.serve()
    port.write("ended")


if __name__ == "__main__":
    main(*sys.argv[1:])
