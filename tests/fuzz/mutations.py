"""The small runner: endless inputs by chance, the same for the same seed. It finds the shallow faults, anywhere."""

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence

TELLING_VALUES = (b"\xff\xff\xff\xff", b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0", b"\0\0\0\0", b"\x1b$B", b"\\")


def mutations(corpus: Sequence[bytes], *, seed: int) -> Iterator[bytes]:
    """Inputs of the corpus cut, flipped, overwritten with telling values, spliced; some of them as they are."""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(corpus))
        for _ in range(chance.choice((0, 1, 1, 2, 4, 16))):
            _mutate(data, corpus, chance)
        yield bytes(data)


def _mutate(data: bytearray, corpus: Sequence[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data)) if data else 0
    kind = chance.randrange(6)
    if kind == 0:
        del data[at:]
    elif kind == 1 and data:
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 2:
        value = chance.choice(TELLING_VALUES)
        data[at : at + len(value)] = value
    elif kind == 3:
        other = chance.choice(corpus)
        start = chance.randrange(len(other))
        data[at:at] = other[start : start + chance.randrange(64)]
    elif kind == 4:
        del data[at : at + chance.randrange(1, 32)]
    else:
        data[:1] = bytes([chance.randrange(256)])


def run(
    promise: Callable[[bytes], None],
    inputs: Iterator[bytes],
    *,
    failed: Callable[[bytes], None],
    seconds: float = float("inf"),
    rounds: int = sys.maxsize,
) -> int:
    """Tries inputs until time or rounds are over; answers how many. What fails goes to `failed`; its error goes on."""
    deadline = time.monotonic() + seconds
    for number, data in enumerate(inputs, start=1):
        try:
            promise(data)
        except Exception:
            failed(data)
            raise
        if number >= rounds or time.monotonic() >= deadline:
            return number
    return 0
