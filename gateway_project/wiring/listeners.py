"""The listeners: one acceptor that binds, receivers that serve; network's and studies' parts put together."""

import logging
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from django.conf import settings
from django.db import connection

from gateway_project.core.options import option
from gateway_project.wiring.setup import administrator_exists
from network.dimse.acceptor import Acceptor
from network.dimse.channel import channel_open
from network.dimse.receiver import Receiver, ReceiverConfig
from network.handlers import StorageHandlers
from studies.dicom.spool import Intake
from studies.selectors import store_open
from studies.services.indexer import Indexer
from studies.services.receive import InstanceReceiver
from studies.services.recover import spool_recover

logger = logging.getLogger(__name__)


def acceptor_run() -> None:
    """Binds and serves until SIGTERM or SIGINT: loopback alone until set-up is finished, afterwards DICOM.HOST."""
    asked = threading.Event()
    serving: list[Acceptor] = []

    def stop() -> None:
        asked.set()
        for acceptor in serving:
            acceptor.stop()

    _on_signals(stop)
    while not asked.is_set():
        restricted = not administrator_exists()
        connection.close()
        acceptor = _acceptor("127.0.0.1" if restricted else str(option("DICOM.HOST")))
        serving[:] = [acceptor]
        if asked.is_set():  # between the two lines above: nobody would stop this one
            break
        if restricted:
            threading.Thread(target=_watch_setup, args=(acceptor, asked), name="set-up watch", daemon=True).start()
        acceptor.serve()
    logger.info("listeners stopped")


def _watch_setup(acceptor: Acceptor, asked: threading.Event) -> None:
    """Ends the restricted listener once the first administrator exists."""
    while not asked.wait(2.0):
        if administrator_exists():
            logger.info("set-up finished, binding anew")
            acceptor.stop()
            break
    connection.close()


def _acceptor(host: str) -> Acceptor:
    return Acceptor(
        [(host, option("DICOM.PORT"))],
        receiver_command=receiver_command,
        receivers=option("DICOM.RECEIVERS"),
        max_connections=int(option("DICOM.MAX_ASSOCIATIONS")) * 2,  # room for connections that are no associations yet
        max_connections_per_address=option("DICOM.MAX_ASSOCIATIONS_PER_PEER"),
        on_ready=_ready,
    )


def receiver_command(index: int, descriptor: int) -> list[str]:
    manage = str(Path(settings.BASE_DIR) / "manage.py")
    return [sys.executable, manage, "runlisteners", "--receiver", str(index), "--channel", str(descriptor)]


def receiver_run(index: int, descriptor: int) -> None:
    """Serves the sockets that come over the channel until it closes or SIGTERM; finishes what is under way first."""
    store = store_open()
    spool_recover(store)
    intake = Intake(store, owner=f"receiver-{index}")
    indexer = Indexer(store, intake)
    instances = InstanceReceiver(store, intake, indexer)
    handlers = StorageHandlers(instances, indexer)
    channel = channel_open(descriptor)
    receiver = Receiver(channel, receiver_config(), handlers)
    _on_signals(lambda: receiver.stop(grace_seconds=15.0))
    indexer.start()
    receiver.serve()
    instances.close()
    indexer.stop()
    intake.close()
    logger.info("receiver stopped", extra={"receiver": index})


def receiver_config() -> ReceiverConfig:
    return ReceiverConfig(
        ae_title=option("DICOM.AE_TITLE"),
        check_called=option("DICOM.CHECK_CALLED_AE"),
        max_pdu_bytes=option("DICOM.MAX_PDU_BYTES"),
        max_associations=option("DICOM.MAX_ASSOCIATIONS") or 1_000_000,
        acse_seconds=option("DICOM.ACSE_SECONDS"),
        dimse_seconds=option("DICOM.DIMSE_SECONDS"),
        network_seconds=option("DICOM.ASSOCIATION_IDLE_SECONDS"),
        extra_sop_classes=option("DICOM.EXTRA_SOP_CLASSES"),
    )


def _ready(addresses: list[tuple[str, int]]) -> None:
    logger.info("listening", extra={"service": "dimse", "addresses": [f"{host}:{port}" for host, port in addresses]})


def _on_signals(stop: Callable[[], object]) -> None:
    """SIGTERM and SIGINT ask once; the work of stopping is done beside the signal handler, which must not wait."""
    asked = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if not asked.is_set():
            asked.set()
            threading.Thread(target=stop, name="stop").start()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
