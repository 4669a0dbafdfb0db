"""C-MOVE and C-GET of a running gateway, judged by DCMTK's movescu, getscu and storescp, and by pynetdicom's client."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet

from tests.dicom_samples import dataset_of, study_files, uid_of
from tests.gateway_harness import Gateway, free_ports, listens, wait_until

pytestmark = pytest.mark.dcmtk

PEER = "from network.models import RemoteAE; RemoteAE.objects.update_or_create(ae_title={!r}, defaults={!r})"
RIGHTS = {"may_query": True, "may_retrieve": True}


def peer_add(gateway: Gateway, ae_title: str, **values: object) -> None:
    done = gateway.code(PEER.format(ae_title, {**RIGHTS, **values}))
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def storescp(folder: Path, *options: str) -> Iterator[int]:
    folder.mkdir()
    (port,) = free_ports(1)
    process = subprocess.Popen(["storescp", "-q", "-aet", "PACS", "-od", str(folder), "+B", *options, str(port)])
    try:
        wait_until(lambda: listens(port), what="storescp")
        yield port
    finally:
        process.terminate()
        process.wait(20)


def scu(program: str, gateway: Gateway, *options: str, calling: str = "VIEWER") -> subprocess.CompletedProcess[str]:
    command = [program, "-v", "-aet", calling, "-aec", "GATEWAY", "-S", *options, "127.0.0.1", str(gateway.dimse_port)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def stored(gateway: Gateway, files: list[Path]) -> str:
    """The study's UID, once every object is in the index."""
    gateway.storescu(*files)
    wait_until(
        lambda: gateway.value("SELECT count(*) FROM studies_instance") == len(files), what="every object in the index"
    )
    return str(dcmread(files[0], specific_tags=["StudyInstanceUID"]).StudyInstanceUID)


def keys(**values: str) -> list[str]:
    return [word for keyword, value in values.items() for word in ("-k", f"{keyword}={value}")]


def data_sets(folder: Path) -> dict[str, bytes]:
    return {uid_of(path): dataset_of(path) for path in folder.iterdir()}


TRAIL = "SELECT outcome, detail FROM core_auditevent WHERE event LIKE '%Instances Transferred%' AND detail LIKE ?"


def trail(gateway: Gateway, service: str) -> tuple[str, dict[str, object]]:
    """The latest record of a retrieval."""
    outcome, detail = gateway.rows(TRAIL, f"%{service}%")[-1]
    return outcome, json.loads(detail)


@pytest.fixture(scope="module")
def held(shared_gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> "Held":
    """One gateway for all of these, whose receivers know VIEWER and BLIND, with one study. Nobody changes either."""
    peer_add(shared_gateway, "VIEWER")
    peer_add(shared_gateway, "BLIND", visible_sources="SOMEONE_ELSE")
    shared_gateway.start_listeners()
    files = study_files(tmp_path_factory.mktemp("held") / "study")
    return shared_gateway, files, stored(shared_gateway, files)


Held = tuple[Gateway, list[Path], str]


def test_move_to_storescp_gives_every_byte(held: Held, tmp_path: Path) -> None:
    gateway, files, study = held
    with storescp(tmp_path / "pacs") as port:
        peer_add(gateway, "PACS", host="127.0.0.1", port=port)
        done = scu("movescu", gateway, "-aem", "PACS", *keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study))
        assert "Received Final Move Response (Success)" in done.stderr + done.stdout
    assert data_sets(tmp_path / "pacs") == {uid_of(path): dataset_of(path) for path in files}
    outcome, told = trail(gateway, "C-MOVE")
    assert (outcome, told["completed"], told["failed"], told["destination"]) == ("success", len(files), 0, "PACS")


def test_getscu_gets_one_series_with_every_byte(held: Held, tmp_path: Path) -> None:
    gateway, files, study = held
    series = str(dcmread(files[0]).SeriesInstanceUID)
    wanted = {uid_of(path): dataset_of(path) for path in files if dcmread(path).SeriesInstanceUID == series}
    (tmp_path / "got").mkdir()
    names = keys(QueryRetrieveLevel="SERIES", StudyInstanceUID=study, SeriesInstanceUID=series)
    done = scu("getscu", gateway, "-od", str(tmp_path / "got"), "+B", *names)
    assert done.returncode == 0, done.stderr
    assert data_sets(tmp_path / "got") == wanted
    assert trail(gateway, "C-GET")[1]["completed"] == len(wanted)


