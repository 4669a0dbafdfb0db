"""Encrypting studies and uploading them to vaults."""

from django.apps import AppConfig


class UploadsConfig(AppConfig):
    name = "uploads"

    def ready(self) -> None:
        from gateway_project.core.queues import REGISTRY
        from uploads.queue import QUEUE

        REGISTRY.add_queue(QUEUE)
