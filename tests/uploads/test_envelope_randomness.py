"""Salts, IVs and keys never come twice: not for the same content, not after a fork, not from a broken generator."""

import hashlib
import io
import os

import pytest

from tests.uploads.envelope_support import run_start, seal_bytes, segments_of
from uploads.envelope import framing

RUN = run_start()


def test_c24_sealing_again_never_reuses_salt_or_iv():
    stored = [segments_of(seal_bytes(RUN, b"same", file_id="ab" * 16)[1]) for _ in range(20)]
    assert len({header for header, _ in stored}) == 20
    assert len({segments[0][5:21] for _, segments in stored}) == 20
    assert len({segments[0][21:] for _, segments in stored}) == 20


def test_c22_forked_children_share_no_randomness():
    """A child inherits everything in memory, and still makes other salts, IVs, runs and ephemeral keys."""
    made = [b"".join(seen_after_fork()) for _ in range(3)]
    made.append(fresh_material())
    pieces = [bytes_of[start : start + 16] for bytes_of in made for start in range(0, len(bytes_of), 16)]
    assert len(made[0]) == 64
    assert len(set(pieces)) == len(pieces)


def fresh_material() -> bytes:
    header, segments = segments_of(seal_bytes(RUN, b"same", file_id="ab" * 16)[1])
    run = run_start()
    return (
        framing.header_parse(header[6:]).salt[:16]
        + segments[0][5:21]
        + bytes.fromhex(run.run_id)
        + hashlib.sha256(run.key_documents[0].content.split(b".")[0]).digest()[:16]
    )


def seen_after_fork() -> list[bytes]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, fresh_material())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        seen = pipe.read()
    os.waitpid(child, 0)
    return [seen]


def test_c22_failing_generator_stops_sealing(monkeypatch):
    def fails(count):
        raise OSError("no randomness")

    monkeypatch.setattr(os, "urandom", fails)
    sink = io.BytesIO()
    with pytest.raises(OSError, match="no randomness"):
        RUN.seal(io.BytesIO(b"content"), sink, file_id="ab" * 16)
    assert sink.getvalue() == b""
