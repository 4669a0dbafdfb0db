"""Presentation contexts: what is accepted, and which transfer syntax of those that a peer offers."""

import functools
from collections.abc import Iterable, Mapping, Sequence

from pydicom.uid import UID, UID_dictionary
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification

from network.dimse.errors import ConfigurationError
from network.dimse.normalized.ports import SERVED
from network.dimse.query.ports import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from network.dimse.query.question import MODELS
from network.dimse.retrieve.models import FIND_MODEL

VERIFICATION = str(Verification)

# Named storage, but not the storage service class: they commit, or describe a medium.
_NOT_STORED = frozenset({"1.2.840.10008.1.20.1", "1.2.840.10008.1.20.2", "1.2.840.10008.1.3.10"})


def transfer_syntaxes() -> list[str]:
    """Every transfer syntax of the standard, retired ones included; nothing is decoded, so none is beyond us."""
    return sorted(uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax")


def storage_sop_classes() -> list[str]:
    """Every SOP class of the storage and the non-patient object storage service classes, retired ones included."""
    named = {uid for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class" and "Storage" in entry[0]}
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    return sorted((named | known) - _NOT_STORED)


def storage_contexts(extra_sop_classes: Sequence[str] = ()) -> list[PresentationContext]:
    """Verification and every storage SOP class, each with every transfer syntax; `extra_sop_classes` are added.

    pynetdicom alone would choose by this list's order; the receiver chooses with `first_offered`, by the peer's.
    Raises ConfigurationError (`sop-class-invalid`) for an extra class that is not a UID.
    """
    for uid in extra_sop_classes:
        if not UID(uid).is_valid:
            raise ConfigurationError(
                "An additional SOP class is not a valid UID: correct the setting.", code="sop-class-invalid"
            )
    syntaxes = transfer_syntaxes()
    classes = dict.fromkeys([VERIFICATION, *storage_sop_classes(), *extra_sop_classes])
    return [_context(uid, syntaxes) for uid in classes]


@functools.cache
def supported_contexts(
    extra_sop_classes: tuple[str, ...] | None, *, queries: bool, retrievals: bool, normalized: bool, both_roles: bool
) -> Mapping[str, PresentationContext]:
    """What an acceptor offers, by abstract syntax: read by every negotiation, changed by none.

    Verification; storage unless `extra_sop_classes` is None, with `both_roles` also for sending to the requestor
    (C-GET; PS3.7 D.3.3.4); `queries` and `retrievals` in what identifiers are read and written in.
    """
    storage = [] if extra_sop_classes is None else storage_contexts(extra_sop_classes)
    for context in storage if both_roles else ():
        context.scu_role = context.scp_role = True
    models = [*(MODELS if queries else ()), *(FIND_MODEL if retrievals else ()), *(SERVED if normalized else ())]
    services = [_context(uid, [EXPLICIT_LITTLE, IMPLICIT_LITTLE]) for uid in models]
    return {
        str(context.abstract_syntax): context
        for context in [*storage, _context(VERIFICATION, transfer_syntaxes()), *services]
    }


def first_offered(offered: Iterable[str], supported: Iterable[str]) -> str | None:
    """The first transfer syntax in the peer's order that is supported: what it would rather send is best undecoded."""
    known = frozenset(supported)
    return next((syntax for syntax in offered if syntax in known), None)


def narrow_to_first_offered(
    requested: Iterable[PresentationContext], supported: Mapping[str, PresentationContext]
) -> list[PresentationContext]:
    """Leave in each requested context only the transfer syntax to accept; return the supported contexts that were
    asked for, each once.

    A context with nothing supported is left as it is, and so refused with its proper reason (PS3.8 table 9-18).
    """
    asked: dict[str, PresentationContext] = {}
    for context in requested:
        match = supported.get(str(context.abstract_syntax))
        if match is None:
            continue
        asked[str(context.abstract_syntax)] = match
        chosen = first_offered(context.transfer_syntax, match.transfer_syntax)
        if chosen is not None:
            context.transfer_syntax = [chosen]
    return list(asked.values())


def _context(abstract_syntax: str, syntaxes: list[str]) -> PresentationContext:
    context = PresentationContext()
    context.abstract_syntax = abstract_syntax
    context.transfer_syntax = list(syntaxes)
    return context
