"""Sealing: the envelope beside its bare primitives, in memory and on the whole way to a vault and back out of it."""

import hmac
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from shutil import rmtree

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.gateway import GatewayReceiver, gateway_run, gateway_running
from benchmarks.objects import CT, SMALL, ObjectFactory, ObjectKind
from benchmarks.peers import BenchmarkError
from benchmarks.receive import send
from benchmarks.report import Clock, Figure, Measure, Row, TableRow, tell
from tests.gateway_harness import ROOT, Gateway
from uploads.envelope.keys import jwk_from_key, key_generate
from uploads.envelope.seal import COMPRESSION_LEVEL, SealingRun
from uploads.envelope.unseal import Opener

OPEN_SECONDS = 120.0
# The worker's own way, without the start of its process (but frozen as that is): settle, then drain the queue into the
# vault.
UPLOAD = (
    "import gc, json, time, uploads.tasks; from django.utils.timezone import now; from uploads.models import UploadJob;"
    "from gateway_project.core.tasks import drain; from gateway_project.wiring.pipeline import settle_due;"
    "settle_due(now()); gc.collect(); gc.freeze(); cpu = time.process_time(); began = time.perf_counter();"
    "drain('upload'); seconds, cpu = time.perf_counter() - began, time.process_time() - cpu;"
    "job = UploadJob.objects.latest('pk');"
    "print(json.dumps([seconds, cpu, job.state, job.files_done, job.upload_id]))"
)
# The recipient's tool, without the start of its process.
OPEN = (
    "import json, sys, time; from pathlib import Path; from uploads.envelope.keys import private_key_read;"
    "from uploads.vault.recipient import open_upload; vault, upload, key, target = sys.argv[1:];"
    "began = time.perf_counter();"
    "opened = open_upload(Path(vault), upload, private_key=private_key_read(Path(key)), target=Path(target));"
    "print(json.dumps([time.perf_counter() - began, opened.complete, len(opened.files)]))"
)


class Sealing:
    """The rounds' measures of one kind of object, by what was done."""

    STEPS = ("primitives", "seal", "open", "upload", "tool")

    def __init__(self, kind: ObjectKind, count: int) -> None:
        self.factory = ObjectFactory(kind)
        self.contents = list(self.factory.contents(count))
        self.count = count
        size_bytes = sum(map(len, self.contents))
        self.measures = {step: Measure(count, size_bytes) for step in self.STEPS}
        self.processor = {name: Measure(count, size_bytes) for name in ("gateway", "vault", "primitives")}

    def round(self, gateway: Gateway, folder: Path) -> None:
        sealed, opener = self._in_memory()
        self._add("open", opened_in_memory(sealed, opener))
        self._through_the_vault(gateway, folder)

    def _in_memory(self) -> tuple[list[BytesIO], Opener]:
        key = key_generate()
        run = SealingRun.start(
            upload_id=secrets.token_hex(16),
            recipients=[{**jwk_from_key(key)}],
            gateway_id="bench",
            vault_id="bench-vault",
        )
        sinks = [BytesIO() for _ in self.contents]
        cpu = time.process_time()
        self._add("primitives", primitives(self.contents))
        self.processor["primitives"].seconds.append(time.process_time() - cpu)
        began = time.perf_counter()
        for content, sink in zip(self.contents, sinks, strict=True):
            run.seal(BytesIO(content), sink, file_id=secrets.token_hex(16))
        self._add("seal", time.perf_counter() - began)
        opener = Opener(key)
        opener.add_key(run.key_documents[0].content)
        return sinks, opener

    def _through_the_vault(self, gateway: Gateway, folder: Path) -> None:
        files = folder / "sent"
        self.factory.write(files, self.count)
        send(files, GatewayReceiver(gateway), count=self.count, tuned=True)
        rmtree(files)
        os.sync()
        vault_cpu = vault_seconds(gateway)
        seconds, cpu, state, done, upload_id = json.loads(gateway_run(gateway, UPLOAD))
        if state != "done" or done != self.count:
            raise BenchmarkError(f"The upload is {state} with {done} of {self.count} files; see {gateway.log}.")
        self._add("upload", seconds)
        self.processor["gateway"].seconds.append(cpu)
        self.processor["vault"].seconds.append(vault_seconds(gateway) - vault_cpu)
        self._add("tool", opened_by_the_tool(gateway, upload_id, folder / "opened", count=self.count))

    def _add(self, step: str, seconds: float) -> None:
        self.measures[step].seconds.append(seconds)

    def told(self) -> str:
        return ", ".join(f"{step} {measure.seconds[-1]:.3f} s" for step, measure in self.measures.items())

    def processor_row(self) -> Figure:
        """Processor time of each object: what two cores must share, and what the clock of a busy machine hides."""
        each = {name: measure.median / measure.objects * 1000 for name, measure in self.processor.items()}
        both = each["gateway"] + each["vault"]
        ours = f"{both:.2f} ms, gateway {each['gateway']:.2f}, vault {each['vault']:.2f}"
        figure = f"processor time of each {self.factory.kind.name} uploaded"
        return Figure(figure, ours, "-", "primitives", f"{each['primitives']:.2f} ms")


