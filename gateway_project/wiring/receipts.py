"""What vaults have, told to whoever below must know it: storage commitment."""

from collections.abc import Collection

from uploads.selectors import instances_in_vaults


class Receipts:
    """network.ports.ReceiptsPort."""

    def instances_in_vaults(self, instance_ids: Collection[int]) -> set[int]:
        return instances_in_vaults(instance_ids)
