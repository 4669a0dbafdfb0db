"""`make demo`: one real study on its whole way through a running gateway, each step shown and checked."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from django.conf import settings
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from gateway_project.core.models import JobState
from gateway_project.core.options import option
from gateway_project.wiring import pipeline
from gateway_project.wiring.demonstration import Demonstration, demonstration_places
from network.dimse.errors import DimseError
from network.dimse.scu import SendResult, echo, send_instances
from studies.dicom.part10 import file_meta_read
from studies.models import Study
from uploads.models import UploadJob

FOLDER = "dicomdirtests/98892003"
CALLING = "DEMO"
STEP_SECONDS = 90.0
POLL_SECONDS = 0.1
T = TypeVar("T")


class DemoError(Exception):
    """A step did not do what it should; says which and what to look at."""


@dataclass
class Demo:
    """Runs the steps in order; `tell(line, same_line)` shows them. Raises DemoError at the first that fails."""

    tell: Callable[[str], None]
    progress: Callable[[str, int, int], None]
    address: str = "127.0.0.1"
    sent: dict[str, bytes] = field(default_factory=dict)

    def run(self) -> Study:
        with tempfile.TemporaryDirectory(prefix="gateway-demo-") as folder:
            files, study_uid = study_make(Path(folder))
            self._send(files)
            study = self._received(study_uid, len(files))
            self._settle(study)
            job = self._uploaded(study)
            self._opened(job, Path(folder) / "opened")
        study.refresh_from_db()
        return study

    def _send(self, files: list[Path]) -> None:
        port, called = option("DICOM.PORT"), option("DICOM.AE_TITLE")
        try:
            echo(address=self.address, port=port, calling_ae_title=CALLING, called_ae_title=called)
        except DimseError as error:
            raise DemoError(
                f"No gateway answers at {self.address}:{port} ({error}). Start it with `make run` in another terminal."
            ) from error
        self.tell(f"C-ECHO answered by {called} at {self.address}:{port}")
        results: list[SendResult] = []

        def told(result: SendResult) -> None:
            results.append(result)
            self.progress("sending", len(results), len(files))

        report = send_instances(
            files, address=self.address, port=port, calling_ae_title=CALLING, called_ae_title=called, on_result=told
        )
        refused = [r for r in report.results if r.status != 0]
        if refused or len(report.results) != len(files):
            raise DemoError(
                f"{len(refused)} of {len(files)} objects were refused: {refused[0].code if refused else 'unsent'}"
            )
        self.sent = {dcmread(f, specific_tags=["SOPInstanceUID"]).SOPInstanceUID: dataset_bytes(f) for f in files}
        self.tell(
            f"sent: {len(files)} MR instances, {sum(map(len, self.sent.values())):,} bytes, every one answered Success"
        )

    def _received(self, study_uid: str, count: int) -> Study:
        def look() -> Study | None:
            study = Study.objects.filter(study_instance_uid=study_uid).first()
            if study is not None:
                self.progress("indexed", study.instance_count, count)
            return study if study is not None and study.instance_count == count else None

        study = wait_for(look, "The index did not show the study")
        self.tell(
            f"received: study {study.pk}, {study.instance_count} instances in {study.series_count} series, "
            "durable and indexed"
        )
        return study

    def _settle(self, study: Study) -> None:
        revision = pipeline.settle_now(study.pk, actor="process:demo")
        if revision is None:
            raise DemoError("There was nothing to settle, although objects had been received.")
        self.tell(
            f"settled: revision {revision.number} frozen with {revision.instance_count} instances "
            "(asked, not waited for)"
        )

    def _uploaded(self, study: Study) -> UploadJob:
        def look() -> UploadJob | None:
            job = (
                UploadJob.objects.filter(revision__study=study, vault__demonstration=True)
                .select_related("vault")
                .first()
            )
            if job is None:
                raise DemoError("No upload was planned: the demonstration vault is off because a real vault is set up.")
            self.progress("sealed and uploaded", job.files_done, job.files_total)
            if job.state == JobState.PARKED:
                raise DemoError(f"The upload failed: {job.error_words} ({job.error_code})")
            return job if job.state == JobState.DONE else None

        job = wait_for(look, "The upload did not finish")
        sealed = sum(p.size_bytes for p in job.parts.filter(instance__isnull=False))
        self.tell(
            f"sealed: {job.files_total} files for recipient {job.vault.recipient_key_id[:16]}..., "
            f"{sealed:,} bytes of ciphertext"
        )
        self.tell(f"uploaded: upload {job.upload_id} in vault {job.vault.vault_id}")
        self.tell(f"receipt verified: {job.receipt_id}, signed by the vault's pinned key")
        return job

    def _opened(self, job: UploadJob, target: Path) -> None:
        places = demonstration_places()
        command = [*tool_command(places, job.upload_id, target)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=STEP_SECONDS, check=False, cwd=settings.BASE_DIR
        )
        if done.returncode != 0:
            raise DemoError(f"The recipient's tool ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        opened = {f["sop_instance_uid"]: target / f["path"] for f in json.loads(done.stdout)["files"]}
        self.tell(f"opened by the recipient's tool: {len(opened)} files")
        for uid, sent in self.sent.items():
            if uid not in opened or dataset_bytes(opened[uid]) != sent:
                raise DemoError("What was opened is not what was sent.")
        self.tell(f"compared: all {len(self.sent)} data sets are byte for byte what was sent")


def tool_command(places: Demonstration, upload_id: str, target: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "uploads.vault", "open", "--upload", upload_id, "--json"),
        *("--directory", str(places.vault), "--key", str(places.recipient_key), "--out", str(target)),
    ]


def study_make(folder: Path) -> tuple[list[Path], str]:
    """A real MR study of pydicom's test files under new UIDs, so that every run is a study of its own."""
    study_uid = generate_uid()
    series: dict[str, str] = {}
    files = []
    root = Path(str(get_testdata_file("CT_small.dcm"))).parent / FOLDER
    for number, source in enumerate(sorted(p for p in root.rglob("*") if p.is_file())):
        dataset = dcmread(source)
        dataset.StudyInstanceUID = study_uid
        dataset.SeriesInstanceUID = series.setdefault(str(dataset.SeriesInstanceUID), generate_uid())
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        target = folder / f"{number:04d}.dcm"
        dataset.save_as(target, enforce_file_format=True)
        files.append(target)
    return files, study_uid


def dataset_bytes(path: Path) -> bytes:
    """The encoded data set of a Part 10 file: what travels in a C-STORE."""
    with path.open("rb") as stream:
        offset = file_meta_read(stream).dataset_offset
        stream.seek(offset)
        return stream.read()


def wait_for(look: Callable[[], T | None], failure: str) -> T:
    """Looks until it finds something; raises DemoError after STEP_SECONDS."""
    give_up_at = time.monotonic() + STEP_SECONDS
    while time.monotonic() < give_up_at:
        found = look()
        if found is not None:
            return found
        time.sleep(POLL_SECONDS)
    raise DemoError(f"{failure} within {STEP_SECONDS:.0f} s. Look at the log and at the study's page.")
