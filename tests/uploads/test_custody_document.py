"""The chain of custody as a document: what is signed is what is read, and nothing else."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploads.custody import CustodyError, CustodyReader, document_write
from uploads.envelope.errors import EnvelopeError
from uploads.envelope.keys import jwk_from_key, key_generate

KEY, OTHER = key_generate(), key_generate()
JWK = jwk_from_key(KEY)
HEAD = {
    "document_id": "0123456789abcdef0123456789abcdef",
    "gateway_id": "gateway-01",
    "study_instance_uid": "1.2.3",
    "made_at": "2026-11-25T12:00:00+00:00",
    "made_by": "user:anna",
}


def event(number: int, **values: Any) -> dict[str, Any]:
    members = {"at": "", "event": "Query", "outcome": "success", "actor": "user:a", "detail": {}, "seal": None}
    return {"kind": "event", "uid": str(number), **members, **values}


def document(*records: dict[str, Any]) -> bytes:
    return b"".join(document_write(records, identity=KEY, **HEAD))


def reader(content: bytes) -> CustodyReader:
    return CustodyReader(io.BytesIO(content))


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_document_is_json_and_verifies(count: int) -> None:
    records = [event(number) for number in range(count)]
    content = document(*records)
    head = reader(content).verify(JWK)
    assert (head.made_by, head.study_instance_uid) == ("user:anna", "1.2.3")
    assert head.counts == {"upload": 0, "instance": 0, "event": count}
    assert list(reader(content).records()) == records
    assert json.loads(content)["records"] == records, "any JSON reader gets the same"


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=20), max_size=2), max_size=5))
def test_any_text_survives(details: list[dict[str, str]]) -> None:
    records = [event(number, detail=detail) for number, detail in enumerate(details)]
    content = document(*records)
    reader(content).verify(JWK)
    assert list(reader(content).records()) == records


def test_another_jose_library_reads_the_signature() -> None:
    from joserfc import jws
    from joserfc.jwk import ECKey

    token = json.loads(document(event(1)))["custody"]
    found = jws.deserialize_compact(token, ECKey.import_key(JWK), algorithms=["ES512"])
    assert found.protected["typ"] == "gateway-custody"
    assert json.loads(found.payload)["counts"]["event"] == 1


def test_other_key_is_refused() -> None:
    with pytest.raises(EnvelopeError) as caught:
        reader(document(event(1))).verify(jwk_from_key(OTHER))
    assert caught.value.code == "signer-unknown"


def changes() -> dict[str, bytes]:
    content = document(event(1), event(2), event(3))
    lines = content.split(b"\n")
    return {
        "value": content.replace(b'"user:a"', b'"user:b"', 1),
        "removed": b"\n".join(lines[:2] + lines[3:]),
        "added": b"\n".join([*lines[:2], lines[1], *lines[2:]]),
        "swapped": b"\n".join([lines[0], lines[2], lines[1], *lines[3:]]),
        "white space": content.replace(b'{"actor"', b'{ "actor"', 1),
    }


@pytest.mark.parametrize("change", ["value", "removed", "added", "swapped", "white space"])
def test_changed_records_are_noticed(change: str) -> None:
    with pytest.raises(CustodyError) as caught:
        reader(changes()[change]).verify(JWK)
    assert caught.value.code == "records-changed"


def test_every_flipped_octet_is_noticed() -> None:
    content = document(event(1), event(2))
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 1
        with pytest.raises((CustodyError, EnvelopeError)):
            reader(bytes(broken)).verify(JWK)


def test_every_cut_is_noticed() -> None:
    content = document(event(1), event(2))
    for length in range(len(content)):
        with pytest.raises((CustodyError, EnvelopeError)):
            reader(content[:length]).verify(JWK)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff" * 100, b'{"records":[\n', b'{"records":[\n],"custody":""}\n', b"x" * 1_000_000,
     b'{"records":[\n],"custody":"a.b"}\n'],
)  # fmt: skip
def test_what_is_none_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises((CustodyError, EnvelopeError)):
        reader(content).verify(JWK)
    with pytest.raises((CustodyError, EnvelopeError)):
        reader(content).claimed_jwk()


def test_text_after_the_end_is_refused() -> None:
    with pytest.raises(CustodyError):
        reader(document(event(1)) + b"x").verify(JWK)


@pytest.mark.parametrize("record", [{"kind": "x"}, {"kind": "event"}, event(1) | {"more": 1}])
def test_records_of_another_shape_are_refused(record: dict[str, Any]) -> None:
    content = document(*([event(1)] if record["kind"] == "x" else [record]))
    if record["kind"] == "x":
        content = content.replace(b'"kind":"event"', b'"kind":"x"')
    with pytest.raises(CustodyError):
        list(reader(content).records())


def test_signature_of_another_purpose_is_refused() -> None:
    from uploads.envelope.jose import jws_sign

    head = json.loads(document(event(1)))["custody"].encode()
    forged = jws_sign(b"{}", KEY, typ="gve1-commit").encode()
    with pytest.raises(EnvelopeError) as caught:
        reader(document(event(1)).replace(head, forged)).verify(JWK)
    assert caught.value.code == "type-mismatch"


def test_identity_key_that_the_document_claims_must_be_the_signers() -> None:
    """Somebody's own key under a claim to be ours."""
    content = b"".join(document_write([event(1)], identity=OTHER, **HEAD))
    assert reader(content).claimed_jwk() == jwk_from_key(OTHER)
    with pytest.raises(EnvelopeError):
        reader(content).verify(JWK)
