"""Who talks to us and to whom we talk: DIMSE in and out, associations."""

from django.apps import AppConfig


class NetworkConfig(AppConfig):
    name = "network"

    def ready(self) -> None:
        from gateway_project.core.queues import REGISTRY
        from network.queue import COMMITMENT_QUEUE

        REGISTRY.add_queue(COMMITMENT_QUEUE)
