"""A procedure step told by dcmjs-dimse, which shares no code with the gateway or pynetdicom."""

import json
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.dicom_samples import study_files
from tests.flow.test_retrieve import peer_add, stored
from tests.gateway_harness import Gateway
from tests.network.step_sets import STEP_UID
from tests.outside.npm import HERE

pytestmark = [pytest.mark.dcmjs, pytest.mark.dcmtk, pytest.mark.timeout(120)]


def test_step_of_another_implementation_is_kept_with_its_objects(gateway: Gateway, tmp_path: Path) -> None:
    peer_add(gateway, "CT_NORD_1")
    gateway.start_listeners()
    files = study_files(tmp_path / "study")[:3]
    stored(gateway, files)
    heads = [dcmread(path, stop_before_pixels=True) for path in files]
    options = {
        "port": str(gateway.dimse_port),
        "calling": "CT_NORD_1",
        "uid": STEP_UID,
        "study": heads[0].StudyInstanceUID,
        "series": heads[0].SeriesInstanceUID,
        "objects": ",".join(head.SOPInstanceUID for head in heads),
        "class": heads[0].SOPClassUID,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = ["node", str(HERE / "dcmjs_step.cjs"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["asked"], one["status"]) for one in told] == [
        ("create", 0x0000), ("set", 0x0000), ("end", 0x0000), ("again", 0x0110)
    ]  # fmt: skip
    assert told[0]["uid"] == STEP_UID
    kept = gateway.rows("SELECT state, patient_name, accession_number, instance_count FROM network_procedurestep")
    assert kept == [("completed", "Müller^Anna", "ACC7", len(files))]
