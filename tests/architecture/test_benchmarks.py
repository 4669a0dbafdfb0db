"""`make bench` works: a few objects through everything that it measures. No figure is judged here."""

import os
import re
import secrets
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from benchmarks.associations import silent_still
from benchmarks.objects import CT, SMALL, ObjectFactory, ObjectKind
from benchmarks.peers import BenchmarkError, program
from benchmarks.processes import MIB, PeakWatch
from benchmarks.report import percentile
from benchmarks.scu import (
    ASSOCIATE_AC,
    ECHO_CONTEXT,
    HEADER,
    LAST,
    STORE_CONTEXT,
    DataSet,
    Sender,
    command_pdu,
    element,
    item,
    part10_read,
    pdus,
    status_of,
)
from tests.gateway_harness import Gateway

ROOT = Path(__file__).resolve().parents[2]
FOUR = "receive 4 senders x 2 x 526 kB CT at once"
ANSWER = "one CT's answer, 4 senders at once"
KNOWN = "1,000 instances in the index"
ROW = "40 associations in a row (echo or one small object), 10 silent connections"
MEASURE = r"[\d.e-]+ s \(n=1\), [\d.e-]+ ms each, [\d.e+-]+ MB/s"
WAIT = r"p50 [\d.]+ ms, p95 [\d.]+ ms, p99 [\d.]+ ms, max [\d.]+ ms \(n=%s\)"
GROWTH = r"[\d.]+ s, [\d.]+ MB/s; memory at most (\w+ \+[\d.]+(, )?){6} MiB"
PROCESSOR = r"[\d.]+ ms(, gateway [\d.]+, vault [\d.]+)?"
HELD = r"resident [\d.]+ > [\d.]+ > [\d.]+ MiB, descriptors (\d+ > ){2}\d+ \(start, middle, end\)"
PAGES = r"\d+ addresses, \d+ over; slowest p95 \d+ ms \(/[^)]*\), most queries \d+ \(/[^)]*\)"
TIMED = [
    ("send 8 x 526 kB CT", "DCMTK storescu"),
    ("send 20 x 8 kB small", "DCMTK storescu"),
    ("send 5 x 8 kB small, receiver as installed", "pynetdicom"),
    ("C-GET of 8 x 526 kB CT", "Orthanc"),
    ("C-MOVE of 8 x 526 kB CT to storescp", "Orthanc"),
    ("receive 8 x 526 kB CT, tuned sender", "Orthanc"),
    ("receive 8 x 526 kB CT, tuned sender", "DCMTK storescp"),
    ("receive 20 x 8 kB small, tuned sender", "Orthanc"),
    ("receive 20 x 8 kB small, tuned sender", "DCMTK storescp"),
    ("receive 5 x 8 kB small, sender as installed", "Orthanc"),
    ("receive 5 x 8 kB small, sender as installed", "DCMTK storescp"),
    (FOUR, "gateway, one sender"),
    (FOUR, "Orthanc"),
    (FOUR, "DCMTK storescp --fork"),
    (f"receive 8 x 526 kB CT, tuned sender, {KNOWN}", "gateway, empty index"),
    (f"receive 20 x 8 kB small, tuned sender, {KNOWN}", "gateway, empty index"),
    ("query by PatientID (1 answer)", "Orthanc"),
    ("query by name prefix (25 answers)", "Orthanc"),
    ("query by day and modality (25 answers)", "Orthanc"),
    ("query by a range of days (50 answers)", "Orthanc"),
    ("receive 8 CT, asked 10 times a second", "gateway, asked nothing"),
    ("seal 8 CT (4 MB) in memory", "primitives"),
    ("open 8 CT (4 MB) in memory", "our sealing in memory"),
    ("upload 8 CT (4 MB) to the local vault", "primitives"),
    ("open 8 CT (4 MB) from the vault, recipient's tool", "our upload"),
    ("upload 8 small to the local vault", "primitives"),
]
IN_WORDS = {
    (ANSWER, "gateway, one sender"): WAIT % 8,
    (ANSWER, "Orthanc"): WAIT % 8,
    (ANSWER, "DCMTK storescp --fork"): WAIT % 8,
    ("an answer while receiving, 10 a second", "-"): WAIT % r"\d+",
    ("receive one object of 8 MB (16 frames)", "-"): GROWTH,
    ("upload one object of 8 MB (16 frames), vault included", "-"): GROWTH,
    ("processor time of each CT uploaded", "primitives"): PROCESSOR,
    ("processor time of each small uploaded", "primitives"): PROCESSOR,
    (f"{ROW}: one's whole time", "-"): WAIT % 40,
    (f"{ROW}: acceptor", "-"): HELD,
    (f"{ROW}: receiver", "-"): HELD,
    ("pages and endpoints, 10 studies, 1,000 instances, SQLite", "-"): PAGES,
}


