"""The upload queue, as the core's job machinery needs to know it."""

from gateway_project.core.backoff import UPLOAD_SCHEDULE, schedule_delay
from gateway_project.core.options import option
from gateway_project.core.queues import TRANSFER_CLUSTER, Queue

NAME = "upload"

QUEUE = Queue(
    name=NAME,
    cluster=TRANSFER_CLUSTER,
    model="uploads.UploadJob",
    run="uploads.tasks.upload_run",
    changed="uploads.tasks.upload_changed",
    delay=lambda attempts: schedule_delay(attempts, schedule=UPLOAD_SCHEDULE),
    max_attempts=lambda: option("UPLOAD.MAX_ATTEMPTS"),
    enabled=lambda: option("UPLOAD.ENABLED"),
)
