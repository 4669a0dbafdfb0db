"""Codes of the DICOM network: statuses, associations that are refused or end badly, sending, listening, TLS."""

from gateway_project.wiring.explain.entry import Area, E

VENDOR = "One such line now and then is harmless. If a device of yours does it again and again, tell its vendor."
CLOSED = "The association was ended with A-ABORT, and other peers did not notice."

STATUSES = Area(
    "statuses",
    "Statuses that senders are told",
    "What stands in a device's own log after a C-STORE or C-ECHO.",
    (
        E(
            "0000", "Success",
            "The object is whole, durable and readable here.",
            "Nothing.",
            heals=True,
        ),
        E(
            "A700", "Out of resources",
            "The gateway had no room, was stopping or was behind: nothing is wrong with the object.",
            "Look at the alerts of this gateway. The device sends again by itself, or by hand.",
            heals=True,
        ),
        E(
            "A900", "Data set does not match the message",
            "The object inside is another one than the message announced.",
            "Look into the quarantine; tell the sender's vendor.",
        ),
        E(
            "C000", "Cannot understand",
            "The object is unreadable, cut short or without identity.",
            "Look into the quarantine for the reason.",
        ),
        E(
            "C211", "The gateway failed while it kept the object",
            "A fault of the gateway, not of the object.",
            "Send it again; look at the gateway's log.",
        ),
        E(
            "0110", "Processing failure",
            "A message could not be answered in order.",
            "Send it again; look at the gateway's log.",
        ),
        E(
            "0117", "Invalid SOP Instance UID",
            "The message names an instance by something that is no UID.",
            "Tell the sender's vendor.",
        ),
        E(
            "0122", "SOP class not supported",
            "The peer asked for a kind of object that was not agreed.",
            "See which classes are accepted in the conformance statement; add one with DICOM.EXTRA_SOP_CLASSES.",
        ),
    ),
)  # fmt: skip

ACCESS = Area(
    "access",
    "Who may associate",
    "Reasons for which an association or a connection is refused. Each is counted; those of access are audited.",
    (
        E(
            "called-ae-unknown", "The device calls another AE title than ours",
            "The device is set up with another called AE title, and DICOM.CHECK_CALLED_AE is on.",
            "Enter the gateway's AE title at the device.",
        ),
        E(
            "calling-ae-unknown", "This calling AE title is not known here",
            "The device is not listed, and unknown callers are not accepted.",
            "Add it under Peers (Remote AEs), or switch DICOM.ACCEPT_UNKNOWN_CALLING on.",
        ),
        E(
            "calling-ae-blocked", "This calling AE title is blocked",
            "It stands in DICOM.BLOCKED_CALLING, or its row is switched off.",
            "Take it out of the list if it may send again.",
        ),
        E(
            "network-not-allowed", "Connections from this network are not allowed",
            "The address lies outside DICOM.ALLOWED_NETWORKS.",
            "Add the network if the device belongs to you; else find out who tried.",
        ),
        E(
            "address-of-another", "A known AE title from a foreign address",
            "The device moved to another address, or somebody uses its name.",
            "Compare the address. If the device moved, correct its networks here; else tell your security officer.",
        ),
        E(
            "certificate-missing", "A known device without its certificate",
            "For this AE title a client certificate is set, and none was shown.",
            "Give the device its certificate, or remove the demand from its row.",
        ),
        E(
            "certificate-of-another", "A known device with a foreign certificate",
            "The certificate was renewed, or somebody uses the device's name.",
            "Compare the fingerprint with the device. If it is right, enter it here; else tell your security officer.",
        ),
        E(
            "no-verdict", "Nobody could say whether this peer may associate",
            "The part that knows the peers did not answer in time.",
            "It is tried anew with the next association. If it lasts, look at the database.",
            heals=True,
        ),
        E(
            "too-many-associations", "All places are taken",
            "DICOM.MAX_ASSOCIATIONS are open at once.",
            "The device tries again by itself. If it happens daily, raise the option.",
            heals=True,
        ),
        E(
            "too-many-associations-of-peer", "This peer has all the places it may have",
            "DICOM.MAX_ASSOCIATIONS_PER_PEER are open at once, some maybe idle.",
            "The device tries again by itself; let it close what it does not need.",
            heals=True,
        ),
        E(
            "too-many-connections", "Too many connections at once",
            "More connections are open than the gateway serves, most of them without an association.",
            "It passes by itself; look who opens them if it does not.",
            heals=True,
        ),
        E(
            "too-many-connections-of-address", "Too many connections from one address",
            "One machine opened more connections than a device needs.",
            "It passes by itself; look at that machine if it does not.",
            heals=True,
        ),
        E(
            "too-many-connections-per-second", "Connections come too fast",
            "One address opens more than DICOM.CONNECTIONS_PER_SECOND.",
            "It passes by itself; a port scanner or a faulty device does this.",
            heals=True,
        ),
        E(
            "application-context", "Not the DICOM application context",
            "The peer is no DICOM device, or a very strange one.",
            VENDOR,
        ),
        E(
            "called-ae-title", "The AE title in the request cannot be read",
            "It is empty or has characters that no AE title may have.",
            "Correct the setting at the device.",
        ),
        E(
            "network-invalid", "A network in the settings is not of the right form",
            "Something else than 10.0.0.0/8 or fd00::/8 was entered.",
            "Correct DICOM.ALLOWED_NETWORKS or the peer's row.",
        ),
        E(
            "ae-title-invalid", "An AE title in the settings cannot be used",
            "An AE title has 1 to 16 printable ASCII characters and no backslash.",
            "Correct it.",
        ),
        E(
            "sop-class-invalid", "An additional SOP class is no UID",
            "DICOM.EXTRA_SOP_CLASSES has an entry that is no valid UID.",
            "Correct the setting.",
        ),
    ),
)  # fmt: skip

