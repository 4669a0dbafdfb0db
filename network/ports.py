"""What network needs to know of what lies above it; bound by the wiring."""

from collections.abc import Collection
from typing import Protocol

from gateway_project.core.ports import Port


class ReceiptsPort(Protocol):
    """Whether vaults have what was received."""

    def instances_in_vaults(self, instance_ids: Collection[int]) -> set[int]:
        """Those of these instances that every required vault has given its verified receipt for; empty without any."""


RECEIPTS: Port[ReceiptsPort] = Port("network receipts")
