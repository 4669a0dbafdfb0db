"""DCMTK as the outside judge of the receiver, and of what our requestor sends."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
)

from network.dimse import scu
from network.dimse.part10_head import sendable_file
from tests.network.dimse_fixtures import Gateway, wait_until

pytestmark = [
    pytest.mark.dcmtk,
    pytest.mark.skipif(
        not all(map(shutil.which, ("storescu", "echoscu", "storescp"))), reason="DCMTK is not installed"
    ),
]
ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}


def _dataset(path: Path) -> bytes:
    head = sendable_file(path)
    assert head is not None
    return path.read_bytes()[head.dataset_offset :]


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)


def test_echoscu_is_answered(tmp_path: Path):
    with Gateway(tmp_path) as gateway:
        done = _run("echoscu", "-aec", "GATEWAY", "127.0.0.1", str(gateway.endpoints[0][1]))
    assert done.returncode == 0, done.stderr


def test_storescu_in_several_syntaxes_arrives_byte_for_byte(tmp_path: Path):
    """storescu may write lengths in its own way, so what it sends was written by DCMTK too."""
    sources = _ct_in_several_syntaxes(tmp_path)
    with Gateway(tmp_path) as gateway:
        for option, path in sources.items():
            done = _run("storescu", option, "127.0.0.1", str(gateway.endpoints[0][1]), path)
            assert done.returncode == 0, done.stderr
    for option, path in sources.items():
        stored = tmp_path / f"{dcmread(path).SOPInstanceUID}.dataset"
        assert stored.read_bytes() == _dataset(path), option
    syntaxes = [event["syntax"] for event in gateway.events("stored")]
    assert syntaxes == [sendable_file(path).transfer_syntax_uid for path in sources.values()]  # type: ignore[union-attr]


def test_storescu_sends_a_directory_over_one_association(tmp_path: Path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm"):
        shutil.copy(get_testdata_file(name), folder)
    with Gateway(tmp_path) as gateway:
        done = _run("storescu", "+sd", "127.0.0.1", str(gateway.endpoints[0][1]), folder)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: gateway.events("closed"))
    assert len(gateway.events("stored")) == 3
    (closed,) = gateway.events("closed")
    assert (closed["outcome"], closed["objects_stored"]) == ("released", 3)


def test_wrong_called_title_is_refused_in_words_that_echoscu_understands(tmp_path: Path):
    with Gateway(tmp_path, options={"check_called": True}) as gateway:
        done = _run("echoscu", "-v", "-aec", "OTHER", "127.0.0.1", str(gateway.endpoints[0][1]))
    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stdout + done.stderr


def test_storescp_gets_from_our_requestor_what_the_file_holds(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    source = Path(get_testdata_file("CT_small.dcm"))
    storescp = subprocess.Popen(["storescp", "+B", "--output-directory", tmp_path, str(port)], env=ENVIRONMENT)
    try:
        wait_until(lambda: _listens(port))
        report = scu.send_instances(
            [source], address="127.0.0.1", port=port, calling_ae_title="GATEWAY", called_ae_title="STORESCP"
        )
    finally:
        storescp.terminate()
        storescp.wait(20)
    assert report.stored == 1
    (received,) = tmp_path.iterdir()
    assert _dataset(received) == _dataset(source)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _ct_in_several_syntaxes(directory: Path) -> dict[str, Path]:
    """storescu's option that proposes the syntax -> the CT in that syntax, each an instance of its own."""
    made = {}
    for number, (option, syntax) in enumerate(
        (
            ("-xi", ImplicitVRLittleEndian),
            ("-xe", ExplicitVRLittleEndian),
            ("-xb", ExplicitVRBigEndian),
            ("-xd", DeflatedExplicitVRLittleEndian),
            ("-xr", RLELossless),
            ("-xs", JPEGLosslessSV1),
        )
    ):
        made[option] = directory / f"ct{option}.dcm"
        done = _run(*_CONVERTERS[option], get_testdata_file("CT_small.dcm"), made[option])
        assert done.returncode == 0, done.stderr
        assert sendable_file(made[option]).transfer_syntax_uid == syntax  # type: ignore[union-attr]
        uid = f"1.2.3.4.5.{number}"
        done = _run("dcmodify", "-nb", "-m", f"SOPInstanceUID={uid}", made[option])
        assert done.returncode == 0, done.stderr
    return made


_CONVERTERS = {
    "-xi": ("dcmconv", "+ti"),
    "-xe": ("dcmconv", "+te"),
    "-xb": ("dcmconv", "+tb"),
    "-xd": ("dcmconv", "+td"),
    "-xr": ("dcmcrle",),
    "-xs": ("dcmcjpeg", "+e1"),
}
