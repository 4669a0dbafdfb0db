"""Options of the DICOM listener."""

from gateway_project.core.option_types import Kind, Option

OPTIONS = (
    Option(key="DICOM.AE_TITLE", kind=Kind.STR, default="GATEWAY", restart=True, help="Our AE title."),
    Option(key="DICOM.HOST", kind=Kind.STR, default="0.0.0.0", restart=True, help="Address the DIMSE listener binds."),  # noqa: S104
    Option(
        key="DICOM.PORT",
        kind=Kind.INT,
        default=11112,
        minimum=0,
        maximum=65535,
        restart=True,
        help="Port of the DIMSE listener.",
    ),
    Option(
        key="DICOM.RECEIVERS", kind=Kind.INT, default=1, minimum=1, maximum=16, restart=True, help="Receiver processes."
    ),
    Option(
        key="DICOM.MAX_ASSOCIATIONS",
        kind=Kind.INT,
        default=16,
        minimum=0,
        restart=True,
        help="Associations at once; 0 = unlimited.",
    ),
    Option(
        key="DICOM.MAX_ASSOCIATIONS_PER_PEER",
        kind=Kind.INT,
        default=8,
        minimum=0,
        restart=True,
        help="Connections at once from one address; 0 = unlimited.",
    ),
    Option(
        key="DICOM.ASSOCIATION_IDLE_SECONDS",
        kind=Kind.FLOAT,
        default=120.0,
        minimum=1,
        restart=True,
        help="A silent association is ended after this long.",
    ),
    Option(
        key="DICOM.ACSE_SECONDS",
        kind=Kind.FLOAT,
        default=10.0,
        minimum=1,
        restart=True,
        help="Deadline of association messages.",
    ),
    Option(
        key="DICOM.DIMSE_SECONDS",
        kind=Kind.FLOAT,
        default=10.0,
        minimum=1,
        restart=True,
        help="Deadline of DIMSE messages.",
    ),
    Option(
        key="DICOM.MAX_PDU_BYTES",
        kind=Kind.INT,
        default=131072,
        minimum=4096,
        maximum=1048576,
        restart=True,
        help="Largest PDU that we let a peer send; 0 (unlimited) is refused.",
    ),
    Option(
        key="DICOM.CHECK_CALLED_AE",
        kind=Kind.BOOL,
        default=True,
        restart=True,
        help="Reject associations that call another AE title than ours.",
    ),
    Option(
        key="DICOM.EXTRA_SOP_CLASSES",
        kind=Kind.LIST,
        default=(),
        restart=True,
        help="Storage SOP classes to accept beside those of the standard (UIDs).",
    ),
    Option(
        key="DICOM.CONNECTION_HISTORY",
        kind=Kind.INT,
        default=30,
        minimum=0,
        maximum=100000,
        help="Ended associations that are remembered.",
    ),
)
