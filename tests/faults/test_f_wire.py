"""Faults of objects, by number, from a raw socket: what is unreadable is refused, what is ugly is kept as it came.

Nothing is decoded on the way in. Another peer's objects are stored and indexed throughout.
"""

import hashlib
import random
import struct
import tracemalloc

import pytest

from network.dimse import statuses
from studies.dicom import tags
from studies.models import Instance, QuarantinedObject, Study
from tests.faults.conftest import Wired
from tests.faults.wire_peers import A_RELEASE_RP, HONEST, P_DATA, RELEASE_REQUEST, associated, object_sent
from tests.network.dimse_fixtures import read_pdu
from tests.studies.datasets import (
    BIG_ENDIAN,
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    SEQUENCE_END,
    UNDEFINED,
    dataset,
    element,
    identity,
    implicit,
    item,
    uid,
)
from tests.studies.house import House

pytestmark = pytest.mark.django_db(transaction=True)

J2K, JPEG_LS, RLE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"
SYNTAXES = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, JPEG, J2K, JPEG_LS, RLE)
CONTEXTS = tuple((CT, (syntax,)) for syntax in SYNTAXES)
OURS, STUDY, SERIES = "1.2.3.1", "1.2.5", "1.2.6"
MIB = 1 << 20


def sent(local, data: bytes, syntax: str = EXPLICIT) -> int:
    """The status of this data set as the attacker's object; its association ends in order."""
    with associated(local, contexts=CONTEXTS) as connection:
        context = 2 * SYNTAXES.index(syntax) + 1
        kind, status = object_sent(connection, data, context_id=context, sop_instance_uid=OURS)
        assert kind == P_DATA
        connection.sendall(RELEASE_REQUEST)
        assert read_pdu(connection)[0] == A_RELEASE_RP
    return status


def whole(*more: bytes, **overrides: bytes) -> bytes:
    """A data set of the attacker's object with these elements, explicit VR."""
    own = {"instance": uid(OURS), "study": uid(STUDY), "series": uid(SERIES)}
    return dataset(*more, **(own | overrides))


def whole_implicit(*more: bytes) -> bytes:
    own = identity(instance=uid(OURS), study=uid(STUDY), series=uid(SERIES))
    parts = [*(implicit(tag, value) for tag, value in own.items()), *more]
    return b"".join(sorted(parts, key=lambda part: struct.unpack("<HH", part[:4])))


def frames(*fragments: bytes) -> bytes:
    return element(tags.PIXEL_DATA, "OB", b"".join(map(item, (b"", *fragments))) + SEQUENCE_END, length=UNDEFINED)


def kept(house: House, data: bytes) -> Instance:
    """The row of the attacker's object, whose file holds exactly what was sent."""
    row = Instance.objects.get(sop_instance_uid=OURS)
    assert house.data_set_of(row) == data
    assert row.sha256 == hashlib.sha256(data).hexdigest()
    return row


