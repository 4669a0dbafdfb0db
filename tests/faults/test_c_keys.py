"""FAULTS.md C10 to C12: keys that change under an upload. The vault is in memory, everything else is real."""

import json

import pytest

from gateway_project.core.models import Alert, JobState, Lane, Severity
from tests.uploads import conftest as uploads_house
from tests.uploads.faults import at_name, raising
from tests.uploads.memory_vault import RECIPIENT, lane_error
from tests.uploads.upload_house import House
from uploads.envelope.encoding import base64url_decode
from uploads.envelope.keys import fingerprint, jwk_from_key, key_generate, thumbprint
from uploads.envelope.rotation import Rotation, rotation_sign
from uploads.models import UploadJob, Vault
from uploads.services import pins

pytestmark = pytest.mark.django_db
house = uploads_house.house
ACTOR = "user:anna"
NEW, RECOVERY, SIGNING = key_generate(), key_generate(), key_generate()
NEW_JWK, NEW_KID = jwk_from_key(NEW), thumbprint(jwk_from_key(NEW))
OLD_KID = thumbprint(jwk_from_key(RECIPIENT))


def sealed_for(house: House, job: UploadJob) -> set[str]:
    """The key ids in the key documents of a committed upload."""
    names = [file.name for file in house.vault.commits[job.upload_id].commitment.files if file.name.startswith("key-")]
    contents = [house.vault.uploads[job.upload_id][name] for name in names]
    return {json.loads(base64url_decode(content.split(b".")[0]))["kid"] for content in contents}


def rotated(house: House, vault: Vault, *, serial: int = 1) -> None:
    """The recipient publishes its new key and signs for it; the gateway takes the statement."""
    house.vault.recipients[NEW_KID] = NEW_JWK
    rotation = Rotation(vault.vault_id, serial, vault.recipient_key_id, NEW_JWK, "2026-03-01T00:00:00Z")
    pins.rotation_apply(vault, rotation_sign(rotation, signing_key=SIGNING), actor=ACTOR)


@pytest.fixture
def vault(house: House) -> Vault:
    return house.vault_row(signing_jwk=jwk_from_key(SIGNING))


def test_c10_another_key_offered_is_a_hard_stop_until_a_person_has_compared(house: House, vault: Vault) -> None:
    study = house.settled()
    house.vault.recipients = {OLD_KID: NEW_JWK}
    house.drain()
    assert house.vault.puts() == []
    lane = Lane.objects.get(pk=vault.lane_id)
    assert (lane.held, lane.fault_code) == (True, "recipient-key-differs")
    assert Alert.objects.get(key=f"lane:{lane.name}").severity == Severity.CRITICAL
    assert (house.job(study).state, house.job(study).attempts) == (JobState.READY, 0)
    vault.refresh_from_db()
    assert vault.recipient_key_id == OLD_KID  # what a vault offers never becomes a pin


def test_c10_another_identity_or_demonstration_is_a_hard_stop_too(house: House, vault: Vault) -> None:
    house.settled()
    house.vault.demonstration = True
    house.drain()
    assert (house.vault.puts(), Lane.objects.get(pk=vault.lane_id).fault_code) == ([], "vault-identity-differs")


def test_c11_an_older_statement_never_brings_an_older_key_back(house: House, vault: Vault) -> None:
    rotated(house, vault, serial=2)
    old = Rotation(vault.vault_id, 1, NEW_KID, jwk_from_key(RECIPIENT), "2026-01-01T00:00:00Z")
    with pytest.raises(pins.PinError) as raised:
        pins.rotation_apply(vault, rotation_sign(old, signing_key=SIGNING), actor=ACTOR)
    assert raised.value.code == "rotation-rollback"
    study = house.settled()
    house.drain()
    assert sealed_for(house, house.job(study)) == {NEW_KID}


@pytest.mark.parametrize("name", ["file-00001.gve", "file-00002.gve", "metadata.jwe", "map.jwe"])
def test_c12_rotation_in_mid_study_ends_with_one_key_for_the_whole_upload(
    house: House, vault: Vault, name: str
) -> None:
    study = house.settled(instances=range(1, 4))
    house.vault.before = at_name(f"put {name}", raising(lane_error(1)))
    house.drain(limit=30)
    begun = house.job(study)
    assert (begun.state, begun.recipient_key_ids) == (JobState.READY, OLD_KID)
    rotated(house, vault)
    house.vault.before = lambda _number, _call: None
    house.drain_later()
    house.drain_later()
    job = house.job(study)
    assert (job.state, study_state(house, job)) == (JobState.DONE, "uploaded")
    kids = sealed_for(house, job)
    assert len(kids) == 1
    assert kids == {job.recipient_key_ids}
    if name != "map.jwe":  # everything but the map was sealed and staged before: it goes out for the old key
        assert (kids, job.upload_id != begun.upload_id) == ({NEW_KID}, True)


def study_state(house: House, job: UploadJob) -> str:
    return str(UploadJob.objects.select_related("revision__study").get(pk=job.pk).revision.study.state)


def test_c12_rotation_while_the_worker_seals_lets_that_run_end_for_the_old_key(house: House, vault: Vault) -> None:
    study = house.settled(instances=range(1, 4))

    def change(_number: int, call: str) -> None:
        if call == "put file-00002.gve":
            rotated(house, Vault.objects.get(pk=vault.pk))

    house.vault.before = change
    house.drain()
    job = house.job(study)
    assert (job.state, sealed_for(house, job), job.recipient_key_ids) == (JobState.DONE, {OLD_KID}, OLD_KID)
    house.vault.before = lambda _number, _call: None
    later = house.settled(2)
    house.drain()
    assert sealed_for(house, house.job(later)) == {NEW_KID}
    assert house.job(study).recipient_key_ids == OLD_KID  # older uploads keep theirs


def test_c12_a_late_object_travels_for_the_new_key_and_refers_to_files_of_the_old(house: House, vault: Vault) -> None:
    study = house.settled(1, [1])
    house.drain()
    rotated(house, vault)
    house.settled(1, [2])
    house.drain()
    first, second = house.job(study, 1), house.job(study, 2)
    assert (sealed_for(house, first), sealed_for(house, second)) == ({OLD_KID}, {NEW_KID})


def test_an_offline_recovery_key_opens_every_upload_from_its_pinning_on(house: House, vault: Vault) -> None:
    jwk = jwk_from_key(RECOVERY)
    pins.recovery_pin(vault, jwk, expected_fingerprint=fingerprint({**jwk}), actor=ACTOR)
    study = house.settled()
    house.drain()
    for key in (RECIPIENT, RECOVERY):
        house.vault.opener_key = key
        house.uploaded(study)
    assert sealed_for(house, house.job(study)) == {OLD_KID, thumbprint(jwk)}
    assert house.job(study).recipient_key_ids == f"{OLD_KID} {thumbprint(jwk)}"
