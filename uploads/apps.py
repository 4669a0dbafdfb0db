"""Encrypting studies and uploading them to vaults."""

from django.apps import AppConfig


class UploadsConfig(AppConfig):
    name = "uploads"

    def ready(self) -> None:
        from gateway_project.core.queues import REGISTRY, Periodic
        from gateway_project.core.shared import Shared, shared_add
        from uploads.queue import QUEUE, VERIFY_QUEUE
        from uploads.services import identity

        REGISTRY.add_queue(QUEUE)
        REGISTRY.add_queue(VERIFY_QUEUE)
        REGISTRY.add_periodic(Periodic("verify", "uploads.tasks.verify_plan", lambda: 600))
        REGISTRY.add_periodic(Periodic("catch-up", "uploads.tasks.catch_up", lambda: 30))
        REGISTRY.add_periodic(Periodic("vault-settings", "uploads.tasks.vault_settings", lambda: 60))
        shared_add(Shared("identity", identity.identity_mark, identity.identity_mark_fits, identity.WORDS))
