"""What an association begins with: the request that we make, and the peer's answer, read within bounds (PS3.8 9.3)."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from network.dimse.errors import ConfigurationError

CONTEXTS_MAX: Final = 128
MAX_PDU_BYTES: Final = 262_144
"""What we announce; a peer's P-DATA PDU fits into our buffer."""
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ = 0x01, 0x02, 0x03
P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 0x04, 0x05, 0x06, 0x07

_APPLICATION_CONTEXT: Final = b"1.2.840.10008.3.1.1.1"
_FIXED_BYTES: Final = 68
_ITEM: Final = struct.Struct(">BxH")
_UID_BYTES: Final = 64
_ITEMS_MAX: Final = 1024
_AE_TITLE_BYTES: Final = 16

_APPLICATION, _CONTEXT_RQ, _CONTEXT_AC, _ABSTRACT, _TRANSFER = 0x10, 0x20, 0x21, 0x30, 0x40
_USER, _MAX_LENGTH, _CLASS_UID, _ROLE, _VERSION, _EXTENDED = 0x50, 0x51, 0x52, 0x54, 0x55, 0x56


class NegotiationError(Exception):
    """The peer's A-ASSOCIATE-AC cannot be read."""


@dataclass(frozen=True)
class Proposal:
    """One presentation context that we propose: an abstract syntax with the transfer syntaxes we would use.

    `as_scp`: we are the SCP on it - the peer stores to us (C-GET), or we report to it (storage commitment) - for which
    a role is negotiated (PS3.7 D.3.3.4).
    `extended` is service class information of the abstract syntax (PS3.7 D.3.3.5).
    """

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    as_scp: bool = False
    extended: bytes = b""


