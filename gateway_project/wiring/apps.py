"""The composition: binds every app's ports, once in every process."""

from django.apps import AppConfig


class WiringConfig(AppConfig):
    name = "gateway_project.wiring"
    label = "wiring"
    verbose_name = "Gateway"

    def ready(self) -> None:
        from gateway_project.core.options import option
        from gateway_project.core.queues import REGISTRY, Periodic
        from gateway_project.wiring import web_checks  # noqa: F401 - registers wiring.W001
        from gateway_project.wiring.pipeline import DeliveryProjection
        from gateway_project.wiring.receipts import Receipts
        from network.ports import RECEIPTS
        from network.queue import STEPS
        from uploads.ports import DELIVERY

        RECEIPTS.bind(Receipts())
        DELIVERY.bind(DeliveryProjection())
        REGISTRY.add_periodic(
            Periodic("settle", "gateway_project.wiring.tasks.settle", lambda: option("SETTLING.SCAN_SECONDS"))
        )
        REGISTRY.add_periodic(
            Periodic(STEPS, "gateway_project.wiring.tasks.procedure_steps", lambda: option("SETTLING.SCAN_SECONDS"))
        )
        REGISTRY.add_periodic(Periodic("exchanges", "gateway_project.wiring.tasks.exchanges_trim", lambda: 3600))
        REGISTRY.add_periodic(Periodic("disk", "gateway_project.wiring.tasks.disk_watch", lambda: 60))
        REGISTRY.add_periodic(Periodic("spool", "gateway_project.wiring.tasks.spool_watch", lambda: 300))
        REGISTRY.add_periodic(Periodic("ingress", "gateway_project.wiring.tasks.ingress_watch", lambda: 60))
        REGISTRY.add_periodic(Periodic("rollups", "gateway_project.wiring.tasks.rollups", lambda: 15))
        REGISTRY.add_periodic(Periodic("measure", "gateway_project.wiring.tasks.rollups_measure", lambda: 300))
        REGISTRY.add_periodic(Periodic("silence", "gateway_project.wiring.tasks.silence_watch", lambda: 300))
        REGISTRY.add_periodic(Periodic("pictures", "gateway_project.wiring.tasks.pictures_trim", lambda: 3600))
        REGISTRY.add_periodic(Periodic("sessions", "gateway_project.wiring.tasks.sessions_clear", lambda: 3600))
