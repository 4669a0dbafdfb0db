"""FAULTS A2 for queries: what a hostile peer may send as an identifier, or instead of one."""

import struct

import pytest

from benchmarks.finder import cancel, identifier, request
from benchmarks.peers import BenchmarkError
from tests.flow.query_wire import listening, raw
from tests.gateway_harness import Gateway
from tests.network.identifiers import encoded, question

pytestmark = [pytest.mark.timeout(120)]
STUDY = ("CS", "STUDY")
SEQUENCE = struct.pack("<HH2sHL", 0x40, 0x275, b"SQ", 0, 0xFFFFFFFF)
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
CASES = {
    "noise": (b"\xff" * 100, 0xC000),
    "nothing": (b"", 0xA900),
    "sequences 50 deep": ((SEQUENCE + ITEM) * 50, 0xC000),
    "3,000 keys": (encoded(question("STUDY")) * 3000, 0xC000),
    "6,000 UIDs": (identifier({0x00080052: STUDY, 0x0020000D: ("UI", "\\".join(["1.2"] * 6000))}), 0xC000),
    "2,000 stars": (identifier({0x00080052: STUDY, 0x00100010: ("PN", "*a" * 2000)}), 0x0000),
    "SQL": (identifier({0x00080052: STUDY, 0x00100010: ("PN", "' OR 1=1 --")}), 0x0000),
    "character set": (
        identifier({0x00080052: STUDY, 0x00080005: ("CS", "NONSENSE"), 0x00100010: ("PN", "\u00ff*")}),
        0x0000,
    ),
    "NUL": (identifier({0x00080052: STUDY, 0x00100020: ("LO", "a\0b")}), 0xC000),
    "a number beyond numbers": (identifier({0x00080052: STUDY, 0x00201208: ("IS", "9" * 40)}), 0x0000),
    "300 kB": (struct.pack("<HH2sHL", 8, 0x60, b"OB", 0, 300_000) + b"x" * 300_000, 0xC000),
    "a length beyond the end": (struct.pack("<HH2sH", 8, 0x52, b"CS", 60_000) + b"STUDY ", 0xC000),
    "a key that cannot be one": (
        identifier({0x00080052: STUDY}) + struct.pack("<HH2sHL", 0x28, 0x2000, b"OB", 0, 8) + b"\1" * 8,
        0xC000,
    ),
}


@pytest.fixture(scope="module")
def house(shared_gateway: Gateway) -> Gateway:
    """One gateway for all of these."""
    listening(shared_gateway, studies=40)
    return shared_gateway


@pytest.mark.parametrize(("content", "status"), CASES.values(), ids=CASES.keys())
def test_hostile_identifier_is_answered_and_the_association_goes_on(
    house: Gateway, content: bytes, status: int
) -> None:
    with raw(house) as finder:
        finder.send(request(1, content))
        assert finder.statuses() == [status]
        assert finder.find(encoded(question("STUDY", PatientID="SEED000000"))) == 3
    assert "Traceback" not in house.log.read_text()


def test_d05_query_in_a_context_of_another_model_is_refused(house: Gateway) -> None:
    with raw(house) as finder:
        finder.send(request(1, encoded(question("STUDY")), sop_class="1.2.840.10008.5.1.4.1.2.1.1"))
        assert finder.statuses() == [0x0122]


def test_d08_query_without_its_identifier_ends_the_association(house: Gateway) -> None:
    whole = request(1, encoded(question("STUDY")))
    command = whole[: 6 + struct.unpack_from(">L", whole, 2)[0]]
    with raw(house) as finder:
        finder.send(command + command)
        with pytest.raises(BenchmarkError, match=r"PDU of type 7"):
            finder.response()


def test_d09_message_id_again_and_cancel_of_nothing(house: Gateway) -> None:
    asked = encoded(question("STUDY", PatientID="SEED000000"))
    with raw(house) as finder:
        for _ in range(3):
            finder.send(request(5, asked) + cancel(5) + cancel(99))
            assert finder.statuses() == [0xFF00] * 3 + [0]
