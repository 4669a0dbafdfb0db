"""S22: names that do not resolve, lead to IPv6 alone, or to another address than before: for peers and for the vault.

Only the resolver is told lies. What is sent to is asked for anew each time, so nothing has to be started again.
"""

# ruff: noqa: F811 - the fixtures are imported

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway_project.core.models import Alert, JobState, Lane
from network.dimse import scu
from network.dimse.errors import AssociationError
from tests.faults.scripted_vault import ScriptedVault, scripted_vault
from tests.faults.wire_peers import served
from tests.network.dimse_fixtures import FakePort, Gateway, LocalReceiver, write_instance
from tests.uploads.conftest import house  # noqa: F401 - the fixture
from tests.uploads.upload_house import House
from uploads.services.vaults import vault_client

PACS, VAULT = "pacs.hospital.example", "localhost"  # the one name that a vault may have without TLS
DEAD = "127.0.0.9"  # nobody listens there
Names = dict[str, list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """What the resolver knows; a name without addresses is unknown to it."""
    lies: Names = {PACS: [], VAULT: []}
    real = socket.getaddrinfo

    def resolve(host: str | bytes | None, port: object, *arguments: int, **keywords: int) -> list[tuple]:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in lies:
            return real(host, port, *arguments, **keywords)
        found = [entry for address in lies[name] for entry in real(address, port, *arguments, **keywords)]
        if not found:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return found

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return lies


def echo(port: int) -> str:
    """The code of what went wrong, "" when the peer has answered."""
    try:
        scu.echo(address=PACS, port=port, calling_ae_title="GATEWAY", called_ae_title="GATEWAY")
    except AssociationError as error:
        return error.code if PACS in str(error) and not error.permanent else "unclear"
    return ""


def test_s22_peer_whose_name_is_unknown_for_a_while_and_whose_address_changes(tmp_path: Path, names: Names) -> None:
    """Each time a clear error that may be tried again; the next association goes where the name leads by then."""
    port = FakePort()
    with LocalReceiver(port) as local:
        assert echo(local.address[1]) == "address-unknown"
        served(local, port, tmp_path)  # by its number
        names[PACS] = [DEAD]
        assert echo(local.address[1]) == "connection-refused"
        names[PACS] = ["127.0.0.1"]
        assert echo(local.address[1]) == ""


def test_s22_peer_with_ipv6_alone_is_sent_to(tmp_path: Path, names: Names) -> None:
    names[PACS] = ["::1"]
    write_instance(tmp_path / "a.dcm")
    (tmp_path / "peer").mkdir()
    with Gateway(tmp_path / "peer", endpoints=[("::1", 0)]) as peer:
        assert echo(peer.endpoints[0][1]) == ""
        target = peer.peer | {"address": PACS, "port": peer.endpoints[0][1]}
        assert scu.send_instances([tmp_path / "a.dcm"], **target).stored == 1
        assert [event["address"] for event in peer.events("opened")] == ["::1", "::1"]


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "pacs..example", "no-such-host.invalid", "pacs\0.example"])
def test_s22_name_that_can_be_none_is_a_clear_error(name: str) -> None:
    with pytest.raises(AssociationError) as caught:
        scu.echo(address=name, port=104, calling_ae_title="A", called_ae_title="B")
    assert caught.value.code == "address-unknown"


@pytest.fixture
def known(house: House, names: Names, monkeypatch: pytest.MonkeyPatch) -> Callable[[ScriptedVault], None]:
    """Makes a vault known to us by its name."""
    monkeypatch.setenv("GATEWAY_UPLOAD__PARALLEL_FILES", "1")
    monkeypatch.setattr("uploads.tasks.vault_client", vault_client)

    def row_make(vault: ScriptedVault) -> None:
        house.vault_row(base_url=f"http://{VAULT}:{vault.url.rpartition(':')[2]}")

    return row_make


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_s22_vault_whose_name_fails_moves_and_has_ipv6_alone(
    house: House, names: Names, known: Callable[[ScriptedVault], None], address: str
) -> None:
    """The lane waits and says why, no attempt is spent, and the study arrives when the name leads there again."""
    with scripted_vault(house.vault, address=address) as vault:
        known(vault)
        study = house.settled()
        for addresses, code in (([], "name-unknown"), ([DEAD], "connection-refused")):
            names[VAULT] = addresses
            house.one_later()
            job, lane = house.job(study), Lane.objects.get(name="vault:main")
            assert (job.state, job.attempts, job.error_code) == (JobState.READY, 0, code)
            assert (lane.held, lane.fault_code) == (False, code)
            assert ("DNS" in job.error_words) == (code == "name-unknown")
        names[VAULT] = [address]
        assert house.drain_later() == 1
        house.uploaded(study)
    assert not Alert.objects.filter(healed_at=None).exists()


@pytest.mark.django_db
def test_s22_vault_with_a_dead_address_beside_a_living_one(
    house: House, names: Names, known: Callable[[ScriptedVault], None]
) -> None:
    with scripted_vault(house.vault) as vault:
        known(vault)
        names[VAULT] = [DEAD, "127.0.0.1"]
        study = house.settled()
        house.drain()
        house.uploaded(study)
