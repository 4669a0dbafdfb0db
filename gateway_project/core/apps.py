"""The core: jobs, lanes, alerts, audit, options. It knows no other app of ours."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "gateway_project.core"
    label = "core"
    verbose_name = "Core"

    def ready(self) -> None:
        from gateway_project.core import options, secrets
        from gateway_project.core.queues import REGISTRY, Periodic
        from gateway_project.core.shared import Shared, shared_add

        options.collect()
        shared_add(Shared("secret-key", secrets.signed_mark, secrets.signed_mark_fits, secrets.SIGNING_WORDS))
        shared_add(Shared("settings-key", secrets.sealed_mark, secrets.sealed_mark_fits, secrets.SETTINGS_WORDS))
        REGISTRY.add_periodic(Periodic("leases", "gateway_project.core.tasks.leases_expire", lambda: 15))
        REGISTRY.add_periodic(Periodic("audit", "gateway_project.core.tasks.audit_seal", lambda: 30))
        REGISTRY.add_periodic(Periodic("logs", "gateway_project.core.tasks.logs_watch", lambda: 60))
