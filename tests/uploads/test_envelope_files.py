"""Sealed files: they come back byte for byte, or not at all."""

import copy
import hashlib
import io
import os
import pickle
import secrets
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.uploads.envelope_support import (
    RECIPIENT,
    RECOVERY,
    STRANGER,
    open_bytes,
    opener_for,
    refusal,
    run_start,
    seal_bytes,
    segments_of,
)
from uploads.envelope import framing
from uploads.envelope.seal import HashedSink, SealingRun, SegmentWriter
from uploads.envelope.unseal import Opener

MIB = 1024 * 1024
RUN = run_start()
OPENER = opener_for(RUN)
NOISE = secrets.token_bytes(3 * MIB)


def seal_stream(
    run: SealingRun, compressed: bytes, *, declared: int, step: int = framing.SEGMENT_BYTES, ends: bool = True
) -> bytes:
    """A file of our own making under the run's keys, to say things that the sealer never says."""
    sink = io.BytesIO()
    encoded = framing.FileHeader(secrets.token_hex(16), run.run_id, run.upload_id, os.urandom(32)).encode()
    salt = framing.header_parse(encoded[6:]).salt
    key = framing.file_key(run._session_key, salt=salt, hashed_header=framing.header_hash(encoded))
    writer = SegmentWriter(HashedSink(sink), key=key, encoded_header=encoded, segment_bytes=step)
    writer.add(compressed, declared=declared)
    if ends:
        writer.finish(declared=declared)
    return sink.getvalue()


def compressed(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(content)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=5000), repeat=st.integers(1, 50))
def test_any_content_comes_back(content, repeat):
    sealed, stored = seal_bytes(RUN, content * repeat)
    assert open_bytes(OPENER, stored) == content * repeat
    assert sealed.size_bytes == len(stored)
    assert sealed.sha256 == hashlib.sha256(stored).hexdigest()
    assert sealed.content_sha256 == hashlib.sha256(content * repeat).hexdigest()
    assert sealed.content_size_bytes == len(content) * repeat


