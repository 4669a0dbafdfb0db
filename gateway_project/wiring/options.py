"""Options of the web and of the demonstration vault."""

from gateway_project.core.option_types import Kind, Option

OPTIONS = (
    Option(
        key="WEB.HOST", kind=Kind.STR, default="127.0.0.1", restart=True, help="Address of pages, API and DICOMweb."
    ),
    Option(
        key="WEB.PORT", kind=Kind.INT, default=11113, minimum=0, maximum=65535, restart=True, help="Port of the same."
    ),
    Option(
        key="WEB.HTTPS",
        kind=Kind.BOOL,
        default=False,
        restart=True,
        help="Browsers come over TLS (a proxy of yours): secure cookies, HSTS, redirect. Environment only.",
    ),
    Option(
        key="WEB.ALLOWED_HOSTS",
        kind=Kind.LIST,
        default=(),
        restart=True,
        help="Host names beside localhost under which the pages may be asked for. Environment only.",
    ),
    Option(
        key="VAULT_SERVER.ENABLED",
        kind=Kind.BOOL,
        default=True,
        restart=True,
        help="Run the demonstration vault on loopback while no other vault is set up.",
    ),
    Option(
        key="VAULT_SERVER.PORT",
        kind=Kind.INT,
        default=11115,
        minimum=0,
        maximum=65535,
        restart=True,
        help="Port of the same.",
    ),
)