REFUSED = {
    "f01-random": (EXPLICIT, random.Random(1).randbytes(5000), None),
    "f02-cut": (EXPLICIT, whole(element(tags.PIXEL_DATA, "OW", bytes(10), length=1_000_000)), "dataset-truncated"),
    "f04-implicit-bytes": (EXPLICIT, whole_implicit(), "transfer-syntax-mismatch"),
    "f05-byte-order": (BIG_ENDIAN, whole(), "transfer-syntax-mismatch"),
    "f05-not-encapsulated": (JPEG, whole(element(tags.PIXEL_DATA, "OW", bytes(8))), "transfer-syntax-mismatch"),
    "f06-no-study": (EXPLICIT, whole(study=b""), "identity-missing"),
    "f06-no-series": (EXPLICIT, whole(series=b""), "identity-missing"),
    "f08-letters": (EXPLICIT, whole(study=b"1.2.5abc"), "uid-invalid"),
    "f08-too-long": (EXPLICIT, whole(study=b"1." * 33), "uid-invalid"),
    "f14-depth": (
        EXPLICIT,
        whole() + element(0x00400555, "SQ", item(length=UNDEFINED)[:8], length=UNDEFINED) * 300,
        "dataset-too-deep",
    ),
    "f16-not-deflated": (DEFLATED, whole(), "deflate-invalid"),
    "f18-length-beyond": (EXPLICIT, whole(element(0x00091010, "UN", b"ab", length=1 << 31)), "dataset-truncated"),
    "f29-no-offset-table": (JPEG, whole(element(tags.PIXEL_DATA, "OB", SEQUENCE_END, length=UNDEFINED)), None),
    "f29-no-delimiter": (
        JPEG,
        whole(element(tags.PIXEL_DATA, "OB", item() + item(b"\xff\xd8"), length=UNDEFINED)),
        "dataset-truncated",
    ),
    "f34-nothing": (EXPLICIT, b"", "dataset-empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_f01_to_f34_refused_with_its_reason_and_kept_in_quarantine(house: House, wired: Wired, name: str) -> None:
    syntax, data, code = REFUSED[name]
    with wired() as local:
        assert sent(local, data, syntax) == statuses.CANNOT_UNDERSTAND
    row = QuarantinedObject.objects.get()
    assert row.kept
    assert row.code == code or code is None
    assert (row.size_bytes, row.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert not Instance.objects.exclude(sop_instance_uid=HONEST).exists()


KEPT = {
    "f08-leading-zero": (whole(study=b"1.02.5\0\0"), "uid-leading-zero"),
    "f18-wrong-vr": (whole(element(tags.PATIENT_NAME, "OB", b"\0\1\2\3")), "wrong-vr"),
    "f19-unknown-vr": (whole(element(0x00091010, "QQ", b"ab")), "unknown-vr"),
    "f20-unordered": (whole() + element(tags.PATIENT_ID, "LO", b"A1"), "unordered"),
    "f21-charset": (whole(element(tags.SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 999")), "charset-unknown"),
    "f24-date": (whole(element(tags.STUDY_DATE, "DA", b"20261399")), ""),
    "f35-odd": (whole(element(tags.PATIENT_ID, "LO", b"A12")), "odd-length"),
}


@pytest.mark.parametrize("name", KEPT)
def test_f08_to_f35_ugly_is_kept_as_it_came_and_flagged(house: House, wired: Wired, name: str) -> None:
    data, flag = KEPT[name]
    with wired() as local:
        assert sent(local, data) == statuses.SUCCESS
    assert flag in kept(house, data).flags.split(",")
    assert not QuarantinedObject.objects.exists()


BOMB = b"\\" * 1_000_000
BOMBED = (
    tags.SPECIFIC_CHARACTER_SET,
    tags.STUDY_DATE,
    tags.MODALITY,
    tags.PATIENT_NAME,
    tags.PATIENT_ID,
    tags.SERIES_NUMBER,
)


def test_f25_a_million_backslashes_in_every_attribute_of_the_index(house: House, wired: Wired) -> None:
    """Stored whole; the index keeps a bounded beginning, and nothing is ever split into a million values."""
    data = whole_implicit(*(implicit(tag, BOMB) for tag in BOMBED))
    tracemalloc.start()
    try:
        with wired() as local:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            assert sent(local, data, IMPLICIT) == statuses.SUCCESS
            assert tracemalloc.get_traced_memory()[1] - before < 4 * MIB
    finally:
        tracemalloc.stop()
    assert "long-value" in kept(house, data).flags
    study = Study.objects.get(study_instance_uid=STUDY)
    assert (study.study_date, len(study.patient_name) <= 256, len(study.patient_id) <= 256) == (None, True, True)


def test_f26_sizes_that_overflow_are_never_believed(house: House, wired: Wired) -> None:
    """Rows as UL, 65,535 columns, 2^31 frames of 64 bit: 10^19 bytes for whoever would multiply them on receipt."""
    data = whole(
        element(0x00280002, "US", b"\xff\xff"),
        element(tags.NUMBER_OF_FRAMES, "IS", b"2147483648"),
        element(tags.ROWS, "UL", b"\xff\xff\xff\xff"),
        element(tags.COLUMNS, "US", b"\xff\xff"),
        element(0x00280100, "US", b"\x40\0"),
        element(tags.PIXEL_DATA, "OW", b"\0\1"),
    )
    tracemalloc.start()
    try:
        with wired() as local:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            assert sent(local, data) == statuses.SUCCESS
            assert tracemalloc.get_traced_memory()[1] - before < 4 * MIB
    finally:
        tracemalloc.stop()
    row = kept(house, data)
    assert (row.rows, row.columns, row.number_of_frames) == (None, 65535, None)
    assert row.flags == "wrong-vr"


BROKEN = {
    "jpeg": (JPEG, b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\xff"),
    "jpeg-empty": (JPEG, b""),
    "j2k": (J2K, b"\xff\x4f\xff\x51\0\x29\0\0" + b"\xff" * 36),
    "jpeg-ls": (JPEG_LS, b"\xff\xd8\xff\xf7\0\x0b\x10\xff\xff\xff\xff\x01\x01\x11\0\0"),
    "rle": (RLE, struct.pack("<16L", 15, *[0xFFFFFFFF] * 15)),
    "another-codec": (J2K, b"\xff\xd8\xff\xe0 not what the syntax says "),
    "noise": (JPEG, random.Random(2).randbytes(100_000)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_f28_broken_frames_are_stored_undecoded(house: House, wired: Wired, name: str) -> None:
    syntax, frame = BROKEN[name]
    data = whole(frames(frame, frame))
    with wired() as local:
        assert sent(local, data, syntax) == statuses.SUCCESS
    assert kept(house, data).flags == ""
    assert not QuarantinedObject.objects.exists()
