"""Which encoding of an object a receiver gets: as it is stored where that is taken, else one without pixel coding."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from network.dimse.retrieve.ports import StoredInstance
from network.dimse.scu.negotiation import CONTEXTS_MAX, Proposal

_ALTERNATIVES_PER_CLASS: Final = 4


def batches(items: Sequence[StoredInstance]) -> Iterator[tuple[list[Proposal], list[StoredInstance]]]:
    """The contexts to propose with the objects that go over them: at most 128 in one association.

    For each SOP class a context for each stored transfer syntax, and one for each alternative of any of its objects:
    a receiver then says of each by itself whether it takes it.
    """
    wanted: dict[str, dict[str, None]] = {}
    for item in items:
        wanted.setdefault(item.sop_class_uid, {})[item.transfer_syntax_uid] = None
    for item in items:
        syntaxes = wanted[item.sop_class_uid]
        for syntax in item.alternatives[:_ALTERNATIVES_PER_CLASS]:
            syntaxes.setdefault(syntax, None)
    group: list[Proposal] = []
    classes: set[str] = set()
    for sop_class, syntaxes in wanted.items():
        proposals = [Proposal(sop_class, (syntax,)) for syntax in list(syntaxes)[:CONTEXTS_MAX]]
        if len(group) + len(proposals) > CONTEXTS_MAX:
            yield group, _of(items, classes)
            group, classes = [], set()
        group += proposals
        classes.add(sop_class)
    if group:
        yield group, _of(items, classes)


def _of(items: Sequence[StoredInstance], classes: set[str]) -> list[StoredInstance]:
    return [item for item in items if item.sop_class_uid in classes]


def chosen(item: StoredInstance, accepted: Iterable[str]) -> StoredInstance:
    """The object in an encoding that is accepted for its class; itself when none is, or when it cannot be recoded."""
    taken = set(accepted)
    if item.transfer_syntax_uid in taken:
        return item
    for syntax in item.alternatives:
        if syntax in taken:
            try:
                return item.recoded(syntax)
            except OSError:
                return item
    return item
