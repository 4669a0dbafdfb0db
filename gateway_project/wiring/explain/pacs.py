"""Codes of the services of a PACS: queries, retrievals, storage commitment, procedure steps, and calling peers."""

from gateway_project.wiring.explain.entry import Area, E

STATUSES = Area(
    "pacs-statuses",
    "Statuses that workstations are told",
    "What a viewer or a modality shows after a C-FIND, C-MOVE, C-GET or a request for storage commitment.",
    (
        E("FF00", "Pending", "An answer, and more to come.", "Nothing.", heals=True),
        E(
            "FF01", "Pending, with keys that do not count",
            "An answer to a question of which some optional keys are not known here.",
            "Nothing, unless the answers are too many: then ask by other keys.",
            heals=True,
        ),
        E("FE00", "Cancelled", "The peer wanted no more.", "Nothing.", heals=True),
        E(
            "A701", "Too many to retrieve at once",
            "The request names more instances than RETRIEVE.MAX_INSTANCES.",
            "Retrieve a study or a series at a time, or raise the option.",
        ),
        E(
            "A702", "Nothing could be sent",
            "The destination cannot be called, takes none of these objects, or their files are gone.",
            "Read the comment beside the status and the last error of the destination among the peers.",
        ),
        E(
            "A801", "Move destination unknown",
            "No remote AE with an address has this AE title, or it is the gateway itself.",
            "Enter the destination as a remote AE with host and port.",
        ),
        E(
            "C001", "The query failed here",
            "A fault of the gateway or of its database.",
            "Try again; look at the gateway's log.",
        ),
        E(
            "0106", "An attribute has a value that may not be",
            "The data set of the request breaks the standard.",
            "Tell the device's vendor.",
        ),
        E(
            "0111", "This instance exists already",
            "The device uses a UID a second time.",
            "Nothing, if it repeats itself after a break; else tell its vendor.",
        ),
        E(
            "0112", "No such instance",
            "It never came here, or its file was deleted and no vault has it.",
            "Send it again from the device, which still has it.",
        ),
        E(
            "0115", "The request cannot be read",
            "It names no instances, or is garbled.",
            "Tell the device's vendor.",
        ),
        E(
            "0119", "Class and instance do not fit together",
            "The instance here is of another SOP class than the request says.",
            "Tell the device's vendor.",
        ),
        E(
            "0120", "An attribute is missing",
            "The data set of the request lacks what the standard demands.",
            "Tell the device's vendor.",
        ),
        E("0121", "An attribute is empty", "The data set of the request has no value for what the standard demands.",
          "Tell the device's vendor."),
        E("0123", "No such action", "The device asks for something that the service does not have.",
          "Tell the device's vendor."),
        E(
            "0124", "Not authorised",
            "The peer is unknown, or its row does not allow this.",
            "Enter it as a remote AE, or give that the right to store, query, retrieve or commit, if it shall have it.",
        ),
        E(
            "0131", "Transaction UID in use",
            "The device asks to commit other objects under a Transaction UID that it has used before.",
            "Tell the device's vendor.",
        ),
        E("0211", "Operation not offered", "The device asks for an operation that the gateway does not serve.",
          "See the conformance statement."),
        E(
            "0213", "Too much at once",
            "The request is larger than the gateway takes.",
            "Let the device ask for fewer objects at once, or raise COMMIT.MAX_INSTANCES or MPPS.MAX_INSTANCES.",
        ),
    ),
)  # fmt: skip

QUERIES = Area(
    "queries",
    "Queries and retrievals",
    "Why a query or a retrieval was refused or cut short; recorded in the audit trail.",
    (
        E("query-forbidden", "This AE may not query", "It is unknown, or its row does not allow queries.",
          "Allow it at its remote AE, if it shall."),
        E("query-busy", "Too many queries at once", "The peer, or all together, ask more than the options allow.",
          "Nothing; or raise QUERY.MAX_PARALLEL and QUERY.MAX_PARALLEL_PER_PEER.", heals=True),
        E("query-too-slow", "The query took too long", "It is very wide, or the database is busy.",
          "Narrow it; or raise QUERY.SECONDS.", heals=True),
        E("query-too-many-answers", "More matches than are given", "The query is too wide.",
          "Narrow it; or raise QUERY.MAX_ANSWERS or QUERY.MAX_FILES."),
        E("identifier-garbled", "The question cannot be read", "Its data set is broken.", "Tell the peer's vendor."),
        E("identifier-too-long", "The question is too long", "It lists more than a question may.",
          "Ask in smaller parts."),
        E("identifier-mismatch", "The question does not fit its model",
          "Its level is not one of the model's, or a unique key above it is missing.",
          "Try QUERY.RELATIONAL if the workstation skips levels; else tell its vendor."),
        E("sop-class", "The message is for another service", "Its SOP class is not that of its context.",
          "Tell the peer's vendor."),
        E("condition-invalid", "A condition cannot be read", "A line of a remote AE's conditions has another form.",
          "Write it as `InstitutionName = Clinic North*`."),
        E("retrieve-forbidden", "This AE may not retrieve", "It is unknown, or its row does not allow retrievals.",
          "Allow it at its remote AE, if it shall."),
        E("retrieve-too-many", "More instances than are sent at once", "The request names too much.",
          "Retrieve less at once; or raise RETRIEVE.MAX_INSTANCES."),
        E("move-destination-unknown", "The destination is not known here",
          "No enabled remote AE with an address has its AE title, or it is the gateway itself.",
          "Enter it as a remote AE with host and port."),
        E("peer-gone", "The peer went in the middle", "It ended or lost its association.",
          "Nothing; what it wanted it asks for again.", heals=True),
    ),
)  # fmt: skip

COMMITMENT = Area(
    "commitment",
    "Storage commitment",
    "Why a request was refused, or a report not delivered. Reports are tried again by themselves.",
    (
        E("commit-forbidden", "This AE may not ask for commitment", "It is unknown, or its row does not allow it.",
          "Allow it at its remote AE, if it shall."),
        E("commit-too-many", "Too many references at once", "The device asks for more than COMMIT.MAX_INSTANCES.",
          "Let it ask for fewer, or raise the option."),
        E("commit-duplicate", "Transaction UID in use", "The device used it before for other objects.",
          "Tell its vendor."),
        E("commit-instance", "Not the well-known instance", "The device addresses another instance of the service.",
          "Tell its vendor."),
        E("commit-action", "No such action", "The device asks for an action that the service does not have.",
          "Tell its vendor."),
        E("commitment-refused", "The peer refuses to commit", "It does not offer that to us, or has other limits.",
          "Look at its own log and at what it allows our AE title."),
        E("report-refused", "The peer does not take our report", "It answered the N-EVENT-REPORT with a failure.",
          "Look at its own log; the report is tried again.", heals=True),
        E("report-unreadable", "The peer's report cannot be read", "Its N-EVENT-REPORT is garbled.",
          "Tell its vendor."),
        E("peer-without-address", "The peer has no address", "Its row has no host, so nobody can call it.",
          "Enter host and port at its remote AE."),
        E("job-waits", "Waits for something else", "What it needs has not come yet.", "Nothing.", heals=True),
    ),
)  # fmt: skip

AREAS = (STATUSES, QUERIES, COMMITMENT)
