"""Codes of objects: what a data set can be refused for, the store it is kept in, the index, the quarantine."""

from gateway_project.wiring.explain.entry import Area, E

DATASETS = Area(
    "datasets",
    "Objects that are refused",
    "The sender was told a failure (C000, or A900 for a mismatch), and the bytes wait in quarantine for a decision.",
    (
        E(
            "dataset-truncated", "The object is cut short",
            "An element announces more bytes than follow. Most often the sender or a router before it broke off.",
            "Send the object again from its source. If it fails each time, the file there is damaged: discard it here.",
        ),
        E(
            "dataset-malformed", "The bytes are not DICOM as the standard encodes it",
            "The sender wrote the data set wrongly, or something on the way changed it.",
            "Look which device sent it and tell its vendor. Accept it anyway only if a viewer shows it correctly.",
        ),
        E(
            "dataset-empty", "The object holds no element",
            "The sender opened a transfer and had nothing to send.",
            "Send it again from its source; discard this one.",
        ),
        E(
            "dataset-forbidden-group", "Elements stand where they must not",
            "Command or file meta elements are inside the data set: the sender's software builds objects wrongly.",
            "Tell the sender's vendor. Accept anyway keeps the object as it came.",
        ),
        E(
            "dataset-too-deep", "Sequences are nested too deeply",
            "An object made by a faulty program, or made to do harm.",
            "Find out what the device exported. Raise the limit only for an object that you know to be genuine.",
        ),
        E(
            "dataset-too-many-elements", "More elements than the limit",
            "An object made by a faulty program, or made to do harm.",
            "Find out what the device exported. Raise the limit only for an object that you know to be genuine.",
        ),
        E(
            "dataset-too-many-items", "More sequence items than the limit",
            "An object made by a faulty program, or made to do harm; rarely a very large structured report.",
            "Find out what the device exported. Raise the limit only for an object that you know to be genuine.",
        ),
        E(
            "deflate-invalid", "The compressed data set cannot be unpacked",
            "The deflated stream is damaged or no deflate at all.",
            "Send it again, or let the sender send it without deflate.",
        ),
        E(
            "deflate-too-large", "The compressed data set unpacks to too much",
            "More than the limits allow comes out of few bytes, as in an attack with a deflate bomb.",
            "Look who sent it. Raise the limit only for an object that you know to be genuine.",
        ),
        E(
            "encapsulation-invalid", "Compressed pixels without their framework",
            "Encapsulated pixel data has no offset table item or no end: the sender writes it wrongly.",
            "Tell the sender's vendor; try to send it uncompressed.",
        ),
        E(
            "transfer-syntax-mismatch", "The bytes are encoded otherwise than agreed",
            "The sender negotiated one transfer syntax and sent another.",
            "Tell the sender's vendor; until then restrict the syntaxes it proposes.",
        ),
        E(
            "identity-missing", "The object does not say what it is",
            "A SOP class, SOP instance, study or series UID is absent, so it has no place in any study.",
            "Correct it at its source and send it again; it cannot be accepted as it is.",
        ),
        E(
            "uid-invalid", "A UID that identifies the object is unreadable",
            "Letters, wrong dots or more than 64 characters: made by hand or by a faulty anonymiser.",
            "Correct it at its source and send it again; it cannot be accepted as it is.",
        ),
        E(
            "class-uid-differs", "The message and the object name different SOP classes",
            "The sender announced one kind of object and sent another (A900).",
            "Tell the sender's vendor. Accept anyway keeps it under what the object itself says.",
        ),
        E(
            "instance-uid-differs", "The message and the object name different instances",
            "The sender announced one SOP Instance UID and sent another (A900).",
            "Tell the sender's vendor. Accept anyway keeps it under what the object itself says.",
        ),
        E(
            "file-meta-malformed", "The file's header cannot be read",
            "The file meta information of a DICOM file is damaged.",
            "Export the file again from its source.",
        ),
        E(
            "file-meta-no-transfer-syntax", "The file does not say how it is encoded",
            "Its header names no transfer syntax, so nobody can read the rest safely.",
            "Export the file again from its source.",
        ),
        E(
            "not-part10", "This is no DICOM file",
            "Another kind of file lies among the DICOM files.",
            "Take it out of what is imported; discard it here.",
        ),
        E(
            "source-strict", "Refused because this sender is held to the standard",
            "The object is readable but has a flaw, and a source policy of strictness *strict* is set for its sender.",
            "Accept it anyway, or set that source's policy to lenient.",
        ),
        E(
            "recovery-killed", "Taking it in after a crash killed the process, again and again",
            "This object makes the recovery crash or run out of memory.",
            "Keep it for whoever maintains the gateway, and send it again from its source.",
        ),
        E(
            "object-damaged", "The stored bytes are not what was received",
            "Bit rot, a failing disk, or somebody changed the file: its hash differs.",
            "Check the disk. Send the object again from its source; what is damaged is never sent on.",
        ),
    ),
)  # fmt: skip

