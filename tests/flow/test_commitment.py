"""Storage commitment of a running gateway, asked for by pynetdicom's client: on one association and on another."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from tests.dicom_samples import study_files
from tests.flow.test_retrieve import peer_add, stored
from tests.gateway_harness import DRAIN, Gateway, free_ports, wait_until

pytestmark = pytest.mark.dcmtk
COMMIT = DRAIN.replace("upload", "commitment")
DUE = (
    "from network.models import CommitmentRequest as C; from django.utils.timezone import now;"
    "C.objects.filter(state='ready').update(run_after=now());"
)


class Modality:
    """Asks, and hears reports: on its own association, or as an SCP that the gateway calls."""

    def __init__(self, gateway: Gateway, files: list[Path]) -> None:
        self.gateway, self.files = gateway, files
        self.reports: list[tuple[int, Dataset]] = []
        self.heard = threading.Event()
        self.status = 0x0000

    def question(self, *, extra: str = "") -> Dataset:
        found = Dataset()
        found.TransactionUID = generate_uid()
        found.ReferencedSOPSequence = []
        for path in self.files:
            one = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"])
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
            found.ReferencedSOPSequence.append(item)
        if extra:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, extra
            found.ReferencedSOPSequence.append(item)
        return found

    def report(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append((event.request.EventTypeID, event.event_information))
        self.heard.set()
        return self.status, None

    def ask(self, question: Dataset, *, stay: bool, action: int = 1) -> int | None:
        """The status of the N-ACTION, None without one; with `stay` the association waits for the report."""
        entity = AE("MODALITY")
        entity.add_requested_context(StorageCommitmentPushModel)
        handlers = [(evt.EVT_N_EVENT_REPORT, self.report)]
        opened = entity.associate(
            "127.0.0.1", self.gateway.dimse_port, ae_title="GATEWAY", evt_handlers=handlers if stay else []
        )
        assert opened.is_established
        answer, _none = opened.send_n_action(
            question, action, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        status: int | None = answer.get("Status")
        if stay and status == 0:
            assert self.heard.wait(30)
            # only then has our answer to the report gone out
            wait_until(lambda: state(self.gateway)[0] == "done", what="the end of the request")
            opened.release()
        else:
            opened.abort()
        return status

    @contextlib.contextmanager
    def listening(self) -> Iterator[int]:
        entity = AE("MODALITY")
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        (port,) = free_ports(1)
        handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self.report)]
        server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        try:
            yield port
        finally:
            server.shutdown()


@pytest.fixture
def modality(gateway: Gateway, tmp_path: Path) -> Modality:
    peer_add(gateway, "MODALITY", may_commit=True)
    gateway.start_listeners()
    files = study_files(tmp_path / "study")[:5]
    stored(gateway, files)
    return Modality(gateway, files)


def state(gateway: Gateway) -> tuple[Any, ...]:
    return gateway.rows("SELECT state, attempts, error_code FROM network_commitmentrequest")[-1]


def test_report_comes_on_the_same_association_and_names_what_failed(modality: Modality) -> None:
    question = modality.question(extra="1.2.3.4.5.6.7")
    assert modality.ask(question, stay=True) == 0x0000
    ((kind, report),) = modality.reports
    assert (kind, report.TransactionUID) == (2, question.TransactionUID)
    assert len(report.ReferencedSOPSequence) == len(modality.files)
    (failed,) = report.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == ("1.2.3.4.5.6.7", 0x0112)
    wait_until(lambda: state(modality.gateway) == ("done", 0, ""), what="the end of the request")


def test_report_comes_on_another_association_and_is_repeated_until_it_is_taken(modality: Modality) -> None:
    gateway = modality.gateway
    with modality.listening() as port:
        peer_add(gateway, "MODALITY", may_commit=True, host="127.0.0.1", port=1)
        question = modality.question()
        assert modality.ask(question, stay=False) == 0x0000
        wait_until(lambda: state(gateway)[0] == "ready", what="the request")
        gateway.code(DUE + COMMIT)  # nobody listens there
        assert state(gateway) == ("ready", 1, "connection-refused")
        peer_add(gateway, "MODALITY", may_commit=True, host="127.0.0.1", port=port)
        modality.status = 0x0110
        gateway.code(DUE + COMMIT)  # it does not take it
        assert state(gateway) == ("ready", 2, "report-refused")
        modality.status = 0x0000
        gateway.code(DUE + COMMIT)
        assert state(gateway)[0] == "done"
    kinds = [(kind, len(report.ReferencedSOPSequence), report.TransactionUID) for kind, report in modality.reports]
    assert kinds == [(1, len(modality.files), question.TransactionUID)] * 2


def test_what_may_not_be_is_refused(modality: Modality) -> None:
    assert modality.ask(modality.question(), stay=False, action=2) == 0x0123
    empty = Dataset()
    empty.TransactionUID = generate_uid()
    empty.ReferencedSOPSequence = []
    assert modality.ask(empty, stay=False) == 0x0115
    assert modality.gateway.value("SELECT count(*) FROM network_commitmentrequest") == 0
    question = modality.question()
    assert modality.ask(question, stay=True) == 0x0000
    question.ReferencedSOPSequence = question.ReferencedSOPSequence[:1]
    assert modality.ask(question, stay=False) == 0x0131
    assert modality.gateway.value("SELECT count(*) FROM network_commitmentrequest") == 1


def test_stranger_may_not_ask(gateway: Gateway, tmp_path: Path) -> None:
    gateway.start_listeners()
    modality = Modality(gateway, study_files(tmp_path / "study")[:1])
    assert modality.ask(modality.question(), stay=False) == 0x0124
    told = gateway.rows("SELECT outcome FROM core_auditevent WHERE detail LIKE '%commit-forbidden%'")
    assert told == [("refused",)]


@pytest.mark.parametrize(("place", "answer"), [("commitment.accepted", None), ("commitment.answered", 0x0000)])
def test_receiver_killed_before_its_report_still_reports(
    gateway: Gateway, tmp_path: Path, place: str, answer: int | None
) -> None:
    peer_add(gateway, "MODALITY", may_commit=True)
    gateway.start_listeners(GATEWAY_FAILPOINT=place)
    files = study_files(tmp_path / "study")[:3]
    stored(gateway, files)
    modality = Modality(gateway, files)
    question = modality.question()
    with modality.listening() as port:
        assert modality.ask(question, stay=False) == answer
        assert modality.reports == []
        peer_add(gateway, "MODALITY", may_commit=True, host="127.0.0.1", port=port)
        gateway.code(DUE + COMMIT)
    assert [(kind, report.TransactionUID) for kind, report in modality.reports] == [(1, question.TransactionUID)]
    assert state(gateway)[0] == "done"
