"""Options of the DICOM listener."""

import re
from collections.abc import Sequence

from gateway_project.core.option_types import Kind, Option
from network.dimse.access import networks_parse
from network.dimse.errors import ConfigurationError


def _ae_title(title: str) -> None:
    if not re.fullmatch(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?", title):
        raise ValueError("must be 1 to 16 printable ASCII characters without a backslash")


def _ae_titles(titles: Sequence[str]) -> None:
    for title in titles:
        _ae_title(title)


def _networks(texts: Sequence[str]) -> None:
    try:
        networks_parse(texts)
    except ConfigurationError:
        raise ValueError("must be networks such as 10.0.0.0/8 or fd00::/8") from None


OPTIONS = (
    Option(key="DICOM.AE_TITLE", kind=Kind.STR, default="GATEWAY", check=_ae_title, help="Our AE title."),
    Option(key="DICOM.HOST", kind=Kind.STR, default="0.0.0.0", help="Address the DIMSE listener binds."),  # noqa: S104
    Option(
        key="DICOM.PORT",
        kind=Kind.INT,
        default=11112,
        minimum=0,
        maximum=65535,
        help="Port of the DIMSE listener.",
    ),
    Option(
        key="DICOM.TLS_PORT",
        kind=Kind.INT,
        default=2762,
        minimum=0,
        maximum=65535,
        help="Port of DIMSE over TLS; only while DICOM.TLS_CERTIFICATE is set.",
    ),
    Option(
        key="DICOM.TLS_CERTIFICATE",
        kind=Kind.STR,
        default="",
        help="PEM chain or PFX for DIMSE over TLS: an absolute path, or one below certs/ in the data directory.",
    ),
    Option(
        key="DICOM.TLS_PRIVATE_KEY",
        kind=Kind.STR,
        default="",
        help="Its private key (PEM), when it is a file of its own.",
    ),
    Option(
        key="DICOM.TLS_CERTIFICATE_PASSWORD",
        kind=Kind.STR,
        default="",
        secret=True,
        help="Password of the PFX or of the private key.",
    ),
    Option(
        key="DICOM.TLS_MIN_VERSION",
        kind=Kind.STR,
        default="1.2",
        choices=("1.2", "1.3"),
        help="Least TLS version that is spoken.",
    ),
    Option(
        key="DICOM.TLS_CLIENT_CERTIFICATES",
        kind=Kind.STR,
        default="none",
        choices=("none", "optional", "required"),
        help="Whether peers must show a certificate; needs DICOM.TLS_CLIENT_CA.",
    ),
    Option(
        key="DICOM.TLS_CLIENT_CA",
        kind=Kind.STR,
        default="",
        help="Who signs the peers' certificates (PEM file, path as above).",
    ),
    Option(
        key="DICOM.ACCEPT_UNKNOWN_CALLING",
        kind=Kind.BOOL,
        default=True,
        help="Unknown calling AE titles may echo and store; off: only those of ALLOWED_CALLING and known peers.",
    ),
    Option(
        key="DICOM.ALLOWED_CALLING",
        kind=Kind.LIST,
        default=(),
        check=_ae_titles,
        help="Calling AE titles that may come in when unknown ones may not.",
    ),
    Option(
        key="DICOM.BLOCKED_CALLING",
        kind=Kind.LIST,
        default=(),
        check=_ae_titles,
        help="Calling AE titles that are rejected, whatever else says.",
    ),
    Option(
        key="DICOM.ALLOWED_NETWORKS",
        kind=Kind.LIST,
        default=(),
        check=_networks,
        help="Networks (10.0.0.0/8) that may connect at all; empty: every one.",
    ),
    Option(
        key="DICOM.RECEIVERS", kind=Kind.INT, default=1, minimum=1, maximum=16, restart=True, help="Receiver processes."
    ),
    Option(
        key="DICOM.MAX_ASSOCIATIONS",
        kind=Kind.INT,
        default=16,
        minimum=0,
        help="Associations at once, over all receivers; 0 = unlimited.",
    ),
    Option(
        key="DICOM.MAX_ASSOCIATIONS_PER_PEER",
        kind=Kind.INT,
        default=8,
        minimum=0,
        help="Associations at once from one address; 0 = unlimited.",
    ),
    Option(
        key="DICOM.MAX_CONNECTIONS",
        kind=Kind.INT,
        default=512,
        minimum=0,
        help="Open sockets at once, associations or not; beyond it they are closed. 0 = unlimited.",
    ),
    Option(
        key="DICOM.MAX_CONNECTIONS_PER_ADDRESS",
        kind=Kind.INT,
        default=128,
        minimum=0,
        help="The same for each address.",
    ),
    Option(
        key="DICOM.CONNECTIONS_PER_SECOND",
        kind=Kind.FLOAT,
        default=200.0,
        minimum=0,
        help="New connections a second from one address, twice as many in a burst; beyond it they are closed. 0 = "
        "unlimited.",
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
        key="DICOM.CONNECTION_SECONDS",
        kind=Kind.FLOAT,
        default=10.0,
        minimum=1,
        help="Deadline of a connection to a peer that we call, TLS included.",
    ),
    Option(
        key="DICOM.RESPONSE_SECONDS",
        kind=Kind.FLOAT,
        default=60.0,
        minimum=1,
        help="How long a peer that we call may take to answer; longer for large objects.",
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
        help="Reject associations that call another AE title than the endpoint's.",
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
        help="Ended associations that are remembered; as many rejections beside them.",
    ),
    Option(
        key="QUERY.MAX_ANSWERS",
        kind=Kind.INT,
        default=5000,
        minimum=1,
        maximum=100000,
        help="Answers to one query; a peer with more matches gets so many, and the status A700.",
    ),
    Option(
        key="QUERY.SECONDS",
        kind=Kind.FLOAT,
        default=30.0,
        minimum=1,
        maximum=600,
        help="The longest that a query may ask the database; then the status is A700.",
    ),
    Option(
        key="QUERY.MAX_FILES",
        kind=Kind.INT,
        default=5000,
        minimum=0,
        maximum=100000,
        help="Files read for one query at image level, for attributes that the index does not keep.",
    ),
    Option(
        key="QUERY.MAX_PARALLEL",
        kind=Kind.INT,
        default=4,
        minimum=1,
        maximum=64,
        help="Queries at once in each receiver; more wait.",
    ),
    Option(
        key="QUERY.MAX_PARALLEL_PER_PEER",
        kind=Kind.INT,
        default=2,
        minimum=1,
        maximum=64,
        help="The same for one calling AE title; more are refused with A700.",
    ),
    Option(
        key="QUERY.FOLD_CASE",
        kind=Kind.BOOL,
        default=True,
        help="Person names and descriptions match whatever their case; ids and codes never do.",
    ),
    Option(
        key="QUERY.FOLD_ACCENTS",
        kind=Kind.BOOL,
        default=True,
        help="Person names and descriptions match with or without accents.",
    ),
    Option(
        key="QUERY.FUZZY_NAMES",
        kind=Kind.BOOL,
        default=False,
        help="Person names match when every word of the question begins a word of the name, in any order; else only "
        "for peers that negotiate it.",
    ),
    Option(
        key="QUERY.RELATIONAL",
        kind=Kind.BOOL,
        default=False,
        help="Queries may leave out the unique keys of higher levels; else only those of peers that negotiate it.",
    ),
    Option(
        key="QUERY.COMBINED_DATE_TIME",
        kind=Kind.BOOL,
        default=False,
        help="A range of dates with one of times is one of moments; else only for peers that negotiate it.",
    ),
    Option(
        key="RETRIEVE.MAX_INSTANCES",
        kind=Kind.INT,
        default=50000,
        minimum=1,
        maximum=65535,
        help="Instances sent for one C-MOVE or C-GET; a peer that names more gets none, and the status A701.",
    ),
    Option(
        key="RETRIEVE.MAX_PARALLEL_PER_PEER",
        kind=Kind.INT,
        default=4,
        minimum=1,
        maximum=64,
        help="Retrievals at once of one calling AE title, in each receiver; more are refused with A700.",
    ),
    Option(
        key="COMMIT.MAX_INSTANCES",
        kind=Kind.INT,
        default=20000,
        minimum=1,
        maximum=50000,
        help="References in one request for storage commitment; one with more is refused with 0213.",
    ),
    Option(
        key="COMMIT.RECHECK_SECONDS",
        kind=Kind.FLOAT,
        default=30.0,
        minimum=1,
        maximum=3600,
        help="How often it is looked whether what a commitment waits for has reached the vault.",
    ),
    Option(
        key="COMMIT.KEEP_DAYS",
        kind=Kind.INT,
        default=90,
        minimum=1,
        maximum=3650,
        help="How long a request for commitment is kept after its report was taken, or given up.",
    ),
    Option(
        key="POOL.IDLE_SECONDS",
        kind=Kind.FLOAT,
        default=5.0,
        minimum=0,
        maximum=600,
        help="How long an association to a peer is kept open after its work, for the next; 0: closed at once.",
    ),
    Option(
        key="POOL.PER_PEER",
        kind=Kind.INT,
        default=8,
        minimum=1,
        maximum=64,
        help="Associations open at once to one peer, in each process; further work waits for one.",
    ),
    Option(
        key="POOL.TOTAL",
        kind=Kind.INT,
        default=32,
        minimum=0,
        maximum=1024,
        help="Associations kept open unused, to all peers together, in each process.",
    ),
    Option(
        key="PEER.NETWORKS",
        kind=Kind.LIST,
        default=(),
        check=_networks,
        help="Networks in which peers may be called; empty: every one. Link-local and metadata addresses never.",
    ),
    Option(
        key="PEER.ALLOW_LOOPBACK",
        kind=Kind.BOOL,
        default=True,
        help="Peers on this machine itself may be called.",
    ),
    Option(
        key="MPPS.MAX_INSTANCES",
        kind=Kind.INT,
        default=20000,
        minimum=1,
        maximum=50000,
        help="Objects (or series) that a performed procedure step may name; a message with more is refused with 0213.",
    ),
    Option(
        key="MPPS.WAIT_DAYS",
        kind=Kind.FLOAT,
        default=7.0,
        minimum=0.01,
        maximum=365,
        help="How long the objects of an ended procedure step are waited for; then it is not looked for them any more.",
    ),
    Option(
        key="MPPS.KEEP_DAYS",
        kind=Kind.INT,
        default=90,
        minimum=1,
        maximum=3650,
        help="How long its data sets and list of objects are kept after that; the step itself stays.",
    ),
)
