"""A marked patient goes through success and failure; the mark must be found only where patients' data belongs."""

import os
from pathlib import Path

import pytest
from pydicom import dcmread

from network.dimse.scu import send_instances
from tests.dicom_samples import study_files
from tests.gateway_harness import DRAIN, EXPIRE, SETTLE, Gateway

pytestmark = [pytest.mark.dcmtk, pytest.mark.timeout(120)]

MARK = "Canary7731"
# Tables that hold what staff must see of a patient. Nothing else may.
PATIENT_TABLES = {"studies_study", "studies_series"}
RINGS = (
    "from django_q.models import OrmQ, Task;"
    "print([ring.task for ring in OrmQ.objects.all()]);"
    "print([[t.name, t.func, t.args, t.kwargs, t.result] for t in Task.objects.all()])"
)


def send(gateway: Gateway, *files: Path) -> list[int | None]:
    report = send_instances(
        files, address="127.0.0.1", port=gateway.dimse_port, calling_ae_title="CANARYAE", called_ae_title="GATEWAY"
    )
    return [result.status for result in report.results]


def marked_study(folder: Path) -> list[Path]:
    files = study_files(folder, count=2, patient_name=f"{MARK}^{MARK}", patient_id=MARK)
    for path in files:
        dataset = dcmread(path)
        for keyword in (
            "AccessionNumber",
            "StudyDescription",
            "SeriesDescription",
            "ReferringPhysicianName",
            "StudyID",
        ):
            setattr(dataset, keyword, MARK)
        dataset.save_as(path)
    return files


def broken(path: Path, folder: Path) -> Path:
    """The same object, its Pixel Data cut: refused, and kept in quarantine."""
    cut = folder / "cut.dcm"
    cut.write_bytes(path.read_bytes()[:-4000])
    return cut


def push_through_success_and_failure(gateway: Gateway, folder: Path) -> None:
    listeners = gateway.start_listeners()
    good, damaged = marked_study(folder / "good"), marked_study(folder / "damaged")
    assert send(gateway, *good) == [0, 0]
    refused = send(gateway, broken(good[0], folder))
    assert refused != [0]
    assert send(gateway, *damaged) == [0, 0]
    gateway.stop(listeners)

    gateway.code(SETTLE)
    gateway.code(DRAIN)  # no vault listens: a lane fault
    assert gateway.value("SELECT count(*) FROM core_lane WHERE faults > 0") == 1
    gateway.start_vault()
    [path] = gateway.rows("SELECT path FROM studies_instance ORDER BY id DESC LIMIT 1")[0]
    with (gateway.store / path).open("r+b") as stream:  # bit rot in a stored object
        stream.seek(-100, os.SEEK_END)
        stream.write(b"\xff" * 50)
    gateway.code("from gateway_project.core.models import Lane; Lane.objects.update(open_until=None, faults=0)")
    gateway.code(DRAIN, GATEWAY_FAILPOINT="upload.sent:2")  # a worker killed in the middle
    gateway.code(EXPIRE)
    gateway.code(DRAIN)
    states = {state for (state,) in gateway.rows("SELECT state FROM studies_study")}
    assert states == {"uploaded", "failed_permanent"}, states


def test_marked_patient_is_found_only_where_patients_belong(gateway: Gateway, tmp_path: Path) -> None:
    push_through_success_and_failure(gateway, tmp_path)
    uids = [uid for (uid,) in gateway.rows("SELECT study_instance_uid FROM studies_study")]
    assert MARK in str(gateway.rows("SELECT * FROM studies_study")), "the mark was really there"

    assert tables_with(gateway, MARK) == PATIENT_TABLES
    asked = gateway.code(RINGS)
    assert asked.returncode == 0, asked.stderr
    rings = asked.stdout
    assert "drain" in rings
    assert not [word for word in (MARK, *uids) if word in rings]

    texts = [gateway.log, *(gateway.data / "logs").rglob("*")]
    assert sum(path.stat().st_size for path in texts if path.is_file()) > 1000
    for path in (p for p in texts if p.is_file()):
        content = path.read_text()
        assert MARK not in content, path
        assert not [uid for uid in uids if uid in content], path

    names = [str(path.relative_to(gateway.data)) for path in gateway.data.rglob("*")]
    assert not [name for name in names if MARK in name or any(uid in name for uid in uids)]
    for folder in ("vault", "uploads"):
        for path in (p for p in (gateway.data / folder).rglob("*") if p.is_file()):
            assert MARK.encode() not in path.read_bytes(), path


def tables_with(gateway: Gateway, mark: str) -> set[str]:
    """Every table in which any cell of any row holds the mark."""
    tables = [name for (name,) in gateway.rows("SELECT name FROM sqlite_master WHERE type='table'")]
    return {name for name in tables if mark in str(gateway.rows(f'SELECT * FROM "{name}"'))}
