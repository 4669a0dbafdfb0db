"""Who really asks: the socket's peer, or whom a proxy that we trust names. Nobody else's word counts."""

import ipaddress
from collections.abc import Sequence

from django.http import HttpRequest

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
FORWARDING_HEADERS = (
    "HTTP_FORWARDED",
    "HTTP_VIA",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_REAL_IP",
)
PROXIED = "gateway.proxied"  # in META: REMOTE_ADDR is what a trusted proxy said
LONGEST = 1000
BROWSERS = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (
    ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip


def address_plain(text: str) -> str:
    """The address without port, brackets, zone or IPv4 mapping; empty for what is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    plain = address_plain(address)
    return bool(plain) and any(ipaddress.ip_address(plain) in network for network in trusted)


def client_address(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """The address to hold responsible. X-Forwarded-For is read from its end, where our own proxies write.

    The first that is none of our proxies is the client; what it wrote before that is hearsay. What cannot be read as
    an address ends the reading at the last proxy known.
    """
    found = address_plain(peer) or peer
    if len(forwarded_for) > LONGEST:
        return found
    for hop in reversed(forwarded_for.split(",") if forwarded_for else []):
        if not is_trusted(found, trusted):
            break
        plain = address_plain(hop)
        if not plain:
            break
        found = plain
    return found


def is_forwarded(request: HttpRequest) -> bool:
    """True when somebody claims to speak for somebody else."""
    return any(header in request.META for header in FORWARDING_HEADERS)


def browser_words(user_agent: str) -> str:
    """A browser's name for itself, in words of ours; what a stranger wrote is not kept."""
    browser = next((name for mark, name in BROWSERS if mark in user_agent[:400]), "Another program")
    system = next((name for mark, name in SYSTEMS if mark in user_agent[:400]), "")
    return f"{browser} on {system}" if system else browser