STORE = Area(
    "store",
    "The store",
    "The disk on which objects are kept. While it takes nothing, senders are told A700 and try again later.",
    (
        E(
            "disk-full", "The disk is full",
            "Less is free than STORAGE.STOP_SPACE_GB, or the file system has no room or no inodes left.",
            "Make room on the gateway's disk. Receiving begins again by itself; senders repeat what was refused.",
            heals=True,
        ),
        E(
            "disk-low", "The disk is nearly full",
            "Less is free than STORAGE.LOW_SPACE_GB.",
            "Make room, or a larger disk, before receiving has to stop. Look whether uploads are held up.",
            heals=True,
        ),
        E(
            "quota-low", "A storage quota is nearly used up",
            "Nine tenths of STORAGE.QUOTA_GB or of a source's share are in use.",
            "Make room, raise the quota, or look whether uploads are held up.",
            heals=True,
        ),
        E(
            "quota-full", "The storage quota is used up",
            "Everything stored together has reached STORAGE.QUOTA_GB.",
            "Make room or raise the quota. Receiving begins again by itself.",
            heals=True,
        ),
        E(
            "source-quota-full", "This sender's quota is used up",
            "What this calling AE title has stored has reached STORAGE.QUOTA_PER_SOURCE_GB; others go on.",
            "Make room or raise the quota; look whether the device sends something over and over.",
            heals=True,
        ),
        E(
            "index-behind", "The index is behind",
            "More objects wait to be indexed than are allowed: the database or its disk is slow.",
            "Usually it catches up in seconds. If not, look at the database and at the machine's load.",
            heals=True,
        ),
        E(
            "spool-io", "The store's disk fails",
            "The file system answered with an error while an object was written or flushed.",
            "Check disk, mount and system log. Nothing was acknowledged that is not safe.",
            heals=True,
        ),
        E(
            "spool-closed", "The receiver is stopping",
            "The gateway is being stopped or restarted.",
            "Nothing; the sender tries again.",
            heals=True,
        ),
        E(
            "spool-misused", "A fault in the gateway's own program",
            "The store was used in an order that it does not allow.",
            "Report it with the correlation id from the log.",
        ),
        E(
            "file-too-large", "The object is larger than a file may be",
            "The file system, or a limit set for the process, is smaller than the object.",
            "Raise the limit (ulimit -f), or move the store to another file system.",
        ),
        E(
            "file-truncated", "A stored file ends too early",
            "The file was cut after it was stored, or the import gave half a file.",
            "Restore it from the backup, or send the object again.",
        ),
        E(
            "object-missing", "A stored file is not there",
            "Somebody or something removed it from the store.",
            "Restore it from the backup, or send the object again; find out what removed it.",
        ),
        E(
            "file-lost", "A file that was acknowledged is gone",
            "The index knows the object, the store has no file of it. This must not happen.",
            "Restore it from the backup or send it again from its source; look who can write into the store.",
        ),
        E(
            "name-invalid", "A name that is not of the expected form",
            "In the store: a fault in the gateway's own program. In the reference vault: a file name outside "
            "its rules.",
            "Report it with the correlation id from the log.",
        ),
        E(
            "name-taken", "A file of that name exists already",
            "Another object has the key that was chosen for this one.",
            "Nothing: another key is chosen. If it comes back, report it.",
            heals=True,
        ),
        E(
            "store-symlink", "A link or stray file stands in the store",
            "Somebody put a link where a directory of the gateway's belongs.",
            "Remove it; the store holds only what the gateway made.",
        ),
        E(
            "store-not-one-filesystem", "The store spans several file systems",
            "A mount lies inside the store, so files could not be put in place in one step.",
            "Give the store one directory that holds no mount.",
        ),
        E(
            "store-no-hard-links", "The store's file system has no hard links",
            "A FAT, exFAT or some network file system.",
            "Choose ext4, xfs or btrfs on a local disk.",
        ),
        E(
            "store-no-locks", "The store's file system has no locks",
            "A network file system that lets two processes hold one lock.",
            "Use a local disk, or mount with locks.",
        ),
        E(
            "store-exposed", "Others can reach the store",
            "Its directories belong to another user or are open to a group.",
            "Run chown and chmod 0700 on them, for the gateway's user.",
        ),
        E(
            "file-system-remote", "The state lies on a network file system",
            "Flushes and locks of NFS, CIFS and FUSE hold less than those of a local disk.",
            "Move GATEWAY_DATA_DIR to a local disk while the gateway is stopped.",
        ),
        E(
            "recovery-left", "After a crash some objects could not be taken over yet",
            "The store or the database refused while a dead receiver's objects were taken over.",
            "Look at disk and database. It is tried again every few minutes.",
            heals=True,
        ),
    ),
)  # fmt: skip

