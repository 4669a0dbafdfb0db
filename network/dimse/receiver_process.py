"""One receiver as the acceptor sees it: a child process, the channel to it, and what it costs when it dies."""

import logging
import os
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator

from network.dimse.channel import Order, Report, Ticket, channel_pair, order_send, reports_receive, socket_send

logger = logging.getLogger(__name__)
FIRST_RESTART_SECONDS = 0.2
LONGEST_RESTART_SECONDS = 30.0
STEADY_SECONDS = 60.0


def restart_delay(failures: int) -> float:
    """Seconds to wait before the start after the n-th failure in a row: 0.2, 0.4, 0.8 ... 30."""
    return min(LONGEST_RESTART_SECONDS, FIRST_RESTART_SECONDS * 2.0 ** min(max(failures - 1, 0), 16))


class ReceiverProcess:
    """A receiver process of a given index; started, told, and started again by the acceptor's one thread."""

    def __init__(self, index: int, command: Callable[[int, int], list[str]]) -> None:
        self.index = index
        self._command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: socket.socket | None = None
        self.pidfd: int | None = None
        self.is_ready = False
        self.start_at: float | None = 0.0
        self._unsent: deque[Order] = deque()
        self._failures = 0
        self._started_at = 0.0

    def start(self) -> tuple[socket.socket, int] | None:
        """Start the process in a session of its own (a Ctrl-C does not reach it); what to watch: its channel, for
        reports, and its pidfd, for its end. None when that failed: `start_at` then says when to try again.

        Nothing but its end of the channel is inherited.
        """
        self._started_at = time.monotonic()
        try:
            self.channel, theirs = channel_pair()
            with theirs:
                command = self._command(self.index, theirs.fileno())
                self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
            self.pidfd = os.pidfd_open(self.process.pid)
        except OSError as exc:  # out of descriptors, memory or processes, or no such program
            logger.error("receiver could not be started", extra={"receiver": self.index, "errno": exc.errno})  # noqa: TRY400
            self.kill()
            self.is_over()
            return None
        self.start_at = None
        logger.info("receiver started", extra={"receiver": self.index, "pid": self.process.pid})
        return self.channel, self.pidfd

    def hand(self, ticket: Ticket, connection: socket.socket) -> bool:
        """Pass the socket down; False when it could not be, and then it is still the caller's."""
        return self.is_ready and self.channel is not None and socket_send(self.channel, ticket, connection)

    def tell(self, order: Order) -> None:
        """Pass an order down, now or as soon as the channel takes it (`tell_rest`); lost when the receiver ends."""
        if self.channel is not None:
            self._unsent.append(order)
            self.tell_rest()

    def tell_rest(self) -> bool:
        """Pass down what waits; True when nothing is left."""
        while self._unsent and self.channel is not None and order_send(self.channel, self._unsent[0]):
            self._unsent.popleft()
        return not self._unsent

    def reports(self) -> Iterator[Report]:
        """What the receiver has said since; raises EOFError when it has closed the channel."""
        if self.channel is not None:
            yield from reports_receive(self.channel)

    def terminate(self) -> None:
        """SIGTERM: finish what is under way, then end."""
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()

    def channel_close(self) -> None:
        """Take no more from it and give no more to it; the receiver notices and ends."""
        self.is_ready = False
        self._unsent.clear()
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    def is_over(self) -> int | None:
        """Reap the process that has ended, and decide when to start the next; its exit code (negative: signal)."""
        code = self.process.wait() if self.process is not None else None
        self.channel_close()
        if self.pidfd is not None:
            os.close(self.pidfd)
        self.process = self.pidfd = None
        now = time.monotonic()
        self._failures = 1 if now - self._started_at >= STEADY_SECONDS else self._failures + 1
        self.start_at = now + restart_delay(self._failures)
        return code