def test_pynetdicom_gets_what_it_asks_for_by_instance(held: Held) -> None:
    gateway, files, study = held
    first = dcmread(files[0])
    kept: list[str] = []

    def handle(event: evt.Event) -> int:
        kept.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    entity = AE("VIEWER")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    roles = []
    for uid in {str(dcmread(path).SOPClassUID) for path in files}:
        entity.add_requested_context(uid)
        roles.append(build_role(uid, scp_role=True))
    opened = entity.associate(
        "127.0.0.1",
        gateway.dimse_port,
        ae_title="GATEWAY",
        ext_neg=roles,
        evt_handlers=[(evt.EVT_C_STORE, handle)],
    )
    question = Dataset()
    question.QueryRetrieveLevel, question.StudyInstanceUID = "IMAGE", study
    question.SeriesInstanceUID, question.SOPInstanceUID = first.SeriesInstanceUID, first.SOPInstanceUID
    answers = [
        status.Status for status, _data in opened.send_c_get(question, StudyRootQueryRetrieveInformationModelGet)
    ]
    opened.release()
    assert answers[-1] == 0x0000
    assert kept == [first.SOPInstanceUID]


def test_receiver_of_implicit_little_endian_alone_gets_big_endian_objects_too(held: Held, tmp_path: Path) -> None:
    gateway, _files, _study = held
    path = Path(get_testdata_file("MR_small_bigendian.dcm"))
    assert dcmread(path).file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    gateway.storescu(path, extra=("-xb",))
    study = str(dcmread(path).StudyInstanceUID)
    known = "SELECT count(*) FROM studies_study WHERE study_instance_uid = ?"
    wait_until(lambda: gateway.value(known, study) == 1, what="the object")
    with storescp(tmp_path / "pacs", "+xi") as port:
        peer_add(gateway, "PACS", host="127.0.0.1", port=port)
        done = scu("movescu", gateway, "-aem", "PACS", *keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study))
        assert done.returncode == 0, done.stderr
    (received,) = (tmp_path / "pacs").iterdir()
    got = dcmread(received)
    assert got.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert (got.pixel_array == dcmread(path).pixel_array).all()


@pytest.mark.parametrize(
    ("calling", "destination", "level", "status"),
    [
        ("STRANGER", "PACS", "STUDY", "0x0124"),
        ("VIEWER", "NOBODY", "STUDY", "0xa801"),
        ("VIEWER", "GATEWAY", "STUDY", "0xa801"),
        ("VIEWER", "PACS", "SERIES", "0xa900"),
    ],
)
def test_what_may_not_be_is_refused_by_its_status_and_recorded(
    held: Held, calling: str, destination: str, level: str, status: str
) -> None:
    gateway, _files, study = held
    peer_add(gateway, "PACS", host="127.0.0.1", port=1)
    names = keys(QueryRetrieveLevel=level, StudyInstanceUID=study)
    done = scu("movescu", gateway, "-d", "-aem", destination, *names, calling=calling)
    assert status in (done.stdout + done.stderr).lower()
    outcome, told = trail(gateway, "C-MOVE")
    assert outcome == "refused"
    assert told["code"]
    assert study not in json.dumps(told)


def test_peer_sees_only_what_it_may(held: Held, tmp_path: Path) -> None:
    gateway, _files, study = held
    (tmp_path / "got").mkdir()
    names = keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study)
    done = scu("getscu", gateway, "-od", str(tmp_path / "got"), "+B", *names, calling="BLIND")
    assert done.returncode == 0, done.stderr
    outcome, told = trail(gateway, "C-GET")
    assert (outcome, told["total"]) == ("success", 0)
    assert list((tmp_path / "got").iterdir()) == []


def test_change_of_rights_counts_from_the_next_association_on(held: Held, tmp_path: Path) -> None:
    gateway, files, study = held
    peer_add(gateway, "NARROWED", visible_sources="JUDGE")
    names = keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study)
    (tmp_path / "got").mkdir()

    def got(total: int) -> bool:
        scu("getscu", gateway, "-od", str(tmp_path / "got"), "+B", *names, calling="NARROWED")
        return trail(gateway, "C-GET")[1].get("total") == total

    wait_until(lambda: got(len(files)), what="the new peer")
    peer_add(gateway, "NARROWED", visible_sources="SOMEONE_ELSE")
    wait_until(lambda: got(0), what="its new rights")
