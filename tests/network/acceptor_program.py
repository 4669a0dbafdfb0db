"""An acceptor that a test can starve of descriptors (SIGUSR1), feed again (SIGUSR2) or kill.

`python -m tests.network.acceptor_program DIRECTORY`; writes its port into `DIRECTORY/port`, its log to standard error.
"""

import logging
import resource
import signal
import sys
from pathlib import Path

from network.dimse.acceptor import Acceptor
from tests.network.dimse_fixtures import receiver_command


def main(directory: Path) -> None:
    logging.basicConfig(level=logging.INFO)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    signal.signal(signal.SIGUSR1, lambda *_: resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard)))
    signal.signal(signal.SIGUSR2, lambda *_: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))

    def ready(endpoints: list[tuple[str, int]]) -> None:
        (directory / "port.new").write_text(str(endpoints[0][1]))
        (directory / "port.new").rename(directory / "port")

    acceptor = Acceptor(
        [("127.0.0.1", 0)],
        receiver_command=lambda _index, descriptor: receiver_command(directory, "{}", descriptor),
        on_ready=ready,
    )
    signal.signal(signal.SIGTERM, lambda *_: acceptor.stop())
    acceptor.serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
