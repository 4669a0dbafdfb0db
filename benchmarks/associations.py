"""10,000 associations in a row, while a hundred connections stay silent: whether anything grows, and who waits."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.gateway import GatewayReceiver, gateway_running
from benchmarks.objects import SMALL, ObjectFactory
from benchmarks.peers import BenchmarkError
from benchmarks.processes import MIB, Held, held, processes
from benchmarks.report import Clock, Figure, TableRow, latencies, tell
from benchmarks.scu import Sender, connect, part10_read
from tests.gateway_harness import Gateway, wait_until

ASSOCIATIONS, SILENT, WARM_UP = 10_000, 100, 500
STORE_EVERY = 2  # one association in two stores an object, the others echo
LIMITS = {
    # The silent ones would be closed after 10 s, and one address may not open 200 connections a second for long.
    "GATEWAY_DICOM__ACSE_SECONDS": "3600",
    "GATEWAY_DICOM__CONNECTIONS_PER_SECOND": "0",
}
WATCHED = ("acceptor", "receiver")
SILENT_BYTES = (b"", b"\x01\x00\x00")  # half of them say nothing at all, half begin a PDU


def associations(folder: Path, *, rounds: int, quick: bool, clock: Clock) -> list[TableRow]:
    """Measures once. Raises BenchmarkError when one is refused, or when a silent connection was not kept."""
    asked, silent, warm_up = (40, 10, 10) if quick else (ASSOCIATIONS, SILENT, WARM_UP)
    with gateway_running(folder, **LIMITS) as gateway, ExitStack() as stack:
        row = InARow(gateway)
        row.run(warm_up)
        idle = [stack.enter_context(connect(gateway.dimse_port)) for _ in range(silent)]
        for number, one in enumerate(idle):
            one.sendall(SILENT_BYTES[number % len(SILENT_BYTES)])
        row.run(warm_up)
        row.seconds.clear()
        begin = row.look("at the start")
        row.run(asked // 2, until=clock)
        middle = row.look("in the middle")
        row.run(asked - asked // 2, until=clock)
        end = row.look("at the end")
        for one in idle:
            one.setblocking(False)
            if not silent_still(one):
                raise BenchmarkError("A silent connection was closed: the figure would mean nothing.")
    count = f"{asked:,}" if len(row.seconds) == asked else f"{len(row.seconds):,} (not {asked:,}: time was up)"
    title = f"{count} associations in a row (echo or one small object), {silent} silent connections"
    return [
        Figure(f"{title}: one's whole time", latencies(row.seconds), "under 100 ms"),
        *(Figure(f"{title}: {role}", flat(begin[role], middle[role], end[role]), "flat") for role in WATCHED),
    ]


def silent_still(one: socket.socket) -> bool:
    try:
        return bool(one.recv(1))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


class InARow:
    """Associations one after the other, each of them timed from the connection to the answered release."""

    def __init__(self, gateway: Gateway) -> None:
        self.seconds: list[float] = []
        self._receiver = GatewayReceiver(gateway)
        self._factory = ObjectFactory(SMALL)
        self._stored = self._receiver.count()

    def run(self, count: int, *, until: Clock | None = None) -> None:
        """So many, or fewer when the time is up; the first always."""
        contents = self._factory.contents(count)
        for number, content in enumerate(contents):
            if number and until is not None and until.is_over():
                tell(f"  time is up after {number} of {count} associations")
                break
            storing = number % STORE_EVERY == 0
            data_set = part10_read(content)
            began = time.perf_counter()
            sender = Sender(self._receiver.port, called=self._receiver.ae_title)
            if storing:
                sender.store(data_set)
            else:
                sender.echo()
            sender.release()
            self.seconds.append(time.perf_counter() - began)
            self._stored += storing

    def look(self, when: str) -> dict[str, Held]:
        """What acceptor and receiver hold, once everything is indexed and nothing is under way."""
        wait_until(lambda: self._receiver.count() >= self._stored, what="the index")
        time.sleep(1)
        roles = processes(self._receiver.gateway)
        found = {role: held(pid) for pid, role in roles.items() if role in WATCHED}
        tell(f"  {when}: " + "; ".join(f"{role} {one.told()}" for role, one in found.items()))
        return found


def flat(*looks: Held) -> str:
    memory = " > ".join(f"{one.resident_bytes / MIB:.1f}" for one in looks)
    descriptors = " > ".join(str(one.descriptors) for one in looks)
    return f"resident {memory} MiB, descriptors {descriptors} (start, middle, end)"