@settings(max_examples=25, deadline=None)
@given(around=st.sampled_from([0, MIB, 2 * MIB]), off=st.integers(-70, 70))
def test_contents_around_segment_borders_come_back(around, off):
    content = NOISE[: max(0, around + off)]
    _, stored = seal_bytes(RUN, content)
    assert open_bytes(OPENER, stored) == content
    sizes = [int.from_bytes(segment[:4], "big") for segment in segments_of(stored)[1]]
    assert max(sizes) <= MIB + 16
    assert [segment[4] for segment in segments_of(stored)[1]] == [0] * (len(sizes) - 1) + [1]


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 200), step=st.integers(1, 70))
def test_segments_of_any_size_are_read(length, step):
    stream = compressed(NOISE[:length])
    stored = seal_stream(RUN, stream, declared=length, step=step)
    assert len(segments_of(stored)[1]) == -(-len(stream) // step)
    assert open_bytes(OPENER, stored) == NOISE[:length]


class Dribble(io.BytesIO):
    """Gives less than it is asked for, as sockets and pipes do."""

    def read(self, size=-1):
        return super().read(min(size, 4099) if size > 0 else size)


def test_short_reads_change_nothing():
    sink, back = io.BytesIO(), io.BytesIO()
    RUN.seal(Dribble(NOISE), sink, file_id="ab" * 16)
    OPENER.open(Dribble(sink.getvalue()), back)
    assert back.getvalue() == NOISE


def test_progress_counts_content_up_to_its_size():
    told = []
    RUN.seal(io.BytesIO(NOISE[: 2 * MIB + 5]), io.BytesIO(), file_id="ab" * 16, on_progress=told.append)
    assert told == [MIB, 2 * MIB, 2 * MIB + 5]


class Zeros(io.RawIOBase):
    def __init__(self, size):
        self.left = size

    def read(self, size=-1):
        count = min(size, self.left)
        self.left -= count
        return bytes(count)


class Count(io.RawIOBase):
    size = 0

    def write(self, data):
        self.size += len(data)
        return len(data)


def test_memory_is_constant_for_any_size():
    stored, back = io.BytesIO(), Count()
    tracemalloc.start()
    try:
        RUN.seal(Zeros(300 * MIB), stored, file_id="ab" * 16)
        stored.seek(0)
        OPENER.open(stored, back)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert back.size == 300 * MIB
    assert peak < 12 * MIB


def test_header_tells_random_ids_and_nothing_else():
    sealed, stored = seal_bytes(RUN, b"PATIENT^NAME")
    header = framing.json_object(segments_of(stored)[0][6:])
    assert set(header) == {"version", "file_id", "run_id", "upload_id", "salt"}
    assert (header["file_id"], header["run_id"], header["upload_id"]) == (sealed.file_id, RUN.run_id, RUN.upload_id)


@pytest.mark.parametrize("file_id", ["1.2.840.10008.1.2", "AB" * 16, "", "../" * 10, "a" * 65, "ab" * 16 + "\n", None])
def test_only_random_hex_is_a_file_id(file_id):
    assert refusal(RUN.seal, io.BytesIO(), io.BytesIO(), file_id=file_id) == "identifier-invalid"


def test_c15_bit_flip_anywhere_gives_an_error():
    _, stored = seal_bytes(RUN, b"content " * 20)
    for position in range(len(stored)):
        damaged = bytearray(stored)
        damaged[position] ^= 1 << position % 8
        sink = io.BytesIO()
        code = refusal(OPENER.open, io.BytesIO(bytes(damaged)), sink)
        assert code in {"file-invalid", "authentication-failed", "file-truncated", "key-unknown"}, position
        assert sink.getvalue() == b"", position


def test_c15_nothing_of_a_damaged_segment_is_decrypted():
    stored = seal_stream(RUN, compressed(NOISE[:600]), declared=600, step=200)
    header, segments = segments_of(stored)
    sink = io.BytesIO()
    damaged = bytearray(segments[1])
    damaged[40] ^= 1
    code = refusal(OPENER.open, io.BytesIO(header + segments[0] + bytes(damaged) + segments[2]), sink)
    assert code == "authentication-failed"
    assert NOISE[300:310] not in sink.getvalue()


HEADER, SEGMENTS = segments_of(seal_stream(RUN, compressed(NOISE[:600]), declared=600, step=150))
OTHER_HEADER, OTHER_SEGMENTS = segments_of(seal_stream(RUN, compressed(NOISE[:600]), declared=600, step=150))
FIRST, SECOND, THIRD, FOURTH, LAST = SEGMENTS


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([HEADER, *SEGMENTS], ""),
        ([HEADER, SECOND, FIRST, THIRD, FOURTH, LAST], "authentication-failed"),
        ([HEADER, FIRST, FIRST, SECOND, THIRD, FOURTH, LAST], "authentication-failed"),
        ([HEADER, FIRST, THIRD, FOURTH, LAST], "authentication-failed"),
        ([HEADER, FIRST, SECOND, THIRD, FOURTH, FOURTH, LAST], "authentication-failed"),
        ([HEADER, LAST], "authentication-failed"),
        ([HEADER, FIRST, OTHER_SEGMENTS[1], THIRD, FOURTH, LAST], "authentication-failed"),
        ([OTHER_HEADER, *SEGMENTS], "authentication-failed"),
        ([HEADER, FIRST, SECOND, THIRD, FOURTH], "file-truncated"),
        ([HEADER], "file-truncated"),
        ([HEADER, *SEGMENTS[:-1], LAST[:-1]], "file-truncated"),
        ([HEADER, *SEGMENTS[:-1], FOURTH[:4] + b"\x01" + FOURTH[5:]], "authentication-failed"),
        ([HEADER, *SEGMENTS[:-2], FOURTH[:4] + b"\x01" + FOURTH[5:]], "authentication-failed"),
        ([HEADER, *SEGMENTS[:-1], LAST[:4] + b"\x00" + LAST[5:]], "authentication-failed"),
        ([HEADER, *SEGMENTS, b"\x00"], "trailing-bytes"),
        ([HEADER, *SEGMENTS, LAST], "trailing-bytes"),
        ([HEADER, *SEGMENTS, HEADER, *SEGMENTS], "trailing-bytes"),
    ],
)
def test_c16_cut_swapped_repeated_and_spliced_segments_are_refused(parts, code):
    assert refusal(open_bytes, OPENER, b"".join(parts)) == code


