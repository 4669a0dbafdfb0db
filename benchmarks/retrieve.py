"""Retrieving: the same 400 CT by getscu and by movescu to storescp, from the gateway and from Orthanc, in turns."""

import os
import subprocess
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from pydicom import dcmread

from benchmarks.gateway import gateway_running
from benchmarks.objects import CT, ObjectFactory
from benchmarks.peers import TUNED, BenchmarkError, Orthanc, Receiver, Storescp
from benchmarks.receive import GatewayReceiver, send
from benchmarks.report import Clock, Measure, Row, tell
from tests.gateway_harness import environment_for, free_ports, run_code

SECONDS = 180.0
PEERS = (
    "from network.models import RemoteAE;"
    "RemoteAE.objects.create(ae_title='BENCH', may_retrieve=True);"
    "RemoteAE.objects.create(ae_title='{title}', host='127.0.0.1', port={port}); print('made')"
)


def retrieve(folder: Path, *, rounds: int, quick: bool, clock: Clock) -> list[Row]:
    """Measures both ways. Raises BenchmarkError when something was not sent."""
    count = 8 if quick else 400
    with ExitStack() as stack:
        pacs = stack.enter_context(Storescp.start(folder, fork=True))
        if pacs is None:
            tell("DCMTK is not installed: retrieving is not measured (apt-get install dcmtk)")
            return []
        code = PEERS.format(title=pacs.ae_title, port=pacs.port)
        running = stack.enter_context(gateway_running(folder, prepare=partial(_peers_make, code)))
        gateway = GatewayReceiver(running)
        orthanc = stack.enter_context(Orthanc.start(folder, modalities={"PACS": (pacs.ae_title, pacs.port)}))
        holders: list[Receiver] = [gateway, *([orthanc] if orthanc is not None else [])]
        files = folder / "sent"
        size_bytes = ObjectFactory(CT).write(files, count)
        study = str(dcmread(next(files.iterdir()), specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
        for holder in holders:
            send(files, holder, count=count, tuned=True)
        get = {holder.label: Measure(count, size_bytes) for holder in holders}
        move = {holder.label: Measure(count, size_bytes) for holder in holders}
        done = 0
        while clock.allows(done, rounds):
            for holder in holders if done % 2 == 0 else holders[::-1]:
                get[holder.label].seconds.append(_get(holder, study))
                move[holder.label].seconds.append(_move(holder, study, pacs, count))
            done += 1
            told = ", ".join(
                f"{label} {get[label].seconds[-1]:.2f} and {move[label].seconds[-1]:.2f} s" for label in get
            )
            tell(f"  C-GET and C-MOVE of {count} CT, round {done}: {told}")
        return [
            Row(f"{name} of {count} x {size_bytes / count / 1000:.0f} kB CT{how}", measures[gateway.label],
                Orthanc.label, measures.get(Orthanc.label), "1x")
            for name, how, measures in (("C-GET", "", get), ("C-MOVE", " to storescp", move))
        ]  # fmt: skip


def _peers_make(code: str, data: Path) -> None:
    """Before the listeners start: they hear of later changes within two seconds."""
    done = run_code(code, environment_for(data, free_ports(3)))
    if "made" not in done.stdout:
        raise BenchmarkError(f"The peers could not be entered: {done.stderr.strip()[-500:]}")


def _run(program: str, holder: Receiver, study: str, *options: str) -> float:
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
    command = [program, "-aet", "BENCH", "-aec", holder.ae_title, "-S", *options, *keys, "127.0.0.1", str(holder.port)]
    began = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, **TUNED}, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode != 0:
        raise BenchmarkError(f"{program} from {holder.label} ended with {done.returncode}: {done.stderr[-500:]}")
    return time.perf_counter() - began


def _get(holder: Receiver, study: str) -> float:
    """What comes is not stored: the sender is measured. How many came is proved by the C-MOVE and by tests."""
    return _run("getscu", holder, study, "--ignore")


def _move(holder: Receiver, study: str, pacs: Storescp, count: int) -> float:
    for path in pacs.folder.iterdir():
        path.unlink()
    seconds = _run("movescu", holder, study, "-aem", pacs.ae_title)
    if pacs.count() != count:
        raise BenchmarkError(f"{holder.label} moved {pacs.count()} of {count} objects.")
    return seconds
