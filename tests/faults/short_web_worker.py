"""The web's worker with deadlines that a test can wait for."""

from gateway_project import web_worker

web_worker.FIRST_BYTE_SECONDS = 3.0
web_worker.HEAD_SECONDS = 3.0
web_worker.BODY_SECONDS = 4.0
web_worker.SILENCE_SECONDS = 4


class ShortWorker(web_worker.GuardedWorker):
    """Nothing else."""