def test_c16_file_cut_at_any_octet_is_refused():
    stored = b"".join([HEADER, *SEGMENTS])
    assert {refusal(open_bytes, OPENER, stored[:length]) for length in range(len(stored))} == {"file-truncated"}


def test_c16_segments_of_another_run_are_refused():
    other = run_start(upload_id=RUN.upload_id)
    _, ours = seal_bytes(RUN, b"content", file_id="ab" * 16)
    _, theirs = seal_bytes(other, b"content", file_id="ab" * 16)
    opener = opener_for(RUN, other)
    spliced = segments_of(ours)[0] + segments_of(theirs)[1][0]
    assert refusal(open_bytes, opener, spliced) == "authentication-failed"
    renamed = ours.replace(RUN.run_id.encode(), other.run_id.encode())
    assert refusal(open_bytes, opener, renamed) == "authentication-failed"


def test_file_header_of_another_upload_is_refused():
    header = framing.FileHeader("ab" * 16, RUN.run_id, "cd" * 16, bytes(32)).encode()
    assert refusal(open_bytes, OPENER, header + LAST) == "file-invalid"


@pytest.mark.parametrize(
    "start",
    [
        b"GVE2",
        b"GVE1\xff\xff",
        b"GVE1\x00\x02{}",
        b"GVE1\x00\x04null",
        b"GVE1\x00\x05" + b"[" * 5,
        b"GVE1\x04\x00" + b"[" * 1024,
        HEADER.replace(b'"version":1', b'"version":2'),
        HEADER.replace(b'"version":1', b'"version":true')[:5]
        + bytes([HEADER[5] + 3])
        + HEADER[6:].replace(b":1}", b":true}"),
        HEADER + b"\xff\xff\xff\xf0\x00",
        HEADER + b"\x00\x00\x00\x00\x01",
        HEADER + b"\x00\x00\x00\x11\x01",
        HEADER + (MIB + 32).to_bytes(4, "big") + b"\x00",
        HEADER + b"\x00\x00\x00\x10\x02",
    ],
)
def test_bounds_are_checked_before_anything_is_read_or_allocated(start):
    assert refusal(open_bytes, OPENER, start + bytes(100)) == "file-invalid"


def test_wrong_recipient_cannot_add_the_key():
    assert refusal(Opener(STRANGER).add_key, RUN.key_documents[0].content) == "not-for-this-key"


def test_file_without_its_key_is_a_passing_error():
    assert refusal(open_bytes, Opener(RECIPIENT), b"".join([HEADER, *SEGMENTS])) == "key-unknown"


def test_each_recipient_opens_with_a_document_of_its_own():
    run = run_start(recipients=(RECIPIENT, RECOVERY))
    _, stored = seal_bytes(run, b"content")
    assert [document.name for document in run.key_documents] == [f"key-{run.run_id}-{n}.jwe" for n in (1, 2)]
    assert open_bytes(opener_for(run), stored) == b"content"
    assert open_bytes(opener_for(run, key=RECOVERY, number=1), stored) == b"content"


def test_c20_bomb_is_stopped_by_the_declared_size():
    bomb = seal_stream(RUN, compressed(bytes(200 * MIB)), declared=MIB)
    sink = Count()
    assert refusal(OPENER.open, io.BytesIO(bomb), sink) == "content-too-large"
    assert sink.size <= MIB