INDEX = Area(
    "index",
    "Index and settling",
    "Objects are safe on disk before they are indexed.",
    (
        E(
            "index-failed", "An object could not be indexed",
            "The database refused its row, or the store failed while it was put in place.",
            "Look at the log for the object's id, and at the database. The object is safe.",
        ),
        E(
            "index-minimal", "An object has only a minimal row",
            "Something in its header could not be written to the index, so only its identity was.",
            "Nothing is lost. Report it, so that the index learns to read this object.",
        ),
        E(
            "instance-changed", "The same instance came with another content",
            "A device sent new pixels or another patient under a SOP Instance UID that is known.",
            "Compare both versions; both are kept, the newest is current and travels as a new revision.",
        ),
        E(
            "patient-conflict", "A study names different patients",
            "Objects of one study carry different patient names or ids: a correction, or two studies under one UID.",
            "Clear it up with the department. Nothing is merged or overwritten here.",
        ),
        E(
            "ingress-filters-invalid", "The ingress filters are switched off",
            "INGRESS.FILTERS has an entry that cannot be read, and half a filter list would be worse than none.",
            "Correct the setting. Until then every object is taken in.",
            heals=True,
        ),
        E(
            "dispatch-failed", "The uploads of a study could not be planned",
            "The database or the settings of a vault refused while the jobs of a settled study were written.",
            "Look at the log. It is tried again at every scan; nothing is lost.",
            heals=True,
        ),
    ),
)  # fmt: skip

QUARANTINE = Area(
    "quarantine",
    "Quarantine",
    "What was not taken in is kept with its reason until a person decides.",
    (
        E(
            "quarantined", "Objects wait in quarantine",
            "Senders were told that objects were not taken in; their bytes are kept.",
            "Open the quarantine, read each reason, then accept or discard.",
        ),
        E(
            "quarantine-full", "The quarantine is full",
            "Its quota of bytes or objects is used up: what is refused from now on is noted, but not kept.",
            "Decide about what waits there, or raise the quota.",
            heals=True,
        ),
        E(
            "quarantine-decided", "Somebody has decided already",
            "The object was accepted or discarded a moment ago, maybe in another window.",
            "Reload the page; nothing was changed by this try.",
        ),
        E(
            "quarantine-not-kept", "The bytes are not here",
            "The quarantine had no room when the object came, so there is only a note of it.",
            "Send the object again from its source.",
        ),
        E(
            "quarantine-harmed", "The quarantined bytes have changed",
            "The file is not what was received: its hash differs.",
            "Check the disk; discard it and send the object again.",
        ),
    ),
)  # fmt: skip

AREAS = (DATASETS, STORE, INDEX, QUARANTINE)
