"""The commitment queue and the periodic work, as the core's job machinery needs to know it."""

from gateway_project.core.backoff import cubic_delay
from gateway_project.core.options import option
from gateway_project.core.queues import TRANSFER_CLUSTER, Queue

COMMITMENT = "commitment"
STEPS = "procedure-steps"
"""The periodic work that looks whether the objects of ended procedure steps have come."""

COMMITMENT_QUEUE = Queue(
    name=COMMITMENT,
    cluster=TRANSFER_CLUSTER,
    model="network.CommitmentRequest",
    run="network.tasks.commitment_run",
    changed="network.tasks.commitment_changed",
    delay=lambda attempts: cubic_delay(attempts, coefficient_seconds=option("QUEUE.RETRY_COEFFICIENT")),
    max_attempts=lambda: option("QUEUE.MAX_ATTEMPTS"),
)
