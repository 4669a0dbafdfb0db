"""Fuzz target of the walk over datasets and of the file meta, seeded with pydicom's bundled files.

    .venv/bin/python -m tests.fuzz.fuzz_scan --seconds 600 [--seed 1] [--corpus FOLDER]

With atheris installed it is driven by coverage; otherwise by seeded random mutations of the same entry, `one_input`.
What fails is written to build/fuzz/ and its path printed.
"""

import argparse
import hashlib
import io
import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydicom.data import get_testdata_file

from studies.dicom import tags
from studies.dicom.errors import DatasetError
from studies.dicom.header import Header
from studies.dicom.part10 import file_meta_read
from studies.dicom.scan import DatasetScanner

DEFLATED = "1.2.840.10008.1.2.1.99"
SYNTAXES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    DEFLATED,
    "1.2.840.10008.1.2.4.50",
    "1.2.826.0.1.3680043.2.1.1",
)
SEED_BYTES = 16_384
LIMITS = {"max_inflated_bytes": 1 << 20, "max_elements": 5_000, "max_items": 2_000, "max_fragments": 2_000}
FAILURES = Path("build/fuzz")
TAIL_LIMIT_BYTES = 4096


class InvariantError(Exception):
    """The walk did what it promises never to do."""


def one_input(data: bytes) -> None:
    """The first byte chooses a transfer syntax, the second how the rest is cut; whatever it is, the promises hold."""
    if len(data) < 2:
        return
    syntax, chunk, dataset = SYNTAXES[data[0] % len(SYNTAXES)], 1 + data[1] * 7, data[2:]
    whole = _outcome(syntax, dataset, len(dataset) or 1)
    pieces = _outcome(syntax, dataset, chunk)
    if whole != pieces:
        raise InvariantError(f"the outcome depends on the chunks: {whole} and {pieces}")
    with suppress(DatasetError):
        file_meta_read(io.BytesIO(data))


def _outcome(syntax: str, dataset: bytes, chunk: int) -> tuple[object, ...]:
    """What became of it; only DatasetError may be raised, and what is kept between two chunks is bounded."""
    scanner = DatasetScanner(syntax, **LIMITS)
    try:
        for at in range(0, len(dataset), chunk):
            scanner.feed(memoryview(dataset)[at : at + chunk])
            if len(scanner._tail) > TAIL_LIMIT_BYTES:
                raise InvariantError(f"{len(scanner._tail)} bytes are kept between two chunks")
        header = scanner.finish()
    except DatasetError as error:
        # how far a stream is inflated before one of its flaws is met depends on the chunks; that it is refused does not
        return ("refused" if syntax == DEFLATED else error.code,)
    _readable(header)
    return ("whole", header.flags, tuple(sorted(header.values.items())))


def _readable(header: Header) -> None:
    """The typed readings take whatever was kept."""
    for tag in tags.INDEX_VRS:
        text = header.text(tag)
        if any(ord(character) < 0x20 for character in text):
            raise InvariantError("a control character in a text")
        header.date(tag)
        header.time(tag)
        header.integer(tag)
    with suppress(DatasetError):
        header.identity()


def seeds() -> list[bytes]:
    """Beginnings of pydicom's bundled files, each with the syntax it is written in and in a few others."""
    found = []
    for path in sorted(Path(str(get_testdata_file("CT_small.dcm"))).parent.glob("*.dcm")):
        raw = path.read_bytes()
        try:
            meta = file_meta_read(io.BytesIO(raw))
        except DatasetError:
            found.append(b"\0\0" + raw[:SEED_BYTES])
            continue
        index = SYNTAXES.index(meta.transfer_syntax_uid) if meta.transfer_syntax_uid in SYNTAXES else 4
        found.append(bytes([index, 9]) + raw[meta.dataset_offset :][:SEED_BYTES])
        found.append(raw[:SEED_BYTES])
    return found


def mutations(seed: int) -> Iterator[bytes]:
    """Endless inputs, the same for the same seed: cut, flipped, overwritten with telling values, spliced."""
    chance, corpus = random.Random(seed), seeds()
    while True:
        data = bytearray(chance.choice(corpus))
        for _ in range(chance.choice((0, 1, 1, 2, 4, 16))):
            _mutate(data, corpus, chance)
        yield bytes(data)


def _mutate(data: bytearray, corpus: list[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data)) if data else 0
    kind = chance.randrange(6)
    if kind == 0:
        del data[at:]
    elif kind == 1 and data:
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 2:
        data[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0", b"\0\0\0\0"))
    elif kind == 3:
        other = chance.choice(corpus)
        start = chance.randrange(len(other))
        data[at:at] = other[start : start + chance.randrange(64)]
    elif kind == 4:
        del data[at : at + chance.randrange(1, 32)]
    else:
        data[:1] = bytes([chance.randrange(256)])


def run(inputs: Iterator[bytes], *, seconds: float = float("inf"), rounds: int = sys.maxsize) -> int:
    """Tries inputs until time or rounds are over; answers how many. What fails is kept, and its error raised."""
    deadline = time.monotonic() + seconds
    for number, data in enumerate(inputs, start=1):
        try:
            one_input(data)
        except Exception:
            print(f"failing input: {failure_keep(data)}", file=sys.stderr)
            raise
        if number >= rounds or time.monotonic() >= deadline:
            return number
    return 0


def failure_keep(data: bytes) -> Path:
    FAILURES.mkdir(parents=True, exist_ok=True)
    path = FAILURES / f"scan-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--corpus", type=Path, default=FAILURES / "corpus-scan")
    asked = parser.parse_args()
    try:
        import atheris
    except ImportError:
        print(f"atheris is not installed: random mutations, seed {asked.seed}")
        print(f"{run(mutations(asked.seed), seconds=asked.seconds)} inputs, none failed")
        return
    asked.corpus.mkdir(parents=True, exist_ok=True)
    for data in seeds():
        (asked.corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-max_total_time={asked.seconds}", str(asked.corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
