"""Queries to a running gateway, by pynetdicom's client and by raw PDUs."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

from benchmarks.finder import STUDY_ROOT_FIND, Finder
from benchmarks.index import seeded
from tests.gateway_harness import Gateway

PEERS = (
    "from network.models import RemoteAE;"
    "RemoteAE.objects.create(ae_title='WS', may_query=True);"
    "RemoteAE.objects.create(ae_title='SINK', may_query=True, may_store=False, visible_sources='NOBODY')"
)


def listening(gateway: Gateway, *, studies: int, **options: str) -> None:
    """Rows of so many studies, the peers, and the listeners."""
    seeded(gateway.data, studies=studies, series=1, instances=1)
    done = gateway.code(PEERS)
    assert done.returncode == 0, done.stderr
    gateway.start_listeners(**options)


def queries(gateway: Gateway) -> list[tuple[str, str, dict[str, Any]]]:
    """Outcome, actor and detail of every recorded query."""
    rows = gateway.rows("SELECT outcome, actor, detail FROM core_auditevent WHERE event = 'Query' ORDER BY id")
    return [(outcome, actor, json.loads(detail)) for outcome, actor, detail in rows]


def asked(gateway: Gateway, keys: Dataset, *, calling: str = "WS") -> list[Any]:
    """Every response's status, by pynetdicom."""
    with association(gateway, calling=calling) as opened:
        return [status for status, _answer in opened.send_c_find(keys, STUDY_ROOT_FIND)]


@contextmanager
def association(
    gateway: Gateway, *, calling: str = "WS", contexts: Sequence[Any] = (STUDY_ROOT_FIND,), items: Sequence[Any] = ()
) -> Iterator[Association]:
    entity = AE(ae_title=calling)
    for context in contexts:
        entity.add_requested_context(context)
    opened = entity.associate("127.0.0.1", gateway.dimse_port, ae_title="GATEWAY", ext_neg=list(items))
    assert opened.is_established
    try:
        yield opened
    finally:
        opened.release()


@contextmanager
def raw(gateway: Gateway) -> Iterator[Finder]:
    """An association whose bytes are the test's own; its connection is closed at the end."""
    finder = Finder(gateway.dimse_port, called="GATEWAY", calling="WS")
    try:
        yield finder
    finally:
        finder.close()
