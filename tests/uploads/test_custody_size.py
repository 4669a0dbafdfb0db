"""The chain of custody of a very large study: bounded by one receipt (100,000 instances in `make soak`)."""

import os
import time
import tracemalloc
from pathlib import Path

import pytest
from django.utils.timezone import now

from studies.models import Instance, Study
from tests.uploads.memory_vault import SIGNER
from tests.web.factories import revision_make, series_make, study_make, upload_make, vault_make
from uploads.custody import CustodyReader
from uploads.envelope.keys import jwk_from_key
from uploads.envelope.receipt import Commitment, StoredFile, commitment_sign, receipt_sign
from uploads.models import UploadJob, UploadPart
from uploads.services.custody import custody_document
from uploads.services.custody_check import CustodyCheck
from uploads.services.identity import identity_ensure, identity_jwk

pytestmark = pytest.mark.django_db
MB = 1e6
# The largest thing in memory is the receipt of one upload (290 octets a file), several times over while it is verified.
FIXED_BYTES, BYTES_A_FILE = 30 * MB, 2000


def large_study(count: int) -> Study:
    study = study_make()
    series_make(study, instances=count)
    revision = revision_make(study)
    vault = vault_make("main", receipt_jwk=jwk_from_key(SIGNER), vault_id="vault-01")
    job = upload_make(revision, vault, files_done=count)
    files = []
    pks = list(Instance.objects.filter(study=study).order_by("pk").values_list("pk", flat=True))
    for start in range(0, count, 2000):
        parts = [
            UploadPart(job=job, name=f"file-{pk:06d}.gve", instance_id=pk, sha256=f"{pk:064x}", size_bytes=pk,
                       content_sha256=f"{pk:064x}", content_size_bytes=pk, confirmed_at=now())
            for pk in pks[start : start + 2000]
        ]  # fmt: skip
        UploadPart.objects.bulk_create(parts)
        files += [StoredFile(part.name, part.size_bytes, part.sha256) for part in parts]
    commitment = Commitment(job.upload_id, "gateway-01", "vault-01", "0" * 64, tuple(files))
    token = commitment_sign(commitment, identity=identity_ensure())
    receipt = receipt_sign(token, commitment, receipt_id="r", stored_at="2026-11-25T12:00:00Z", demonstration=False,
                           key=SIGNER)  # fmt: skip
    UploadJob.objects.filter(pk=job.pk).update(commitment=token, receipt=receipt)
    return study


@pytest.mark.parametrize("count", [2000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_memory_is_that_of_one_receipt(tmp_path: Path, settings, count: int) -> None:
    settings.DATA_DIR = tmp_path
    study = large_study(count)
    path = tmp_path / "custody.json"
    tracemalloc.start()
    started = time.monotonic()
    with path.open("wb") as stream:
        for piece in custody_document(study, actor="user:test"):
            stream.write(piece)
    written, peak_writing = time.monotonic() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    with path.open("rb") as stream:
        reader = CustodyReader(stream)
        check = CustodyCheck(reader.verify(identity_jwk()), store=None)
        covered = sum(
            "the receipt of main covers its ciphertext" in finding.holds for finding in check.findings(reader)
        )
    judged, peak_judging = time.monotonic() - started - written, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if os.environ.get("GATEWAY_SOAK"):
        print(f"{count}: {path.stat().st_size / MB:.0f} MB, written {written:.0f} s with {peak_writing / MB:.0f} MB, "
              f"judged {judged:.0f} s with {peak_judging / MB:.0f} MB")  # fmt: skip
    assert covered == count
    assert max(peak_writing, peak_judging) < FIXED_BYTES + BYTES_A_FILE * count
