"""Why an association was refused or ended, in words that say what to do."""

REASONS = {
    "network-not-allowed": "Its address lies in no network of DICOM.ALLOWED_NETWORKS.",
    "calling-ae-blocked": "Its AE title is blocked (DICOM.BLOCKED_CALLING, or its remote AE is switched off).",
    "calling-ae-unknown": "Its AE title is not known here, and unknown ones may not come in. Add a remote AE for it.",
    "called-ae-unknown": "It called an AE title that is not ours. Correct the called AE title at the device.",
    "address-of-another": "It used the AE title of a peer that is known to call from elsewhere.",
    "certificate-missing": "It came without the certificate that this AE title must show.",
    "certificate-of-another": "It showed a certificate that belongs to another AE title.",
    "too-many-associations": "As many associations as allowed were open (DICOM.MAX_ASSOCIATIONS); it may try again.",
    "too-many-associations-of-peer": "Its address had as many open as allowed (DICOM.MAX_ASSOCIATIONS_PER_PEER).",
    "too-many-connections": "As many connections as allowed were open (DICOM.MAX_CONNECTIONS).",
    "too-many-connections-of-address": "Its address had as many connections as allowed.",
    "too-many-connections-per-second": "It connected too often in a second (DICOM.CONNECTIONS_PER_SECOND).",
    "stopping": "The gateway was stopping; the device tries again by itself.",
    "no-verdict": "The gateway could not judge it at that moment; the device may try again.",
    "application-context": "It does not speak the DICOM application context.",
    "no-association": "It connected without asking for an association: a check of the port, or a scan.",
    "tls-handshake-failed": "No TLS connection could be made: it speaks plain DICOM to a TLS port, or an old TLS.",
    "tls-handshake-timeout": "It did not finish the TLS handshake in time.",
    "refused": "It was refused; the log tells why.",
    "not-served": "The gateway could not serve it at that moment; the log tells why.",
    "connection-closed": "Its connection was closed without a release: the device stopped, or the network cut it.",
    "by-peer": "The device ended it; its own log may say why.",
    "send-timeout": "It did not read what it was sent.",
    "sub-operation-timeout": "It did not answer an object that it had asked for in time.",
    "file-vanished": "A stored object could not be read to its end while it was sent; the log tells more.",
    "idle": "It was silent for longer than DICOM.ASSOCIATION_IDLE_SECONDS.",
    "protocol-error": "It broke the rules of the DICOM protocol.",
    "internal-error": "Something in the gateway itself went wrong; the log tells what.",
    "unexpected-message": "It sent a message that was not negotiated.",
    "ended-by-operator": "Ended by hand. What was under way was not acknowledged; the device sends it again.",
    "request-malformed": "Its request for an association could not be read.",
}


def reason_words(code: str) -> str:
    """The words for a reason; its code, readable, where there are none."""
    if not code:
        return ""
    return REASONS.get(code) or f"It broke a rule of the protocol: {code.replace('-', ' ')}."
