"""Options of vaults and uploads."""

from gateway_project.core.option_types import Kind, Option

DEFAULT_MESSAGE = (
    "Study uploaded from {AppName} {AppVersion}.\nReceived by {GatewayAeTitle} on DIMSE port {GatewayPort}.\n"
    "Source AE: {SourceAeTitle}."
)

OPTIONS = (
    Option(
        key="UPLOAD.ENABLED", kind=Kind.BOOL, default=True, help="Off: studies settle and wait; nothing is uploaded."
    ),
    Option(
        key="UPLOAD.MAX_ATTEMPTS",
        kind=Kind.INT,
        default=0,
        minimum=0,
        help="Attempts before an upload is given up; 0 = unlimited.",
    ),
    Option(
        key="UPLOAD.PARALLEL_FILES",
        kind=Kind.INT,
        default=2,
        minimum=1,
        maximum=4,
        help="Files of one study that are sealed and sent at once; 1 = in turn.",
    ),
    Option(
        key="VAULT.HTTP_SECONDS", kind=Kind.FLOAT, default=300.0, minimum=1, help="Deadline of one request to a vault."
    ),
    Option(
        key="VAULT.STUDY_MESSAGE_TEMPLATE",
        kind=Kind.STR,
        default=DEFAULT_MESSAGE,
        help="Message that travels with each study, up to 4096 characters. Placeholders: {AppName}, {AppVersion}, "
        "{GatewayAeTitle}, {GatewayPort}, {SourceAeTitle}.",
    ),
)
