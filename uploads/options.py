"""Options of vaults and uploads."""

from gateway_project.core.backoff import schedule_parse
from gateway_project.core.option_types import Kind, Option

DEFAULT_MESSAGE = (
    "Study uploaded from {AppName} {AppVersion}.\nReceived by {GatewayAeTitle} on DIMSE port {GatewayPort}.\n"
    "Source AE: {SourceAeTitle}."
)


def _schedule_check(steps: list[str]) -> None:
    schedule_parse(steps)


def _address_check(address: str) -> None:
    if address and not address.startswith(("https://", "http://")):
        raise ValueError("an address begins with https:// (http:// on this machine)")


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
        key="UPLOAD.RETRY_SCHEDULE",
        kind=Kind.LIST,
        default=["1m", "5m", "15m", "1h", "3h", "6h", "24h"],
        check=_schedule_check,
        help="Waits after each failed attempt (s, m, h, d); the last one is repeated, with up to 10 % more at random.",
    ),
    Option(
        key="UPLOAD.PARALLEL_STUDIES",
        kind=Kind.INT,
        default=1,
        minimum=0,
        maximum=16,
        help="Studies sent to one vault at once, where the vault has no figure of its own; 0 pauses them. "
        "In all, no more than there are transfer workers (2).",
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
        key="UPLOAD.VERIFY_DAYS",
        kind=Kind.INT,
        default=30,
        minimum=0,
        maximum=3650,
        help="A vault is asked whether it still has an upload whole when it was not for so long; 0 = never.",
    ),
    Option(
        key="VAULT.BASE_URL",
        kind=Kind.STR,
        default="",
        check=_address_check,
        help='Address of a vault that the settings set up, under the name "default", and whose address and token they '
        "hold. Empty: vaults are set up by hand, and until there is one the demonstration vault serves.",
    ),
    Option(
        key="VAULT.PUBLIC_KEY_ID",
        kind=Kind.STR,
        default="",
        help="Id of the recipient's key, which that vault publishes; it counts when the vault is set up.",
    ),
    Option(
        key="VAULT.BEARER_TOKEN", kind=Kind.STR, default="", secret=True, help="What this gateway shows to that vault."
    ),
    Option(
        key="VAULT.RECEIPT_FINGERPRINT",
        kind=Kind.STR,
        default="",
        help="Fingerprint of that vault's receipt key, as its operator told it; it counts when the vault is set up.",
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
