"""Which contexts a C-GET needs: asked by C-FIND beforehand, as an association has 128 at most (PS3.4 C.4.3).

with association([FINDING]) as opened:
    classes = sop_classes_ask(opened, study_instance_uid)
with association(get_proposals(classes)) as opened:
    get(opened, STUDY_ROOT_GET, ...)
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from pydicom.uid import UID

from network.dimse.errors import AssociationError
from network.dimse.query.dataset import Elements, elements_read, vr_of
from network.dimse.query.errors import QueryError as GarbledError
from network.dimse.query.ports import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from network.dimse.query.question import QUERY_RETRIEVE_LEVEL, STUDY_ROOT_FIND
from network.dimse.scu.association import ClientAssociation
from network.dimse.scu.negotiation import CONTEXTS_MAX, Context, Proposal
from network.dimse.scu.query import QueryError, find

STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
FINDING: Final = Proposal(STUDY_ROOT_FIND, (EXPLICIT_LITTLE, IMPLICIT_LITTLE))
SYNTAXES: Final = (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)
"""What a peer may send in, the best first: it chooses one of them for each class."""
COMMON: Final = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.2",
    "1.2.840.10008.5.1.4.1.1.13.1.3",
    "1.2.840.10008.5.1.4.1.1.12.1",
    "1.2.840.10008.5.1.4.1.1.12.2",
    "1.2.840.10008.5.1.4.1.1.6.1",
    "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.20",
    "1.2.840.10008.5.1.4.1.1.128",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.11.1",
    "1.2.840.10008.5.1.4.1.1.88.11",
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.59",
    "1.2.840.10008.5.1.4.1.1.88.67",
    "1.2.840.10008.5.1.4.1.1.104.1",
    "1.2.840.10008.5.1.4.1.1.481.3",
)
"""For a peer that does not say which classes it has."""

_STUDY, _SERIES, _INSTANCE = 0x0020000D, 0x0020000E, 0x00080018
_SOP_CLASS, _SOP_CLASSES_IN_STUDY = 0x00080016, 0x00080062


def get_proposals(
    sop_classes: Iterable[str], *, get_sop_class_uid: str = STUDY_ROOT_GET, syntaxes: Sequence[str] = SYNTAXES
) -> list[Proposal]:
    """The retrieval and each class to receive in, the first 127 of them; the common ones when none is known."""
    classes = list(dict.fromkeys(sop_classes)) or COMMON
    receiving = [Proposal(uid, tuple(syntaxes), as_scp=True) for uid in classes[: CONTEXTS_MAX - 1]]
    return [Proposal(get_sop_class_uid, (EXPLICIT_LITTLE, IMPLICIT_LITTLE)), *receiving]


def sop_classes_ask(opened: ClientAssociation, study_instance_uid: str) -> list[str]:
    """The SOP classes of a study, as the peer tells them: at study level, else of its instances, series by series.

    Empty when it knows no such study, or tells none: both attributes are optional ones. Raises AssociationError
    (`context-rejected`).
    """
    context = opened.context(STUDY_ROOT_FIND)
    if context is None:
        raise AssociationError("The peer does not answer this kind of query.", code="context-rejected", permanent=True)
    study = {_STUDY: study_instance_uid}
    answers = _asked(opened, context, "STUDY", {**study, _SOP_CLASSES_IN_STUDY: ""})
    found = dict.fromkeys(uid for answer in answers for uid in _uids(answer, _SOP_CLASSES_IN_STUDY))
    if found:
        return list(found)
    series = [uid for one in _asked(opened, context, "SERIES", {**study, _SERIES: ""}) for uid in _uids(one, _SERIES)]
    for uid in dict.fromkeys(series):
        keys = {**study, _SERIES: uid, _INSTANCE: "", _SOP_CLASS: ""}
        found |= dict.fromkeys(
            one for answer in _asked(opened, context, "IMAGE", keys) for one in _uids(answer, _SOP_CLASS)
        )
    return list(found)


def _asked(opened: ClientAssociation, context: Context, level: str, keys: Mapping[int, str]) -> list[Elements]:
    """The answers that can be read; none when the peer ends the query with a failure."""
    explicit = context.transfer_syntax == EXPLICIT_LITTLE
    identifier = _identifier({QUERY_RETRIEVE_LEVEL: level, **keys}, explicit=explicit)
    try:
        return list(_read(opened, context, identifier, explicit=explicit))
    except QueryError:
        return []


def _read(opened: ClientAssociation, context: Context, identifier: bytes, *, explicit: bool) -> Iterator[Elements]:
    for answer in find(opened, STUDY_ROOT_FIND, identifier, context=context):
        try:
            yield elements_read(answer.identifier, explicit=explicit)
        except GarbledError:
            continue


def _uids(answer: Elements, tag: int) -> list[str]:
    """The values that can be UIDs: they go into an association request, where nothing else may."""
    element = answer.get(tag)
    texts = element.value.decode("latin-1").split("\\") if element is not None else []
    cleaned = (text.strip(" \0") for text in texts)
    return [uid for uid in cleaned if UID(uid).is_valid]


def _identifier(values: Mapping[int, str], *, explicit: bool) -> bytes:
    """An identifier of UIDs and codes, in the order of its tags."""
    parts = []
    for tag, text in sorted(values.items()):
        vr = vr_of(tag)
        value = text.encode("ascii")
        value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
        if explicit:
            parts.append(struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), len(value)) + value)
        else:
            parts.append(struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value)
    return b"".join(parts)
