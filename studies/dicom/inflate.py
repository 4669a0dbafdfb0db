"""Deflated datasets in bounded pieces (PS3.5 A.5): no bomb gets further than the caps, and nothing is kept."""

import zlib
from collections.abc import Iterator
from typing import Final

from studies.dicom.errors import DatasetError
from studies.dicom.syntax import Buffer

PIECE_BYTES: Final = 64 * 1024
_INPUT_BYTES: Final = 16 * 1024  # zlib copies what it leaves over, so it is given little at a time
_MAX_TRAILING_BYTES: Final = 9


class BoundedInflater:
    """Inflates one raw deflate stream in pieces of at most 64 KiB and refuses what grows beyond the caps.

    `max_bytes` caps the whole; `max_ratio` caps output to input once `free_bytes` have come out, so that a small mask
    of zeros passes. A NUL may follow the stream, to make it even; `has_trailer` is true when something else of at most
    9 bytes does, as some writers leave gzip's checksum and length there. Raises DatasetError "deflate-invalid",
    "deflate-too-large"; `finish` raises "dataset-truncated".
    """

    def __init__(self, *, max_bytes: int, max_ratio: int, free_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._max_ratio = max_ratio
        self._free_bytes = free_bytes
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._bytes_in = 0
        self._bytes_out = 0
        self._trailing = b""

    def pieces(self, data: Buffer) -> Iterator[bytes]:
        """What `data` inflates to, piece by piece; to be consumed to the end before the next call."""
        for at in range(0, len(data), _INPUT_BYTES):
            rest: Buffer = data[at : at + _INPUT_BYTES]
            if self._stream.eof:
                self._take_trailing(bytes(rest))
                continue
            self._bytes_in += len(rest)
            yield from self._inflate(rest)
            if self._stream.eof:
                self._take_trailing(self._stream.unused_data)

    @property
    def has_trailer(self) -> bool:
        """True when the stream is followed by more than the NUL that PS3.5 A.5 allows."""
        return self._trailing not in (b"", b"\0")

    def finish(self) -> None:
        """Returns only if the stream has come to its own end."""
        if not self._stream.eof:
            raise DatasetError("dataset-truncated", "inside the deflated stream")

    def _inflate(self, rest: Buffer) -> Iterator[bytes]:
        while True:
            try:
                piece = self._stream.decompress(rest, PIECE_BYTES)
            except zlib.error as error:
                raise DatasetError("deflate-invalid") from error
            self._bytes_out += len(piece)
            self._check_caps()
            if piece:
                yield piece
            rest = self._stream.unconsumed_tail
            # A full piece may mean that zlib holds more output than it has input left.
            if self._stream.eof or (not rest and len(piece) < PIECE_BYTES):
                return

    def _check_caps(self) -> None:
        if self._bytes_out > self._max_bytes:
            raise DatasetError("deflate-too-large", f"over {self._max_bytes} bytes")
        if self._bytes_out > max(self._free_bytes, self._bytes_in * self._max_ratio):
            raise DatasetError("deflate-too-large", f"over {self._max_ratio} times its size")

    def _take_trailing(self, trailing: bytes) -> None:
        self._trailing += trailing
        if len(self._trailing) > _MAX_TRAILING_BYTES:
            raise DatasetError("deflate-invalid", "bytes follow the end of the stream")
