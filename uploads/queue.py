"""The queues of uploads and of their verification, as the core's job machinery needs to know it."""

from gateway_project.core.backoff import schedule_delay, schedule_parse
from gateway_project.core.options import option
from gateway_project.core.queues import TRANSFER_CLUSTER, Queue

NAME = "upload"
VERIFY_NAME = "verify"

ANSWER_MARGIN_SECONDS = 30.0


def lease_seconds() -> float:
    """Longer than a vault may be silent before that is taken for a fault: a slow one costs nobody the lease."""
    return max(option("QUEUE.LEASE_SECONDS"), option("VAULT.HTTP_SECONDS") + ANSWER_MARGIN_SECONDS)


QUEUE = Queue(
    name=NAME,
    cluster=TRANSFER_CLUSTER,
    model="uploads.UploadJob",
    run="uploads.tasks.upload_run",
    changed="uploads.tasks.upload_changed",
    delay=lambda attempts: schedule_delay(attempts, schedule=schedule_parse(option("UPLOAD.RETRY_SCHEDULE"))),
    max_attempts=lambda: option("UPLOAD.MAX_ATTEMPTS"),
    enabled=lambda: option("UPLOAD.ENABLED"),
    lease_seconds=lease_seconds,
    limits="uploads.tasks.upload_limits",
)
VERIFY_QUEUE = Queue(
    name=VERIFY_NAME,
    cluster=TRANSFER_CLUSTER,
    model="uploads.VaultCheck",
    run="uploads.tasks.verify_run",
    changed="uploads.tasks.verify_changed",
    delay=QUEUE.delay,
    max_attempts=lambda: 0,
    enabled=lambda: option("UPLOAD.ENABLED") and option("UPLOAD.VERIFY_DAYS") > 0,
    lease_seconds=lease_seconds,
    limits="uploads.tasks.upload_limits",
)
