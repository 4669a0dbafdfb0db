"""FAULTS.md F26 and F28: pixels that lie about their size and codestreams in pieces cost a picture and nothing else."""

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studies.dicom.part10 import file_meta_read
from studies.dicom.render_errors import CODES, RenderError
from studies.dicom.render_pool import Limits, RenderPool
from studies.dicom.render_request import Request
from tests.studies.test_render import JPEG_2000, RAMP, part10


@pytest.fixture(scope="module")
def pool() -> Iterator[RenderPool]:
    made = RenderPool(Limits(seconds=20, wait_seconds=60, memory_mb=512))
    yield made
    made.close()


def look(pool: RenderPool, file: io.BytesIO, folder: Path, **request: Any) -> str:
    path = folder / "object.dcm"
    path.write_bytes(file.getvalue())
    with path.open("rb") as stream:
        try:
            pool.render(stream.fileno(), Request(**request))
        except RenderError as error:
            return error.code
    return ""


def process_of(pool: RenderPool) -> int:
    process = pool._idle.get(timeout=60)
    pool._idle.put(process)
    return process.process.pid if process else 0


LIES = [
    {"Rows": 65535, "Columns": 65535},
    {"Rows": 65535, "Columns": 1500},
    {"Rows": 0},
    {"Columns": 0},
    {"NumberOfFrames": 2**31 - 1},
    {"NumberOfFrames": -5},
    {"SamplesPerPixel": 65535},
    {"SamplesPerPixel": 0},
    {"BitsAllocated": 7},
    {"BitsAllocated": 65535},
    {"HighBit": 200, "BitsStored": 12},
    {"PhotometricInterpretation": "PALETTE COLOR"},
    {"PhotometricInterpretation": "YBR_FULL_422"},
    {"PhotometricInterpretation": "NONSENSE"},
    {"PixelRepresentation": 9},
]


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_f26_headers_that_lie_allocate_nothing(pool: RenderPool, tmp_path: Path, lie: dict[str, Any]) -> None:
    assert look(pool, part10(RAMP), tmp_path) == ""
    before = process_of(pool)
    assert look(pool, part10(RAMP, **lie), tmp_path) in ("picture-broken", "picture-too-large", "picture-frame-missing")
    assert process_of(pool) == before, "the header was believed"


@pytest.mark.parametrize("frame", [1, 2, 2**31 - 1])
def test_f26_frames_that_are_not_there_are_not_looked_for_in_memory(
    pool: RenderPool, tmp_path: Path, frame: int
) -> None:
    file = part10(RAMP, NumberOfFrames=2**31 - 1)
    assert look(pool, file, tmp_path, frame=frame) in ("", "picture-broken")


def test_f26_rows_of_another_kind_are_refused(pool: RenderPool, tmp_path: Path) -> None:
    """Rows as UL of 2^31: pydicom reads whatever VR stands there."""
    raw = part10(RAMP).getvalue()
    at = raw.index(b"\x28\x00\x10\x00US\x02\x00")
    long = b"\x28\x00\x10\x00UL\x04\x00\x00\x00\x00\x80"
    assert look(pool, io.BytesIO(raw[:at] + long + raw[at + 10 :]), tmp_path) == "picture-broken"


@pytest.mark.parametrize(
    "window", [{"WindowWidth": "0"}, {"WindowWidth": "-5"}, {"RescaleSlope": "1e300"}, {"RescaleSlope": "0"}]
)
def test_f24_windows_and_slopes_beyond_reason_give_some_picture(pool: RenderPool, tmp_path: Path, window) -> None:
    assert look(pool, part10(RAMP, WindowCenter=40, **{"WindowWidth": 400, **window}), tmp_path) == ""


@pytest.mark.parametrize("syntax", JPEG_2000)
def test_f28_codestreams_in_pieces_cost_a_picture_and_no_process(
    pool: RenderPool, tmp_path_factory: pytest.TempPathFactory, syntax: str
) -> None:
    whole = JPEG_2000[syntax](RAMP)
    folder = tmp_path_factory.mktemp("broken")

    @settings(max_examples=12, suppress_health_check=list(HealthCheck), deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=8), st.integers(2, len(whole))
    )
    def mutated(changes: list[tuple[int, int]], length: int) -> None:
        stream = bytearray(whole[: length & ~1])
        for at, value in changes:
            if at < len(stream):
                stream[at] = value
        assert look(pool, part10(RAMP, syntax=syntax, frames=[bytes(stream)]), folder) in ("", *CODES)

    mutated()
    assert look(pool, part10(RAMP), folder) == ""


def test_f28_frame_of_another_size_than_the_header_says(pool: RenderPool, tmp_path: Path) -> None:
    large = imagecodecs.jpeg2k_encode(np.zeros((256, 256), np.uint16), level=0, codecformat="j2k")
    file = part10(RAMP, syntax="1.2.840.10008.1.2.4.90", frames=[large])
    assert look(pool, file, tmp_path) == "picture-broken"


def test_f28_bomb_of_a_codestream_is_stopped_by_memory(pool: RenderPool, tmp_path: Path) -> None:
    """Its own header says 60,000 by 60,000; Rows and Columns say 64."""
    bomb = bytearray(JPEG_2000["1.2.840.10008.1.2.4.90"](RAMP))
    size = bomb.index(b"\xff\x51") + 6  # Xsiz, Ysiz, then after two offsets XTsiz, YTsiz (ISO 15444-1 A.5.1)
    for at in (size, size + 4, size + 16, size + 20):
        bomb[at : at + 4] = (60_000).to_bytes(4, "big")
    file = part10(RAMP, syntax="1.2.840.10008.1.2.4.90", frames=[bytes(bomb)])
    assert look(pool, file, tmp_path) in ("picture-broken", "picture-killed", "picture-slow")
    assert look(pool, part10(RAMP), tmp_path) == ""


def test_f16_deflate_bomb_is_stopped_by_memory(pool: RenderPool, tmp_path: Path) -> None:
    file = part10(RAMP)
    raw = file.getvalue()
    meta = file_meta_read(io.BytesIO(raw))
    head = raw[: meta.dataset_offset].replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.1.99")
    head = head.replace(b"\x02\x00\x10\x00UI\x14\x00", b"\x02\x00\x10\x00UI\x16\x00")
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(raw[meta.dataset_offset :])
    packed += packer.flush(zlib.Z_FULL_FLUSH)
    packed += (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)) * 1200 + packer.flush()
    assert look(pool, io.BytesIO(head + packed), tmp_path) in ("picture-killed", "picture-broken", "picture-slow")
    assert look(pool, part10(RAMP), tmp_path) == ""
