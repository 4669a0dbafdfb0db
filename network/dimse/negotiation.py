"""The part of pynetdicom's association that decides whether and for what there is one."""

from typing import TYPE_CHECKING, Any

from pynetdicom.acse import ACSE
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from network.dimse.contexts import narrow_to_first_offered
from network.dimse.find_service import extended_answer

if TYPE_CHECKING:
    from network.dimse.association import ReceivingAssociation

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"


class ReceivingACSE(ACSE):
    """Negotiates as pynetdicom does, but by the peer's order of transfer syntaxes and our own count of associations."""

    def _negotiate_as_acceptor(self) -> None:
        association: ReceivingAssociation = self.assoc
        association.peer_known()
        verdict = association.server.admit(association)
        if not verdict.accepted:
            association.end_reason = verdict.reason
            self.send_reject(verdict.result, verdict.source, verdict.diagnostic)
            association.kill()
            return
        association.rights_known(verdict.rights)
        if str(self.requestor.primitive.application_context_name or "") != APPLICATION_CONTEXT:
            association.end_reason = "application-context"
            self.send_reject(0x01, 0x01, 0x02)
            association.kill()
            return
        requested = self.requestor.primitive.presentation_context_definition_list
        supported = association.server.supported_for(verdict.rights)
        self.acceptor.supported_contexts = narrow_to_first_offered(requested, supported)
        super()._negotiate_as_acceptor()

    def _check_sop_class_extended(self) -> list[SOPClassExtendedNegotiation]:
        """What we agree to of extended negotiation: about queries alone."""
        items = []
        for uid, asked in self.requestor.sop_class_extended.items():
            agreed = extended_answer(str(uid), asked)
            if agreed:
                item = SOPClassExtendedNegotiation()
                item.sop_class_uid, item.service_class_application_information = uid, agreed
                items.append(item)
        return items

    def send_release(self, is_response: bool = False) -> None:
        """Before a release is answered the port has heard of it, and the association's place is free."""
        if is_response:
            self.assoc.releasing()
        super().send_release(is_response)


class ReceivingDIMSE(DIMSEServiceProvider):
    """Marks the association busy before a message leaves the queue, so that it is never idle in between."""

    def get_msg(self, block: bool = False) -> Any:
        if not self.msg_queue.empty():
            self.assoc.is_serving = True
        return super().get_msg(block)