ENDS = Area(
    "ends",
    "How associations end",
    "Reasons in the history of connections when an association did not end with a release.",
    (
        E("by-peer", "The device ended it", "The device sent A-ABORT.", "Look at the device's own log.", heals=True),
        E(
            "ended-by-operator", "Ended by hand",
            "Somebody ended it with the button or with `manage.py associations`.",
            "Nothing; the device may connect again.",
            heals=True,
        ),
        E(
            "idle", "It was silent for too long",
            "The peer sent nothing for DICOM.ASSOCIATION_IDLE_SECONDS, or stopped in mid object.",
            "Harmless between objects. In mid object: look at the network.",
            heals=True,
        ),
        E(
            "connection-closed", "The connection was cut",
            "The peer or the network closed it without a release.",
            "What was acknowledged is safe; the device sends the rest again.",
            heals=True,
        ),
        E("no-association", "Nobody asked for an association", "A connection without DICOM on it: a port scan or a "
          "health check.", "Nothing.", heals=True),
        E("protocol-error", "The peer broke the protocol", CLOSED, VENDOR),
        E("unexpected-message", "A message that does not belong here", CLOSED, VENDOR),
        E("internal-error", "The gateway or the vault failed", "A fault of the program itself.",
          "Look at the log for the correlation id and report it."),
        E("pdu-unknown", "An unknown kind of PDU", CLOSED, VENDOR),
        E("pdu-too-long", "A PDU longer than agreed", CLOSED, VENDOR),
        E("pdu-unexpected", "A PDU at the wrong moment", CLOSED, VENDOR),
        E("pdu-garbled", "A PDU that cannot be read", CLOSED, VENDOR),
        E("pdu-timeout", "A PDU that was begun and never ended",
          "The peer or the network stopped in mid sentence.", "Look at the network between here and the device."),
        E("pdv-length", "A fragment of an impossible length", CLOSED, VENDOR),
        E("pdv-missing", "An empty data PDU", CLOSED, VENDOR),
        E("context-unknown", "Data in a context that was not agreed", CLOSED, VENDOR),
        E("context-id-invalid", "Presentation contexts with wrong or repeated numbers", CLOSED, VENDOR),
        E("request-malformed", "An association request that cannot be read", CLOSED, VENDOR),
        E("command-garbled", "A command that cannot be read", CLOSED, VENDOR),
        E("command-too-long", "A command that does not end", CLOSED, VENDOR),
        E("message-garbled", "A message that cannot be read", CLOSED, VENDOR),
        E("message-order", "Parts of a message in the wrong order", CLOSED, VENDOR),
        E("data-set-missing", "A command announced an object, and none came", CLOSED, VENDOR),
        E("data-set-unannounced", "An object came that no command announced", CLOSED, VENDOR),
        E("data-set-too-long", "A message larger than any real one", CLOSED, VENDOR),
        E("send-timeout", "The peer does not read our answers",
          "Its program hangs, or the network swallows packets.", "Look at the device and at the network."),
        E("not-served", "The connection could not be served",
          "A receiver process had no thread, memory or settings for it.", "Look at the gateway's log.", heals=True),
        E("channel-invalid", "The gateway's own processes did not understand each other",
          "Parts of two versions run side by side.", "Restart the gateway."),
    ),
)  # fmt: skip