@pytest.mark.dcmtk
@pytest.mark.timeout(320)
def test_quick_benchmark_prints_every_figure_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick"]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=310, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    table = {(cells[0], cells[2]): cells for cells in lines[2:]}
    assert sorted(table) == sorted([*TIMED, *IN_WORDS])
    for key, (_figure, ours, beside, theirs, ratio, to_reach) in table.items():
        form = IN_WORDS.get(key, MEASURE)
        assert re.fullmatch(form, ours), ours
        assert to_reach
        if beside == "Orthanc" and program("Orthanc") is None:
            assert (theirs, ratio) == ("not installed", "-")
            continue
        assert re.fullmatch(form if beside != "-" else "-", theirs), theirs
        assert re.fullmatch(r"-" if key in IN_WORDS else r"[\d.e-]+x", ratio), ratio
    for named in ("machine", "load", "disk", "versions"):
        assert re.search(rf"^{named} +\S", done.stdout, re.MULTILINE), done.stdout
    assert list(tmp_path.iterdir()) == []


def test_refused_object_is_an_error_and_no_figure() -> None:
    refused = command_pdu(STORE_CONTEXT, [element(0x0900, struct.pack("<H", 0xA700))])
    assert status_of(refused[12:]) == 0xA700
    with receiver_that_answers(refused) as port:
        sender = Sender(port, called="ANY")
        with pytest.raises(BenchmarkError, match="A700"):
            sender.store(DataSet("1.2", "1.2.3", [b"content"]))
        sender.close()


def test_pdus_are_as_long_as_allowed_and_hold_the_data_set() -> None:
    pieces = [secrets.token_bytes(size) for size in (5, 0, 4000, 17, 1, 8192)]
    encoded = list(pdus(pieces, 1024))
    assert [len(pdu) for pdu in encoded[:-1]] == [6 + 1024] * (len(encoded) - 1)
    assert b"".join(pdu[12:] for pdu in encoded) == b"".join(pieces)
    assert [pdu[11] for pdu in encoded] == [0] * (len(encoded) - 1) + [LAST]


@pytest.mark.parametrize("kind", [CT, SMALL])
def test_sender_reads_identity_and_data_set_of_a_file(kind: ObjectKind) -> None:
    (content,) = ObjectFactory(kind).contents(1)
    read = dcmread(BytesIO(content))
    found = part10_read(content)
    assert (found.sop_class_uid, found.sop_instance_uid) == (read.SOPClassUID, read.SOPInstanceUID)
    assert dcmread(BytesIO(b"".join(found.pieces)), force=True).PixelData == read.PixelData


def test_peak_that_is_over_is_seen(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    says = "print(1, flush=True); sys.stdin.readline()"
    grows = f"import sys; {says}; x = b'x' * (84 << 20); del x; {says}"
    with subprocess.Popen([sys.executable, "-c", grows], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        gateway.processes.append(process)
        process.stdout.readline()  # it has started: what it took for that and gave back is no part of the growth
        with PeakWatch(gateway) as watch:
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()
        process.stdin.write(b"\n")
    assert 80 <= watch.growth()["other"] / MIB < 100


def test_silent_connection_that_was_closed_is_seen() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        assert silent_still(ours)
        theirs.close()
        assert not silent_still(ours)


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(200, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (100.0, 198.0, 7.0)


@contextmanager
def receiver_that_answers(answer: bytes) -> Iterator[int]:
    """Accepts one association and gives this answer to the first object."""
    accepted = struct.pack(">HH64x", 1, 0)
    accepted += b"".join(item(0x21, bytes([number, 0, 0, 0])) for number in (ECHO_CONTEXT, STORE_CONTEXT))
    accepted += item(0x50, item(0x51, struct.pack(">L", 4096)))

    def serve() -> None:
        connection, _address = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(HEADER.pack(ASSOCIATE_AC, len(accepted)) + accepted)
            received = b""
            while b"content" not in received:
                received += connection.recv(65_536)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
