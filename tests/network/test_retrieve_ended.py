"""The end of a C-MOVE: what the row of its destination remembers, so that the page of peers tells it."""

import pytest

from network.dimse.errors import AssociationError
from network.dimse.ports import Peer
from network.dimse.query.ports import EXPLICIT_LITTLE
from network.dimse.retrieve.counters import SubOperations
from network.dimse.retrieve.ports import RetrieveRequest
from network.dimse.rights import Rights
from network.models import RemoteAE
from network.services.pools import PoolKeeper
from network.services.retrieve import RetrievalService
from tests.network.identifiers import encoded, question

pytestmark = pytest.mark.django_db
PEER = Peer("assoc-7", "VIEWER", "GATEWAY", "10.0.0.7", 50000, tls=False, rights=Rights(retrieve=True))
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
REFUSED = AssociationError("Nothing listens there.", code="connection-refused")


@pytest.fixture
def destination(monkeypatch: pytest.MonkeyPatch) -> RemoteAE:
    monkeypatch.setattr("network.services.retrieve.close_old_connections", lambda: None)  # the test's own transaction
    return RemoteAE.objects.create(ae_title="PACS", host="127.0.0.1", port=104)


def end(done: SubOperations, *, code: str = "", failure: AssociationError | None = None) -> None:
    """One C-MOVE to PACS, planned and ended like this."""
    service = RetrievalService(PoolKeeper("receiver 0"))
    request = RetrieveRequest(PEER, STUDY_ROOT_MOVE, EXPLICIT_LITTLE, 1, "PACS")
    plan = service.plan(request, encoded(question("STUDY", StudyInstanceUID="1.2.3")))
    service.ended(request, plan, done, code=code, failure=failure)


def test_destination_that_does_not_answer_is_told_until_it_takes_an_object(destination: RemoteAE) -> None:
    end(SubOperations(1, failed=1), code=REFUSED.code, failure=REFUSED)
    destination.refresh_from_db()
    assert destination.last_error == "Nothing listens there."
    assert destination.last_error_at is not None
    end(SubOperations(0))
    destination.refresh_from_db()
    assert destination.last_error, "nothing was sent, so nothing is known"
    end(SubOperations(1, completed=1))
    destination.refresh_from_db()
    assert (destination.last_error, destination.last_error_at) == ("", None)


def test_our_own_limit_is_no_fault_of_the_destination(destination: RemoteAE) -> None:
    full = AssociationError("All are in use.", code="pool-full")
    end(SubOperations(1, failed=1), code=full.code, failure=full)
    destination.refresh_from_db()
    assert destination.last_error == ""
