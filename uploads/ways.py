"""Which addresses, proxies and authorities may be used: judged before anything is sent, and when they are entered."""

import contextlib
import ipaddress
from urllib.parse import urlsplit

from uploads.ports import VaultError
from uploads.transport import ca_context


def address_check(base_url: str) -> bool:
    """Whether the address is this machine's own; VaultError for one that would show a secret or is none."""
    parts = urlsplit(base_url)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise VaultError("address-invalid", "The address must be https://host/path and nothing more.", permanent=True)
    loopback = parts.hostname == "localhost"
    with contextlib.suppress(ValueError):  # a host name need not be an address
        loopback = loopback or ipaddress.ip_address(parts.hostname).is_loopback
    if parts.scheme == "http" and not loopback:
        raise VaultError(
            "insecure-address", "The address must begin with https:// (plain http: this machine only).", permanent=True
        )
    return loopback


def proxy_check(proxy: str) -> None:
    """Raises `proxy-invalid` for what is no address of an HTTP proxy."""
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port is not None
    except ValueError:
        usable = False
    if not usable or parts.path.strip("/") or parts.query or parts.fragment:
        raise VaultError("proxy-invalid", "The proxy must be http://name:password@host:port.", permanent=True)


def way_check(*, proxy: str | None, ca: str) -> None:
    """Raises `proxy-invalid` or `ca-invalid` for what no client could be made with."""
    if proxy:
        proxy_check(proxy)
    if ca:
        ca_context(ca)