def seal(folder: Path, *, rounds: int, quick: bool, clock: Clock) -> list[TableRow]:
    """Measures CT and small objects in turns; raises BenchmarkError when an upload or an opening is not whole."""
    loads = [Sealing(CT, 8 if quick else 100), Sealing(SMALL, 8 if quick else 200)]
    with vault_running(folder) as gateway:
        done = 0
        while clock.allows(done, rounds):
            for load in loads:
                load.round(gateway, folder)
                tell(f"  {load.factory.kind.name}, {load.count} objects, round {done + 1}: {load.told()}")
            done += 1
    return rows(*loads)


def rows(ct: Sealing, small: Sealing) -> list[TableRow]:
    m, s = ct.measures, small.measures
    figure = f"{ct.count} CT ({m['seal'].size_bytes / 1e6:.0f} MB)"
    return [
        Row(f"seal {figure} in memory", m["seal"], "primitives", m["primitives"], "-"),
        Row(f"open {figure} in memory", m["open"], "our sealing in memory", m["seal"], "1x"),
        Row(
            f"upload {figure} to the local vault",
            m["upload"],
            "primitives",
            m["primitives"],
            "0.85x; 1.5x with a core free",
        ),
        Row(f"open {figure} from the vault, recipient's tool", m["tool"], "our upload", m["upload"], "1x"),
        Row(
            f"upload {small.count} small to the local vault",
            s["upload"],
            "primitives",
            s["primitives"],
            "under 5 ms more each",
        ),
        ct.processor_row(),
        small.processor_row(),
    ]


def vault_seconds(gateway: Gateway) -> float:
    """Processor time of the vault's processes so far."""
    found = [process for process in gateway.strays() if "uploads.vault" in process.cmdline()]
    return sum(sum(process.cpu_times()[:2]) for process in found)


@contextmanager
def vault_running(folder: Path) -> Iterator[Gateway]:
    """A gateway's listener and the demonstration vault, each in processes of its own."""
    with gateway_running(folder) as gateway:
        vault = gateway.start_vault()
        yield gateway
        gateway.stop(vault)


def primitives(contents: Sequence[bytes]) -> float:
    """Seconds for what no envelope of this strength can go below: compress, encrypt, authenticate; nothing is kept."""
    mac_key, key = os.urandom(32), os.urandom(32)
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=True)
    began = time.perf_counter()
    for content in contents:
        compressed = compressor.compress(content)
        count = 16 - len(compressed) % 16
        iv = os.urandom(16)
        ciphertext = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor().update(compressed + bytes([count]) * count)
        mac = hmac.new(mac_key, iv, "sha512")
        mac.update(ciphertext)
        mac.digest()
    return time.perf_counter() - began


def opened_in_memory(sealed: Sequence[BytesIO], opener: Opener) -> float:
    for source in sealed:
        source.seek(0)
    began = time.perf_counter()
    for source in sealed:
        opener.open(source, BytesIO())
    return time.perf_counter() - began


def opened_by_the_tool(gateway: Gateway, upload_id: str, target: Path, *, count: int) -> float:
    """Seconds to give the study back as durable files. Raises BenchmarkError unless it is complete."""
    os.sync()
    key = gateway.data / "demonstration-recipient" / "recipient.pem"
    command = [sys.executable, "-c", OPEN, str(gateway.data / "vault"), upload_id, str(key), str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=OPEN_SECONDS, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"The recipient's tool failed: {done.stderr.strip()[-500:]}")
    seconds, complete, files = json.loads(done.stdout)
    if not complete or files != count:
        raise BenchmarkError(f"The recipient's tool gave back {files} of {count} files.")
    rmtree(target)
    return float(seconds)
