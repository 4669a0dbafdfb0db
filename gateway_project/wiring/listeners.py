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
from gateway_project.wiring.file_systems import file_systems_judge
from gateway_project.wiring.listener_watch import ListenerWatch
from gateway_project.wiring.setup import administrator_exists
from network.dimse.acceptor import Acceptor
from network.dimse.channel import channel_open
from network.dimse.fast_store import ServicePorts
from network.dimse.receiver import Receiver, ReceiverConfig
from network.handlers import StorageHandlers
from network.models import DEFAULT
from network.services.access import limits_current, policy_current
from network.services.endpoints import endpoints_seed, endpoints_wanted
from network.services.normalized import NormalizedServices
from network.services.pools import PoolKeeper
from network.services.query import QueryService
from network.services.query_trail import QueryTrail
from network.services.retrieve import RetrievalService
from studies.dicom.spool import Intake
from studies.selectors import store_open
from studies.services.indexer import Indexer
from studies.services.receive import InstanceReceiver
from studies.services.recover import spool_recover

logger = logging.getLogger(__name__)


def acceptor_run() -> None:
    """Binds and serves until SIGTERM or SIGINT: loopback alone until set-up is finished, afterwards every endpoint."""
    asked = threading.Event()
    serving: list[Acceptor] = []

    def stop() -> None:
        asked.set()
        for acceptor in serving:
            acceptor.stop()

    _on_signals(stop)
    file_systems_judge()
    acceptor = _acceptor()
    serving.append(acceptor)
    connection.close()
    if not asked.is_set():  # before the line above nobody would have stopped this one
        watch = ListenerWatch(acceptor)
        watch.start()
        try:
            acceptor.serve()
        finally:
            watch.stop()
    logger.info("listeners stopped")


def _acceptor() -> Acceptor:
    """With the endpoint that the options make: without it there is no gateway. The watch adds the others."""
    endpoints_seed()
    wanted = endpoints_wanted(loopback_only=not administrator_exists()).endpoints
    return Acceptor(
        [endpoint for endpoint in wanted if endpoint.name == DEFAULT],
        receiver_command=receiver_command,
        receivers=option("DICOM.RECEIVERS"),
        policy=policy_current(),
        limits=limits_current(),
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
    trail = QueryTrail()
    keeper = PoolKeeper(f"receiver {index}")
    services = ServicePorts(QueryService(trail), RetrievalService(keeper), NormalizedServices(indexer))
    receiver = Receiver(channel, receiver_config(), handlers, services)
    _on_signals(lambda: receiver.stop(grace_seconds=15.0))
    indexer.start()
    trail.start()
    keeper.start()
    receiver.serve()
    keeper.stop()
    trail.stop()
    instances.close()
    indexer.stop()
    intake.close()
    logger.info("receiver stopped", extra={"receiver": index})


def receiver_config() -> ReceiverConfig:
    return ReceiverConfig(
        ae_title=option("DICOM.AE_TITLE"),
        max_pdu_bytes=option("DICOM.MAX_PDU_BYTES"),
        max_associations=1_000_000,  # the acceptor counts, over all receivers
        acse_seconds=option("DICOM.ACSE_SECONDS"),
        dimse_seconds=option("DICOM.DIMSE_SECONDS"),
        network_seconds=option("DICOM.ASSOCIATION_IDLE_SECONDS"),
        sub_operation_seconds=option("DICOM.RESPONSE_SECONDS"),
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
