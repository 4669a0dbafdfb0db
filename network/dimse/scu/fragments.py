"""P-DATA PDUs as lists of buffers for one sendmsg: headers of ours, and slices of what is sent, never copied."""

import struct
from typing import Final

from network.dimse.scu.link import Buffer

_PDV: Final = struct.Struct(">BBLLBB")
_P_DATA: Final = 0x04
_HEADER_BYTES: Final = 6
_COMMAND, _LAST = 0x01, 0x02
FRAGMENT_BYTES: Final = 256 * 1024
"""The longest fragment, also where a peer takes longer ones or sets no limit."""


def fragment_bytes(max_pdu_bytes: int) -> int:
    """How much of a data set one PDV may carry: even, within the peer's maximum (0: no limit; PS3.8 annex D.1)."""
    if not max_pdu_bytes:
        return FRAGMENT_BYTES
    return max(2, min(FRAGMENT_BYTES, max_pdu_bytes - _HEADER_BYTES) // 2 * 2)


def data_pdus(
    data: Buffer, context_id: int, max_pdu_bytes: int, *, last: bool = True, command: bool = False
) -> list[Buffer]:
    """`data` as PDUs of one PDV each; the last of them ends the command or data set when `last`."""
    step = fragment_bytes(max_pdu_bytes)
    view, size = memoryview(data), len(data)
    kind = _COMMAND if command else 0
    whole = _PDV.pack(_P_DATA, 0, step + _HEADER_BYTES, step + 2, context_id, kind)
    found: list[Buffer] = []
    at = 0
    while size - at > step:
        found += (whole, view[at : at + step])
        at += step
    rest = size - at
    found += (
        _PDV.pack(_P_DATA, 0, rest + _HEADER_BYTES, rest + 2, context_id, kind | (_LAST if last else 0)),
        view[at:],
    )
    return found