@dataclass(frozen=True)
class Context:
    """One context that the peer accepted."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True)
class Accepted:
    """What the peer answered: the contexts it takes, and the longest PDU it wants (0: no limit)."""

    contexts: Mapping[int, Context]
    max_pdu_bytes: int
    as_scp: frozenset[str] = field(default_factory=frozenset)
    """Abstract syntaxes for which the peer agreed that we receive."""
    extended: Mapping[str, bytes] = field(default_factory=dict)


def ae_title_bytes(title: str) -> bytes:
    """An AE title as it travels. Raises ConfigurationError (`ae-title-invalid`; PS3.5 6.2, VR AE)."""
    encoded = title.strip(" ").encode("ascii", "replace")
    allowed = all(0x20 <= byte < 0x7F and byte != 0x5C for byte in encoded)
    if not (title.isascii() and allowed and 0 < len(encoded) <= _AE_TITLE_BYTES):
        raise ConfigurationError(
            "An AE title has 1 to 16 printable ASCII characters and no backslash: correct it.", code="ae-title-invalid"
        )
    return encoded.ljust(_AE_TITLE_BYTES)


def associate_request(proposals: Sequence[Proposal], *, calling: str, called: str) -> bytes:
    """The A-ASSOCIATE-RQ; context ids are 1, 3, 5 ... in the order of `proposals`, at most 128 of them.

    Raises ConfigurationError for an AE title that is none.
    """
    if not 0 < len(proposals) <= CONTEXTS_MAX:
        raise ValueError("an association has 1 to 128 presentation contexts")
    items = [_item(_APPLICATION, _APPLICATION_CONTEXT)]
    for number, proposal in enumerate(proposals):
        syntaxes = b"".join(_item(_TRANSFER, syntax.encode("ascii")) for syntax in proposal.transfer_syntaxes)
        abstract = _item(_ABSTRACT, proposal.abstract_syntax.encode("ascii"))
        items.append(_item(_CONTEXT_RQ, bytes([2 * number + 1, 0, 0, 0]) + abstract + syntaxes))
    items.append(_item(_USER, _user_items(proposals)))
    body = struct.pack(">HH", 1, 0) + ae_title_bytes(called) + ae_title_bytes(calling) + bytes(32) + b"".join(items)
    return struct.pack(">BxL", ASSOCIATE_RQ, len(body)) + body


def _user_items(proposals: Sequence[Proposal]) -> bytes:
    found = [
        _item(_MAX_LENGTH, struct.pack(">L", MAX_PDU_BYTES)),
        _item(_CLASS_UID, PYNETDICOM_IMPLEMENTATION_UID.encode("ascii")),
        _item(_VERSION, PYNETDICOM_IMPLEMENTATION_VERSION.encode("ascii")[:16]),
    ]
    roles = dict.fromkeys(one.abstract_syntax for one in proposals if one.as_scp)
    found += [_item(_ROLE, _sized(abstract) + b"\0\1") for abstract in roles]
    extended = {one.abstract_syntax: one.extended for one in proposals if one.extended}
    found += [_item(_EXTENDED, _sized(abstract) + value) for abstract, value in extended.items()]
    return b"".join(found)


def associate_accept(body: memoryview, proposals: Sequence[Proposal]) -> Accepted:
    """Read an A-ASSOCIATE-AC against what was proposed; what was not, or twice, is not believed (PS3.8 9.3.3).

    Raises NegotiationError.
    """
    contexts: dict[int, Context] = {}
    user = memoryview(b"")
    if len(body) < _FIXED_BYTES:
        raise NegotiationError
    for kind, value in _items(body[_FIXED_BYTES:]):
        if kind == _CONTEXT_AC:
            context = _context(value, proposals)
            if context is not None:
                contexts.setdefault(context.context_id, context)
        elif kind == _USER:
            user = value
    return _with_user_items(contexts, user, {one.abstract_syntax for one in proposals if one.as_scp})


def _context(value: memoryview, proposals: Sequence[Proposal]) -> Context | None:
    """None when it is refused, or is no answer to what we asked."""
    if len(value) < 4:
        raise NegotiationError
    context_id, result = value[0], value[2]
    number, odd = divmod(context_id, 2)
    if result or not odd or number >= len(proposals):
        return None
    chosen = [_uid(item) for kind, item in _items(value[4:]) if kind == _TRANSFER]
    proposal = proposals[number]
    if len(chosen) != 1 or chosen[0] not in proposal.transfer_syntaxes:
        return None
    return Context(context_id, proposal.abstract_syntax, chosen[0])


def _with_user_items(contexts: dict[int, Context], user: memoryview, asked_as_scp: set[str]) -> Accepted:
    maximum, roles, extended = 0, set(), {}
    for kind, value in _items(user):
        if kind == _MAX_LENGTH and len(value) == 4:
            maximum = int.from_bytes(value, "big")
        elif kind in (_ROLE, _EXTENDED):
            abstract, rest = _split_sized(value)
            if kind == _EXTENDED:
                extended[abstract] = bytes(rest)
            elif len(rest) == 2 and rest[1] == 1:
                roles.add(abstract)
    return Accepted(contexts, maximum, frozenset(roles & asked_as_scp), extended)


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _sized(uid: str) -> bytes:
    return struct.pack(">H", len(uid)) + uid.encode("ascii")


def _split_sized(value: memoryview) -> tuple[str, memoryview]:
    length = int.from_bytes(value[:2], "big")
    if len(value) < 2 + length:
        raise NegotiationError
    return _uid(value[2 : 2 + length]), value[2 + length :]


def _items(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    at, budget = 0, _ITEMS_MAX
    while at < len(view):
        budget -= 1
        if len(view) - at < _ITEM.size or not budget:
            raise NegotiationError
        kind, length = _ITEM.unpack_from(view, at)
        at += _ITEM.size + length
        if at > len(view):
            raise NegotiationError
        yield kind, view[at - length : at]


def _uid(value: memoryview) -> str:
    encoded = bytes(value).rstrip(b"\0 ")
    if len(encoded) > _UID_BYTES or not encoded.isascii():
        raise NegotiationError
    return encoded.decode("ascii")
