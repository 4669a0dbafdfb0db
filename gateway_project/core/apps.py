"""The core: jobs, lanes, alerts, audit, options. It knows no other app of ours."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "gateway_project.core"
    label = "core"
    verbose_name = "Core"

    def ready(self) -> None:
        from gateway_project.core import options
        from gateway_project.core.queues import REGISTRY, Periodic

        options.collect()
        REGISTRY.add_periodic(Periodic("leases", "gateway_project.core.tasks.leases_expire", lambda: 15))
        REGISTRY.add_periodic(Periodic("audit", "gateway_project.core.tasks.audit_seal", lambda: 30))
        REGISTRY.add_periodic(Periodic("logs", "gateway_project.core.tasks.logs_watch", lambda: 60))
        REGISTRY.add_periodic(Periodic("audit-check", "gateway_project.core.tasks.audit_check", lambda: 3600))
