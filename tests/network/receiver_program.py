"""A small receiver for tests: keeps what it is sent in a directory, and says there what happened.

`python -m tests.network.receiver_program CHANNEL_FD DIRECTORY OPTIONS_JSON`
"""

import json
import os
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

    def association_closed(self, peer: Peer, summary: AssociationSummary) -> None:
        self.write("closed", calling=peer.calling_ae_title, **asdict(summary))


def main(descriptor: str, directory: str, options: str) -> None:
    settings = json.loads(options)
    grace_seconds = settings.pop("grace_seconds", 5.0)
    port = DirectoryPort(Path(directory))
    receiver = Receiver(channel_open(int(descriptor)), ReceiverConfig(**{"ae_title": "GATEWAY"} | settings), port)
    signal.signal(signal.SIGTERM, lambda *_: receiver.stop(grace_seconds=grace_seconds))
    port.write("started", monotonic=time.monotonic())
    receiver.serve()
    port.write("ended")


if __name__ == "__main__":
    main(*sys.argv[1:])
