"""Peers that keep to no standard. Each takes a port, chance and an honest object; nothing that they send may be stored.

They come from an address of their own, so that they use up their own share of the limits and not the honest senders'.
Whatever becomes of a connection is an OSError of theirs, and no finding.
"""

import contextlib
import random
import socket
import struct
from collections.abc import Callable, Iterator

from tests.dicom_samples import dataset_of
from tests.faults.wire_peers import P_DATA, RELEASE_REQUEST, response_status
from tests.network.dimse_fixtures import CT_IMAGE, associate_request, data_pdu, pdu, read_pdu, store_command
from tests.soak.stock import Item

ADDRESS = "127.0.0.2"
EXPLICIT = "1.2.840.10008.1.2.1"
ABORT = pdu(0x07, bytes(4))
SILENCE_SECONDS = 1.0
GARBAGE_UID = "1.2.3.666"
Attack = Callable[[int, random.Random, Item], None]


class StoredError(Exception):
    """An attack was answered with Success."""


def connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(ADDRESS, 0))


@contextlib.contextmanager
def associated(port: int) -> Iterator[socket.socket]:
    with connection(port) as opened:
        opened.sendall(associate_request(contexts=((CT_IMAGE, (EXPLICIT,)),)))
        read_pdu(opened)
        yield opened


def listen(opened: socket.socket) -> None:
    """Until the gateway ends it, or says nothing for a while. Raises StoredError."""
    opened.settimeout(SILENCE_SECONDS)
    kind = 1
    while kind:
        kind, body = read_pdu(opened)
        if kind == P_DATA and response_status(body)[1] == 0:
            raise StoredError


def half_header(port: int, chance: random.Random, _item: Item) -> None:
    with connection(port) as opened:
        opened.sendall(b"\x01\0\0\0\1\0"[: chance.randint(1, 6)])
        listen(opened)


def silence(port: int, chance: random.Random, _item: Item) -> None:
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connection(port)) for _ in range(chance.randint(1, 8))]
        listen(opened[0])


def noise(port: int, chance: random.Random, _item: Item) -> None:
    with connection(port) as opened:
        opened.sendall(chance.choice([b"GET / HTTP/1.1\r\n\r\n", chance.randbytes(chance.randint(1, 5000))]))
        listen(opened)


def request_of_4_gib(port: int, _chance: random.Random, _item: Item) -> None:
    with connection(port) as opened:
        opened.sendall(b"\x01\0\xff\xff\xff\xff" + bytes(1000))
        listen(opened)


def pdu_out_of_place(port: int, chance: random.Random, _item: Item) -> None:
    with associated(port) as opened:
        opened.sendall(pdu(chance.choice((0x00, 0x01, 0x02, 0x09, 0xFF)), chance.randbytes(chance.randint(0, 100))))
        listen(opened)


def garbage_as_data_set(port: int, chance: random.Random, _item: Item) -> None:
    with associated(port) as opened:
        opened.sendall(data_pdu(3, store_command(sop_instance_uid=GARBAGE_UID)))
        opened.sendall(data_pdu(2, chance.randbytes(chance.randint(1, 5000))))
        listen(opened)


def part_of_an_object(port: int, chance: random.Random, item: Item) -> None:
    """An honest object, broken off: by an abort, a release, a closed or reset connection, or by silence."""
    dataset = dataset_of(item.path)
    step, part = 16_000, dataset[: chance.randrange(len(dataset))]
    with associated(port) as opened:
        opened.sendall(data_pdu(3, store_command(sop_instance_uid=item.uid)))
        for at in range(0, len(part), step):
            opened.sendall(data_pdu(0, part[at : at + step]))
        end = chance.choice(("abort", "release", "close", "reset", "silence"))
        if end == "reset":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif end in ("abort", "release"):
            opened.sendall(ABORT if end == "abort" else RELEASE_REQUEST)
        if end in ("release", "silence"):
            listen(opened)


ATTACKS: dict[str, Attack] = {
    "half header": half_header,
    "silence": silence,
    "noise": noise,
    "request of 4 GiB": request_of_4_gib,
    "PDU out of place": pdu_out_of_place,
    "garbage as data set": garbage_as_data_set,
    "part of an object": part_of_an_object,
}
