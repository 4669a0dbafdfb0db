"""Which presentation contexts are accepted, and in which transfer syntax."""

import pytest
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
)
from pynetdicom import AllStoragePresentationContexts, build_context

from network.dimse.contexts import (
    VERIFICATION,
    first_offered,
    narrow_to_first_offered,
    storage_contexts,
    storage_sop_classes,
    transfer_syntaxes,
)
from network.dimse.errors import ConfigurationError
from tests.network.dimse_fixtures import CT_IMAGE

JPEGXLLossless = "1.2.840.10008.1.2.4.110"
RETIRED_ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6"
HANGING_PROTOCOL = "1.2.840.10008.5.1.4.38.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"


def test_every_storage_class_of_pynetdicom_and_the_retired_ones_are_accepted():
    classes = {str(context.abstract_syntax) for context in storage_contexts()}
    assert {str(context.abstract_syntax) for context in AllStoragePresentationContexts} <= classes
    assert {VERIFICATION, RETIRED_ULTRASOUND, HANGING_PROTOCOL} <= classes
    assert STORAGE_COMMITMENT not in classes
    assert len(classes) == len(storage_contexts())


def test_every_context_takes_every_transfer_syntax():
    wanted = {
        ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,
        MPEG2MPML, HTJ2KLossless, JPEGXLLossless,
    }  # fmt: skip
    assert wanted <= set(transfer_syntaxes())
    for context in storage_contexts():
        assert set(context.transfer_syntax) == set(transfer_syntaxes())


def test_additional_sop_classes_are_accepted_once():
    classes = [str(context.abstract_syntax) for context in storage_contexts(["1.2.3.4.5", CT_IMAGE])]
    assert classes.count("1.2.3.4.5") == 1
    assert classes.count(CT_IMAGE) == 1


def test_additional_sop_class_that_is_no_uid_is_refused():
    with pytest.raises(ConfigurationError) as caught:
        storage_contexts(["1.2.not-a-uid"])
    assert caught.value.code == "sop-class-invalid"
    assert caught.value.permanent


def test_first_syntax_in_the_peers_order_wins():
    assert first_offered([MPEG2MPML, ImplicitVRLittleEndian], transfer_syntaxes()) == MPEG2MPML
    assert first_offered(["1.2.3", ImplicitVRLittleEndian], transfer_syntaxes()) == ImplicitVRLittleEndian
    assert first_offered(["1.2.3"], transfer_syntaxes()) is None


def test_each_requested_context_is_narrowed_by_its_own_order():
    supported = {str(context.abstract_syntax): context for context in storage_contexts()}
    requested = [
        build_context(CT_IMAGE, [ImplicitVRLittleEndian, ExplicitVRLittleEndian]),
        build_context(CT_IMAGE, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
        build_context(CT_IMAGE, ["1.2.3"]),
        build_context("1.2.3.4.5", [ImplicitVRLittleEndian]),
    ]
    asked = narrow_to_first_offered(requested, supported)
    assert [str(context.abstract_syntax) for context in asked] == [CT_IMAGE]
    assert [context.transfer_syntax for context in requested] == [
        [ImplicitVRLittleEndian], [ExplicitVRLittleEndian], ["1.2.3"], [ImplicitVRLittleEndian]
    ]  # fmt: skip


def test_storage_classes_are_in_a_fixed_order():
    assert storage_sop_classes() == sorted(set(storage_sop_classes()))
