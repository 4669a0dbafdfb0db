"""Options of the store and of settling."""

from gateway_project.core.option_types import Kind, Option

GB = 10**9  # of the options named ..._GB, and of the pages

OPTIONS = (
    Option(
        key="STORAGE.ROOT",
        kind=Kind.STR,
        default="studies",
        restart=True,
        help="Where objects are kept; a relative path lies below GATEWAY_DATA_DIR.",
    ),
    Option(
        key="STORAGE.LOW_SPACE_GB",
        kind=Kind.FLOAT,
        default=5.0,
        minimum=0,
        help="Free space under which an alert is opened.",
    ),
    Option(
        key="STORAGE.STOP_SPACE_GB",
        kind=Kind.FLOAT,
        default=1.0,
        minimum=0,
        help="Free space under which objects are refused with A700 (out of resources).",
    ),
    Option(
        key="STORAGE.INDEX_BACKLOG",
        kind=Kind.INT,
        default=5000,
        minimum=1,
        help="Stored objects that may wait for the index before further ones are refused with A700.",
    ),
    Option(
        key="STORAGE.INDEX_BACKLOG_SECONDS",
        kind=Kind.FLOAT,
        default=300.0,
        minimum=1,
        help="How long a stored object may wait for the index before further ones are refused with A700.",
    ),
    Option(
        key="STORAGE.BACKPRESSURE_SECONDS",
        kind=Kind.FLOAT,
        default=2.0,
        minimum=0,
        maximum=10,
        help="How long an object waits for the index to catch up before it is refused: the sender is slowed first.",
    ),
    Option(
        key="STORAGE.QUOTA_GB",
        kind=Kind.FLOAT,
        default=0.0,
        minimum=0,
        help="Stored objects above which more are refused with A700; an alert at 90 %. 0: no quota.",
    ),
    Option(
        key="STORAGE.QUOTA_PER_SOURCE_GB",
        kind=Kind.FLOAT,
        default=0.0,
        minimum=0,
        help="The same for the objects of each calling AE title. 0: no quota.",
    ),
    Option(
        key="STORAGE.QUARANTINE_GB",
        kind=Kind.FLOAT,
        default=10.0,
        minimum=0,
        help="Refused objects kept for a person; beyond it they are counted, but their bytes are not kept.",
    ),
    Option(
        key="STORAGE.QUARANTINE_OBJECTS",
        kind=Kind.INT,
        default=10_000,
        minimum=1,
        help="Different refused objects that wait for a decision at most; more are refused and forgotten.",
    ),
    Option(
        key="INGRESS.FILTERS",
        kind=Kind.JSON,
        default=[],
        help="Objects to answer with Success and not to keep: a list of {groupElement, evaluation == or !=, value}; "
        "any match filters. One invalid entry disables all of them and opens an alert.",
    ),
    Option(
        key="SETTLING.INACTIVITY_SECONDS",
        kind=Kind.FLOAT,
        default=600.0,
        minimum=0,
        help="A study is settled when nothing has arrived for it for this long.",
    ),
    Option(
        key="SETTLING.SCAN_SECONDS",
        kind=Kind.FLOAT,
        default=30.0,
        minimum=0.5,
        help="How often due studies are looked for.",
    ),
    Option(
        key="SETTLING.MAX_OPEN_SECONDS",
        kind=Kind.FLOAT,
        default=86400.0,
        minimum=1,
        help="A study is settled at the latest this long after its first unsettled object, even if more arrive.",
    ),
    Option(
        key="SETTLING.WAIT_FOR_PROCEDURE_STEPS",
        kind=Kind.BOOL,
        default=False,
        help="A study is not settled for being quiet while a modality says that a procedure step for it is in "
        "progress; SETTLING.MAX_OPEN_SECONDS still holds.",
    ),
    Option(
        key="SILENCE.ENABLED",
        kind=Kind.BOOL,
        default=True,
        help="Tell of a source that is silent against its own usual week. Single sources are switched off in "
        "Source policies.",
    ),
    Option(
        key="SILENCE.MISSED_HOURS",
        kind=Kind.FLOAT,
        default=4.0,
        minimum=1,
        maximum=168,
        help="How many hours in which a source usually sends must have passed without an object, each counted by how "
        "often it did in the last weeks. A source with longer pauses of its own gets half as much again as those.",
    ),
    Option(
        key="SILENCE.HISTORY_DAYS",
        kind=Kind.INT,
        default=21,
        minimum=7,
        maximum=110,
        help="Days between a source's first and latest object before its usual week is known well enough to judge it.",
    ),
    Option(
        key="SILENCE.WEEKS",
        kind=Kind.INT,
        default=6,
        minimum=2,
        maximum=16,
        help="Weeks before its latest object that a source's usual week is made of.",
    ),
    Option(
        key="PICTURES.PROCESSES",
        kind=Kind.INT,
        default=1,
        minimum=0,
        maximum=16,
        help="Processes that decode pixels for pages, for each process of the web (there are two). 0: no pictures.",
    ),
    Option(
        key="PICTURES.SECONDS",
        kind=Kind.FLOAT,
        default=10.0,
        minimum=1,
        maximum=120,
        help="How long one picture may take, by the clock and of a processor; then its process is killed.",
    ),
    Option(
        key="PICTURES.MEMORY_MB",
        kind=Kind.INT,
        default=1024,
        minimum=128,
        maximum=16_384,
        help="Memory that decoding one picture may take.",
    ),
    Option(
        key="PICTURES.CACHE_MB",
        kind=Kind.INT,
        default=1024,
        minimum=1,
        maximum=1_000_000,
        help="Disk for pictures that were made already (GATEWAY_DATA_DIR/pictures); those seen longest ago go first.",
    ),
)
