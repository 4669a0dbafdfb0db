"""The pages that the top of every page leads to, in their order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from gateway_project.core.roles import can_administer, can_see


@dataclass(frozen=True)
class Entry:
    """`section`: the beginning of the addresses at which this entry counts as the current one; else its own address."""

    name: str
    label: str
    allowed: Callable[[Any], bool] = can_see
    section: str = ""


ENTRIES = (
    Entry("now", "Now"),
    Entry("studies", "Studies", section="/studies/"),
    Entry("connections", "Connections"),
    Entry("peers", "Peers", section="/peers/"),
    Entry("vaults", "Vaults", section="/vaults/"),
    Entry("quarantine", "Quarantine", section="/quarantine/"),
    Entry("alerts", "Alerts"),
    Entry("audit", "Audit", can_administer),
    Entry("admin:index", "Administration", can_administer),
)


@dataclass(frozen=True)
class Link:
    address: str
    label: str
    current: bool


def navigation(user: Any, path: str) -> list[Link]:
    """What this user may open. No query beyond that for the roles."""
    return [_link(entry, path) for entry in ENTRIES if entry.allowed(user)]


def _link(entry: Entry, path: str) -> Link:
    address = reverse(entry.name)
    return Link(address, entry.label, path == address or bool(entry.section and path.startswith(entry.section)))
