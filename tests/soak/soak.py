"""The soak itself: threads of senders and attackers, chaos meanwhile, and then the reckoning."""

import contextlib
import random
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.crash.test_receiving_crash import incoming
from tests.dicom_samples import dataset_of
from tests.gateway_harness import Gateway, wait_until
from tests.soak.attackers import ATTACKS
from tests.soak.chaos import Chaos, plan
from tests.soak.senders import Send, senders_installed, storescu_tuned
from tests.soak.stock import CT_SIDE, SMALL_SIDE, Stock

BYTES_PER_SECOND, BYTES_IN_ALL = 2e6, 3e9
LONGEST_REST_SECONDS = 0.3
ATTACKERS = 2
LAST_BURST = 5


class Soak:
    """Mixed load on one gateway for so many seconds, with what the seed decides happening to it."""

    def __init__(self, gateway: Gateway, folder: Path, *, seconds: float, seed: int) -> None:
        self.gateway = gateway
        self.seconds = seconds
        self.seed = seed
        self.stock = Stock(folder, bytes_per_second=BYTES_PER_SECOND, bytes_in_all=BYTES_IN_ALL)
        self.promised: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.findings: list[str] = []
        self.senders = senders_installed()
        self._over = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> str:
        """All of it; answers what was done. Fails on whatever was lost, doubled, left over or grew."""
        chaos = Chaos(self.gateway, self._chance("chaos"))
        threads = [threading.Thread(target=self._work, args=(name, work)) for name, work in self._workers().items()]
        for thread in threads:
            thread.start()
        try:
            chaos.follow(plan(self._chance("plan"), self.seconds), calm=self._over)
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        assert not self.findings, "\n".join(self.findings)
        chaos.nothing_is_held()
        grown = [words for life in chaos.lives if (words := life.grew())]
        assert not grown, grown
        chaos.stop()
        chaos.start()
        self._everybody_is_served()
        wait_until(lambda: not incoming(self.gateway), what="recovery to empty what the dead receivers left")
        chaos.stop()
        wait_until(lambda: not self.gateway.strays(), what="receivers without an acceptor to end")
        self.reckon()
        return self.report(chaos)

    def _chance(self, name: str) -> random.Random:
        return random.Random(f"{self.seed} {name}")

    # Load

    def _workers(self) -> dict[str, Callable[[random.Random], None]]:
        found: dict[str, Callable[[random.Random], None]] = {}
        for name, send in self.senders.items():
            found[name] = lambda chance, name=name, send=send: self._send(name, send, chance, SMALL_SIDE)
        if "storescu-tuned" in self.senders:
            found["storescu-ct"] = lambda chance: self._send("storescu-ct", storescu_tuned, chance, CT_SIDE)
        return found | {f"attacker-{number}": self._attack for number in range(ATTACKERS)}

    def _work(self, name: str, work: Callable[[random.Random], None]) -> None:
        chance = self._chance(name)
        try:
            while not self._over.is_set():
                work(chance)
                self._over.wait(chance.uniform(0, LONGEST_REST_SECONDS))
        except Exception:
            self.findings.append(f"{name}: {traceback.format_exc()}")
            self._over.set()

    def _send(self, name: str, send: Send, chance: random.Random, side: int) -> None:
        items = self.stock.take(chance, chance.randint(2, 12), side=side)
        stored = send(self.gateway.dimse_port, items)
        with self._lock:
            self.promised |= stored
            self.counts[f"{name} sent"] += len(items)
            self.counts[f"{name} stored"] += len(stored & {item.uid for item in items})

    def _attack(self, chance: random.Random) -> None:
        name = chance.choice(list(ATTACKS))
        (item,) = self.stock.take(chance, 1, side=chance.choice((SMALL_SIDE, CT_SIDE)))
        with contextlib.suppress(OSError):
            ATTACKS[name](self.gateway.dimse_port, chance, item)
        with self._lock:
            self.counts[name] += 1

    def _everybody_is_served(self) -> None:
        """After all that, each sender has everything accepted at the first try."""
        for name, send in self.senders.items():
            items = self.stock.take(self._chance("last"), LAST_BURST, side=SMALL_SIDE)
            stored = send(self.gateway.dimse_port, items)
            assert stored == {item.uid for item in items}, f"{name} is not served afterwards"
            self.promised |= stored

    # Reckoning

    def reckon(self) -> None:
        """Nothing promised is missing, nothing is there twice, every file has its row and every row its file."""
        rows = self.gateway.rows("SELECT sop_instance_uid, path, version, sha256 FROM studies_instance")
        uids = [uid for uid, *_rest in rows]
        assert len(uids) == len(set(uids)), "an object has two rows"
        assert self.promised - set(uids) == set(), "an acknowledged object was lost"
        assert set(uids) <= set(self.stock.items), "an object that nobody sent"
        for uid, path, version, sha256 in rows:
            assert (version, sha256) == (1, self.stock.items[uid].sha256), f"another version of {uid}: {version}"
            assert self.stock.sha256_of(dataset_of(self.gateway.store / path)) == sha256, f"other bytes in {path}"
        objects = self.gateway.store / "objects"
        on_disk = {str(path.relative_to(self.gateway.store)) for path in objects.rglob("*") if path.is_file()}
        known = {path for _uid, path, *_rest in rows}
        assert on_disk == known, f"without a row: {on_disk - known}; without a file: {known - on_disk}"
        assert not incoming(self.gateway), incoming(self.gateway)
        assert self.gateway.value("SELECT coalesce(sum(instance_count), 0) FROM studies_study") == len(rows)
        self._house_is_in_order()

    def _house_is_in_order(self) -> None:
        quarantined = {digest for (digest,) in self.gateway.rows("SELECT sha256 FROM studies_quarantinedobject")}
        assert quarantined.isdisjoint(item.sha256 for item in self.stock.items.values())
        assert self.gateway.rows("PRAGMA integrity_check") == [("ok",)]
        alerts = self.gateway.rows('SELECT "key", code, words FROM core_alert WHERE healed_at IS NULL')
        assert {key for key, *_rest in alerts} <= {"quarantine"}, alerts  # of the attackers' garbage
        audit = self.gateway.manage("auditverify")
        assert audit.returncode == 0, audit.stdout + audit.stderr

    def report(self, chaos: Chaos) -> str:
        used = [sample for life in chaos.lives for sample in life.samples]
        most = max(sample[1] for sample in used) >> 20, max(sample[2] for sample in used)
        counts = dict(sorted(self.counts.items()))
        return (
            f"{self.seconds:.0f} s, seed {self.seed}: {dict(Counter(chaos.done))}; {counts}; "
            f"{len(self.promised)} of {len(self.stock.items)} objects acknowledged; "
            f"the acceptor used at most {most[0]} MiB and {most[1]} descriptors"
        )
