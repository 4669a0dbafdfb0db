"""What is done to the gateway during a soak, in an order that a seed decides; and what its acceptor used meanwhile."""

import random
import signal
import threading
import time
from dataclasses import dataclass, field

import psutil

from tests.gateway_harness import Gateway, wait_until

KILL_RECEIVER, KILL_LISTENER, KILL_ALL, RESTART = "kill a receiver", "kill the listener", "kill all", "restart"
DECK = (KILL_RECEIVER, KILL_RECEIVER, KILL_LISTENER, KILL_ALL, RESTART)
LONGEST_GAP_SECONDS = 15.0
RESTART_COSTS_SECONDS = 2.0
WARM_SECONDS = 5.0
MORE_BYTES = 48 << 20
MORE_DESCRIPTORS = 32
OWN_FILES = 8
"""The database, the logs: opened when they are first needed."""
RECEIVERS = {"GATEWAY_DICOM__RECEIVERS": "2"}


def plan(chance: random.Random, seconds: float) -> list[tuple[float, str]]:
    """Seconds to wait and what to do then. At first all is killed; then one acceptor lives on, for as long."""
    actions: list[tuple[float, str]] = []
    spent, gap = 0.0, min(LONGEST_GAP_SECONDS, seconds / 8)
    while spent < seconds / 2:
        for action in chance.sample(DECK, len(DECK)):
            actions.append((chance.uniform(0.2, gap), action))
            spent += actions[-1][0] + (0 if action == KILL_RECEIVER else RESTART_COSTS_SECONDS)
    until = max(seconds, spent + seconds / 2)
    while spent < until:
        actions.append((chance.uniform(gap / 2, gap * 2), KILL_RECEIVER))
        spent += actions[-1][0]
    return actions


@dataclass
class Life:
    """One acceptor, from its start to its end, as (seconds, resident bytes, descriptors)."""

    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def grew(self) -> str:
        """What grew beyond all bounds after the first seconds; empty when nothing did."""
        warm = next((index for index, one in enumerate(self.samples) if one[0] >= WARM_SECONDS), None)
        if warm is None:
            return ""
        first, rest = self.samples[warm], self.samples[warm:]
        if max(one[1] for one in rest) > first[1] + MORE_BYTES:
            return f"resident bytes: {first[1]} to {max(one[1] for one in rest)}"
        if max(one[2] for one in rest) > first[2] + MORE_DESCRIPTORS:
            return f"descriptors: {first[2]} to {max(one[2] for one in rest)}"
        return ""


class Chaos:
    """Owns the listeners of one gateway, kills them and starts them again."""

    def __init__(self, gateway: Gateway, chance: random.Random) -> None:
        self.gateway = gateway
        self.chance = chance
        self.done: list[str] = []
        self.lives: list[Life] = []
        self.start()

    def start(self) -> None:
        self.process = self.gateway.start_listeners(**RECEIVERS)
        assert self.process.poll() is None, "the listeners did not start"
        self._acceptor = psutil.Process(self.process.pid)
        self._began = time.monotonic()
        self.lives.append(Life())
        self._note()

    def follow(self, actions: list[tuple[float, str]], *, calm: threading.Event) -> None:
        """Does what was planned. `calm` ends it early."""
        for gap, action in actions:
            self.watch(gap, calm)
            if calm.is_set():
                return
            self.do(action)

    def watch(self, seconds: float, calm: threading.Event) -> None:
        """Lets time pass, and notes what the acceptor uses."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not calm.wait(min(left, 0.5)):
            self._note()

    def _note(self) -> None:
        age = time.monotonic() - self._began
        self.lives[-1].samples.append((age, self._acceptor.memory_info().rss, self._acceptor.num_fds()))

    def do(self, action: str) -> None:
        self.done.append(action)
        if action == KILL_RECEIVER:
            receivers = self.receivers()
            if receivers:
                self.killed(self.chance.choice(receivers))
            return
        if action == RESTART:
            self.stop()
        else:
            receivers = self.receivers() if action == KILL_ALL else []
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            for receiver in receivers:
                self.killed(receiver)
        self.start()

    def stop(self) -> None:
        assert self.gateway.stop(self.process) == 0, "the listeners did not stop well"

    def receivers(self) -> list[psutil.Process]:
        return self._acceptor.children()

    def killed(self, receiver: psutil.Process) -> None:
        try:
            receiver.kill()
        except psutil.NoSuchProcess:
            return

    def nothing_is_held(self) -> None:
        """Without load the acceptor knows of no connection, and holds what it did when it began and its own files."""
        idle = "Nobody is connected."
        wait_until(lambda: idle in self.gateway.manage("associations").stdout, what="the last connection to be over")
        first = self.lives[-1].samples[0][2]
        wait_until(lambda: self._acceptor.num_fds() <= first + OWN_FILES, what="the acceptor to close what is over")
