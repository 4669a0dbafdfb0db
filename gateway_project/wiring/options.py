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
        key="WEB.TRUSTED_PROXIES",
        kind=Kind.LIST,
        default=(),
        restart=True,
        help="Addresses or networks of the proxies whose X-Forwarded-For and X-Forwarded-Proto are believed. "
        "Environment only.",
    ),
    Option(
        key="WEB.ALLOW_REMOTE",
        kind=Kind.BOOL,
        default=False,
        restart=True,
        help="Serve the pages beyond loopback although neither WEB.HTTPS nor WEB.TRUSTED_PROXIES is set: in clear, "
        "passwords and patients too.",
    ),
    Option(
        key="WEB.SESSION_HOURS",
        kind=Kind.FLOAT,
        default=8.0,
        minimum=0.1,
        maximum=168,
        help="A login ends this long after its person last did something.",
    ),
    Option(
        key="WEB.LOGIN_LIMIT",
        kind=Kind.INT,
        default=5,
        minimum=1,
        maximum=1000,
        help="Failed logins and password changes that one address may make in 15 minutes; the next ones wait as long.",
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