def test_c20_bomb_is_stopped_by_the_size_in_the_map():
    bomb = seal_stream(RUN, compressed(bytes(200 * MIB)), declared=200 * MIB)
    sink = Count()
    assert refusal(OPENER.open, io.BytesIO(bomb), sink, content_size_bytes=MIB) == "content-too-large"
    assert sink.size == 0


def test_c20_declared_size_has_a_limit_where_no_map_is_at_hand():
    bomb = seal_stream(RUN, compressed(b"x"), declared=2**63)
    assert refusal(open_bytes, OPENER, bomb) == "content-too-large"


def test_c20_wide_zstd_window_is_refused():
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    stream = compressor.compress(b"x" * 100) + compressor.flush()
    assert refusal(open_bytes, OPENER, seal_stream(RUN, stream, declared=100)) == "content-corrupt"


@pytest.mark.parametrize(
    ("stream", "declared"),
    [(b"junk", 4), (compressed(b"12345")[:-8], 5), (compressed(b"12345"), 6), (compressed(b"12345") + b"junk!", 5)],
    ids=["no-zstd", "cut-zstd", "declared-more", "junk-after-frame"],
)
def test_authentic_but_wrong_streams_are_refused(stream, declared):
    assert refusal(open_bytes, OPENER, seal_stream(RUN, stream, declared=declared)) == "content-corrupt"


def test_declared_size_never_falls():
    sink = io.BytesIO()
    encoded = framing.FileHeader("ab" * 16, RUN.run_id, RUN.upload_id, bytes(32)).encode()
    key = framing.file_key(RUN._session_key, salt=bytes(32), hashed_header=framing.header_hash(encoded))
    writer = SegmentWriter(HashedSink(sink), key=key, encoded_header=encoded, segment_bytes=10)
    writer.add(compressed(b"12345"), declared=6)
    writer.finish(declared=5)
    assert refusal(open_bytes, OPENER, sink.getvalue()) == "content-corrupt"


def test_segment_without_data_is_refused():
    assert refusal(open_bytes, OPENER, seal_stream(RUN, b"", declared=0)) == "content-corrupt"


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        ({"content_size_bytes": 7}, ""),
        ({"content_size_bytes": 8}, "content-mismatch"),
        ({"content_size_bytes": 6}, "content-too-large"),
        ({"content_sha256": hashlib.sha256(b"content").hexdigest()}, ""),
        ({"content_sha256": hashlib.sha256(b"another").hexdigest()}, "content-mismatch"),
        ({"file_id": "ab" * 16}, ""),
        ({"file_id": "cd" * 16}, "content-mismatch"),
    ],
)
def test_what_the_map_lists_has_to_hold(expected, code):
    _, stored = seal_bytes(RUN, b"content", file_id="ab" * 16)
    assert refusal(open_bytes, OPENER, stored, **expected) == code


def test_session_key_is_not_shown_pickled_or_copied():
    assert repr(RUN._session_key) not in repr(RUN)
    assert "_session_key" not in repr(RUN)
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            leave(RUN)


def test_sink_that_takes_a_part_is_an_error():
    class Half(io.RawIOBase):
        def write(self, data):
            return len(data) // 2

    with pytest.raises(OSError, match="buffered"):
        RUN.seal(io.BytesIO(b"content"), Half(), file_id="ab" * 16)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"recipients": []}, "recipients-invalid"),
        ({"recipients": [{"kty": "EC"}] * 9}, "recipients-invalid"),
        ({"recipients": [{"kty": "EC"}]}, "key-invalid"),
        ({"upload_id": "1.2.840.10008"}, "identifier-invalid"),
        ({"gateway_id": "name of a hospital"}, "identifier-invalid"),
        ({"vault_id": ""}, "identifier-invalid"),
    ],
)
def test_run_starts_only_with_right_parties(change, code):
    given_ = {"upload_id": "ab" * 16, "recipients": [], "gateway_id": "gateway-1", "vault_id": "vault-1"}
    assert refusal(SealingRun.start, **{**given_, **change}) == code