SENDING = Area(
    "sending",
    "Sending to and asking of devices",
    "Echo tests and transfers that this gateway begins.",
    (
        E(
            "connection-refused", "Nothing listens at that address",
            "The other side's program does not run, or the port is another one.",
            "Start it there, or correct the port here. What waits goes on by itself.",
            heals=True,
        ),
        E(
            "connection-timeout", "No answer from that address",
            "A firewall drops the packets, or the machine is off.",
            "Check machine, network and firewall. What waits goes on by itself.",
            heals=True,
        ),
        E(
            "connection-failed", "The connection could not be made",
            "The network refused: no route, or the address is unreachable.",
            "Check the network. What waits goes on by itself.",
            heals=True,
        ),
        E(
            "connection-lost", "The connection was lost",
            "The other side or the network cut it in the middle.",
            "Nothing at first: it goes on where it stopped. Look at the network if it keeps happening.",
            heals=True,
        ),
        E(
            "address-unknown", "The address cannot be used",
            "The name does not resolve, or this machine does not have the address it should listen on.",
            "Correct name or address, or mend the name service.",
        ),
        E(
            "address-refused", "This address is never called, or not from here",
            "It is link-local or a cloud's metadata service; or PEER.NETWORKS, PEER.ALLOW_LOOPBACK or, for messages, "
            "ALERT.WEBHOOK_ALLOW_LOOPBACK does not allow it. Nothing was sent there.",
            "Correct the address, or have an administrator widen the setting.",
        ),
        E(
            "peer-changed", "Somebody else has changed the peer",
            "Two people, or a person and a program, changed it at once; the second change was not made.",
            "Read it again, then change it.",
        ),
        E(
            "peer-invalid", "The peer cannot be kept like this",
            "A field has a value that it cannot have, or two fields do not fit together.",
            "Correct the fields that are named.",
        ),
        E(
            "peer-in-use", "Something refers to the peer",
            "Requests for storage commitment, or what is sent to it, name it.",
            "Switch it off instead of removing it.",
        ),
        E(
            "too-many-tries", "Many tries within a minute",
            "Echoes and trials are bounded, so that the gateway is no tool to search a network with.",
            "Wait a minute, then try again.",
        ),
        E(
            "association-rejected", "The peer does not let us in",
            "Mostly our AE title is not entered there, or theirs is wrong here.",
            "Have our AE title entered at the peer; compare theirs.",
        ),
        E(
            "association-aborted", "The peer aborted",
            "The peer's program had a fault or did not like what it got.",
            "Look at the peer's log; try again.",
        ),
        E(
            "association-timeout", "The peer did not answer the request for an association",
            "It accepted the connection, but is no DICOM service or is overloaded.",
            "Check the port; try again.",
            heals=True,
        ),
        E(
            "response-timeout", "The peer did not answer in time",
            "It is overloaded or hangs.",
            "Try again; look at the peer.",
            heals=True,
        ),
        E(
            "response-invalid", "The peer's answer is not DICOM",
            "Another kind of service, or a fault of the peer.",
            "Check the port; tell the peer's vendor.",
        ),
        E(
            "echo-refused", "The peer does not answer echoes",
            "It does not offer verification, or answered it with a failure.",
            "Nothing if it takes objects all the same; else look at the peer.",
        ),
        E(
            "context-rejected", "The peer does not take this kind of object",
            "It supports neither the SOP class nor any transfer syntax that was offered.",
            "Look at the peer's conformance statement.",
        ),
        E("refused", "The other side refused",
          "It answered with a failure, or the gateway refused a request for a reason of its own.",
          "Read the words beside the code; look at the other side's log."),
        E("query-failed", "The peer ended a query with a failure", "It does not support the query, or is overloaded.",
          "Look at the peer's log for the status in the words."),
        E("pool-full", "All associations to this peer are in use", "More is sent to it at once than is allowed.",
          "Nothing, or allow the peer more at once.", heals=True),
        E("file-unreadable", "A file to send cannot be read", "It is no DICOM file, or its rights forbid it.",
          "Check the file."),
        E("file-vanished", "A file to send went away", "Somebody removed it in the meantime.", "Send it again."),
        E("sub-operation-timeout", "An object of a C-GET was not answered",
          "The device that asked for objects took one and said nothing more.", "Look at the device; let it ask again."),
    ),
)  # fmt: skip

LISTENING = Area(
    "listening",
    "Listening, and TLS",
    "Ports of ours, and DICOM over TLS.",
    (
        E("port-in-use", "The port is taken", "Another program, maybe a second gateway, listens there.",
          "Stop it, or choose another port."),
        E("port-forbidden", "This user may not listen on that port", "Ports below 1024 belong to root.",
          "Choose a port above 1023."),
        E("listen-failed", "Listening failed", "The system refused for the reason in the words.",
          "Mend what the words name. It is tried again.", heals=True),
        E("endpoint-down", "An endpoint does not listen", "Its port is taken or its certificate cannot be used.",
          "Read the words; correct the endpoint. It is tried again every few seconds.", heals=True),
        E("listeners-away", "The listeners do not answer", "They are stopped or restarting.",
          "Start the gateway, or see its log.", heals=True),
        E("tls-handshake-timeout", "A TLS handshake that did not end", "The peer speaks no TLS, or is stuck.",
          "Check that the device uses TLS on this port.", heals=True),
        E("tls-handshake-failed", "A TLS handshake that failed",
          "Too old a TLS version, no common cipher, or a certificate that is not trusted.",
          "Compare TLS version and certificates on both sides."),
        E("tls-certificate-untrusted", "The peer's certificate is not trusted",
          "It is from an authority that is not set for this peer, or is for another name; or somebody listens.",
          "Find out who answers, then enter the right authority."),
        E("tls-file-unreadable", "A file for TLS cannot be read", "Path or rights are wrong.",
          "Correct the path, or chown it to the gateway's user."),
        E("tls-certificate-invalid", "The certificate or key cannot be used",
          "The key does not belong to it, the password is wrong, or it is expired.",
          "Give a certificate with its key and, if it has one, its password."),
    ),
)  # fmt: skip

AREAS = (STATUSES, ACCESS, ENDS, SENDING, LISTENING)
