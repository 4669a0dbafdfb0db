"""DCMTK's archive as the peer of our client: stored to, asked, and retrieved from both ways."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from network.dimse import scu
from network.dimse.scu.get_contexts import FINDING, get_proposals, sop_classes_ask
from network.dimse.scu.query import find
from network.dimse.scu.retrieve import get, move
from tests.dicom_samples import dataset_of, study_files, uid_of
from tests.gateway_harness import free_ports, listens, wait_until
from tests.network.dimse_fixtures import FakePort, LocalReceiver
from tests.network.scu_peers import EXPLICIT, FIND, GET, IMPLICIT, MOVE
from tests.network.test_retrieve_service import Archive
from tests.network.test_scu_services import decoded, identifier

pytestmark = pytest.mark.dcmtk
CONFIGURATION = """
NetworkTCPPort  = {port}
MaxPDUSize      = 16384
MaxAssociations = 16
HostTable BEGIN
gateway = (GATEWAY, 127.0.0.1, {ours})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
ARCHIVE {folder} RW (100, 1024mb) ANY
AETable END
"""


class Peer:
    def __init__(self, port: int) -> None:
        self.address = {
            "address": "127.0.0.1",
            "port": port,
            "calling_ae_title": "GATEWAY",
            "called_ae_title": "ARCHIVE",
        }


@pytest.fixture
def ours() -> Iterator[LocalReceiver]:
    """Where the archive sends what a C-MOVE asks for."""
    with LocalReceiver(FakePort()) as receiver:
        yield receiver


@pytest.fixture
def archive(tmp_path: Path, ours: LocalReceiver) -> Iterator[Peer]:
    folder = tmp_path / "archive"
    folder.mkdir()
    (port,) = free_ports(1)
    configuration = tmp_path / "dcmqrscp.cfg"
    configuration.write_text(CONFIGURATION.format(port=port, ours=ours.address[1], folder=folder))
    process = subprocess.Popen(["dcmqrscp", "-q", "-c", str(configuration)])
    try:
        wait_until(lambda: listens(port), what="dcmqrscp")
        yield Peer(port)
    finally:
        process.terminate()
        process.wait(20)


def test_stored_found_got_and_moved(archive: Peer, ours: LocalReceiver, tmp_path: Path) -> None:
    files = study_files(tmp_path / "study")
    assert scu.echo(**archive.address) >= 0
    assert scu.send_instances(files, **archive.address).stored == len(files)
    first = dcmread(files[0])
    study = str(first.StudyInstanceUID)
    with scu.association([FINDING], **archive.address) as opened:
        told = sop_classes_ask(opened, study)
    assert told == [], "it does not tell classes, at no level: the common ones are proposed"
    proposals = [
        scu.Proposal(FIND, (IMPLICIT,)),
        scu.Proposal(GET, (IMPLICIT,)),
        scu.Proposal(MOVE, (IMPLICIT,)),
        *get_proposals(told, syntaxes=(EXPLICIT,))[1:],
    ]
    kept = Archive()
    with scu.association(proposals, **archive.address) as opened:
        question = identifier(PatientID=str(first.PatientID), StudyInstanceUID="", PatientName="")
        (answer,) = find(opened, FIND, question)
        assert decoded(answer.identifier).StudyInstanceUID == study
        got = get(opened, GET, identifier(StudyInstanceUID=study), begin=kept.begin)
        moved = move(opened, MOVE, identifier(StudyInstanceUID=study), destination="GATEWAY")
    assert (got.status, got.completed, got.failed) == (0, len(files), 0)
    assert (moved.status, moved.completed, moved.failed) == (0, len(files), 0)
    sent = {uid_of(path): dataset_of(path) for path in files}
    assert {uid: bytes(one.data) for uid, (_syntax, one) in kept.kept.items()} == sent
    wait_until(lambda: len(ours.receiver._server.port.requests) == len(files), what="what was moved")
    assert {one.sop_instance_uid for one in ours.receiver._server.port.requests} == set(sent)
