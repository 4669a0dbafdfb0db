"""The core: jobs, lanes, alerts, audit, options. It knows no other app of ours."""

from django.apps import AppConfig

from gateway_project.core.backoff import schedule_delay

NOTICE_SCHEDULE = (60, 300, 900, 3600)
NOTICE_ATTEMPTS = 6


def notice_delay(attempts: int) -> float:
    """Seconds until a message that was refused is tried again."""
    return schedule_delay(attempts, schedule=NOTICE_SCHEDULE)


def notice_attempts() -> int:
    return NOTICE_ATTEMPTS


class CoreConfig(AppConfig):
    name = "gateway_project.core"
    label = "core"
    verbose_name = "Core"

    def ready(self) -> None:
        from gateway_project.core import options, secrets
        from gateway_project.core.queues import NOTICE_CLUSTER, NOTICE_QUEUE, REGISTRY, Periodic, Queue
        from gateway_project.core.shared import Shared, shared_add

        options.collect()
        shared_add(Shared("secret-key", secrets.signed_mark, secrets.signed_mark_fits, secrets.SIGNING_WORDS))
        shared_add(Shared("settings-key", secrets.sealed_mark, secrets.sealed_mark_fits, secrets.SETTINGS_WORDS))
        REGISTRY.add_periodic(Periodic("leases", "gateway_project.core.tasks.leases_expire", lambda: 15))
        REGISTRY.add_periodic(Periodic("audit", "gateway_project.core.tasks.audit_seal", lambda: 30))
        REGISTRY.add_periodic(Periodic("logs", "gateway_project.core.tasks.logs_watch", lambda: 60))
        REGISTRY.add_periodic(Periodic("audit-check", "gateway_project.core.tasks.audit_check", lambda: 3600))
        REGISTRY.add_periodic(Periodic("notices", "gateway_project.core.tasks.notices_write", lambda: 10))
        REGISTRY.add_queue(
            Queue(
                name=NOTICE_QUEUE,
                cluster=NOTICE_CLUSTER,
                model="core.AlertNotice",
                run="gateway_project.core.tasks.notice_run",
                changed="gateway_project.core.tasks.notice_changed",
                delay=notice_delay,
                max_attempts=notice_attempts,
            )
        )
