"""Listeners, workers and web twice on one database, one set killed at a time: nothing is lost, nothing doubled."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dicom_samples import dataset_of
from tests.flow.two_sets import SPOOL, Prepared, Sets
from tests.gateway_harness import Gateway, wait_until
from tests.servers.postgres import Postgres
from tests.servers.redis_server import RedisServer

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.redis,
    pytest.mark.dcmtk,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("two_sets"),
]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres(synchronous_commit="on")
    yield server
    server.remove()


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, redis_server: RedisServer) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("prepared") / "sets", postgres, redis_server)


@pytest.fixture
def sets(tmp_path: Path, prepared: Prepared) -> Iterator[Sets]:
    made = prepared.copy(tmp_path / "sets")
    yield made
    made.end()


def killed_in_mid_load(sets: Sets, folder: Path, victim: Gateway, survivor: Gateway, *, count: int) -> None:
    """Both receive; the victim dies in the middle; the survivor takes over what it left, and its leadership."""
    doomed = sets.send(victim, sets.study(folder / "doomed", patient_id="D", count=count))
    other = sets.send(survivor, sets.study(folder / "other", patient_id="O", count=count))
    wait_until(lambda: doomed.stored >= count // 4, what="the victim to have stored something")
    sets.kill(victim)
    doomed.told()
    assert len(other.told()) == count, "the survivor's peer notices nothing"
    wait_until(lambda: sets.led_by(survivor), what="the survivor to lead")
    done = survivor.code(SPOOL)  # the ticker rings for it every five minutes
    assert done.returncode == 0, done.stderr


def all_came_home_once(sets: Sets, folder: Path) -> None:
    wait_until(sets.all_home, seconds=90, what="every promised object to be in the vault")
    rows = sets.first.rows("SELECT sop_instance_uid, path, version FROM studies_instance")
    kept = {uid: path for uid, path, _version in rows}
    assert len(kept) == len(rows), "no object twice"
    assert sets.promised <= set(kept), "an acknowledged object was lost"
    for uid, path in kept.items():
        assert dataset_of(sets.first.store / path) == dataset_of(sets.files[uid])
    assert sets.in_the_vault(folder) == sorted(kept), "each object is in the vault once"
    assert not sets.first.rows("SELECT key FROM core_alert WHERE severity = 'critical' AND healed_at IS NULL")


def test_one_set_may_be_killed_at_any_time(sets: Sets, tmp_path: Path) -> None:
    first, second = sets.both
    sets.start(first)
    wait_until(lambda: sets.led_by(first), what="the first to lead")
    sets.start(second)
    killed_in_mid_load(sets, tmp_path / "one", first, second, count=40)
    sets.start(first)
    killed_in_mid_load(sets, tmp_path / "two", second, first, count=40)
    all_came_home_once(sets, tmp_path / "opened")


def test_redis_may_be_lost_and_comes_back_empty(sets: Sets, tmp_path: Path, redis_server: RedisServer) -> None:
    """Rows are the truth: while nobody can be rung, objects are received; afterwards the ticker rings again."""
    sets.start(sets.first)
    sets.send(sets.first, sets.study(tmp_path / "before", patient_id="B")).told()
    wait_until(sets.all_home, what="the first study to be in the vault")
    redis_server.kill()
    sending = sets.send(sets.first, sets.study(tmp_path / "during", patient_id="W"))
    assert len(sending.told()) == 6
    redis_server.start()
    all_came_home_once(sets, tmp_path / "opened")


@pytest.mark.soak
def test_postgres_may_be_restarted(sets: Sets, tmp_path: Path, postgres: Postgres) -> None:
    sets.start(sets.first)
    sets.send(sets.first, sets.study(tmp_path / "before", patient_id="B")).told()
    wait_until(sets.all_home, what="the first study to be in the vault")
    postgres.stop()
    postgres.start()
    sending = sets.send(sets.first, sets.study(tmp_path / "after", patient_id="A"))
    assert len(sending.told()) == 6
    all_came_home_once(sets, tmp_path / "opened")


@pytest.mark.soak
def test_a_session_counts_on_every_machine(sets: Sets) -> None:
    for gateway in sets.both:
        sets.start(gateway)
    user = "from django.contrib.auth import get_user_model as u; u().objects.create_superuser('ada', password='x')"
    session = (
        "from django.test import Client; from django.contrib.auth import get_user_model as u; c = Client();"
        "c.force_login(u().objects.get()); print(c.cookies['gateway_session'].value)"
    )
    done = sets.first.code(f"{user}; {session}")
    cookie = done.stdout.strip().splitlines()[-1]
    for gateway in sets.both:
        wait_until(lambda gateway=gateway: page(gateway, cookie), what="the page of a logged-in user")
        assert not page(gateway, "strange")


def page(gateway: Gateway, cookie: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.web_port, timeout=20)
    try:
        connection.request("GET", "/studies/", headers={"Cookie": f"gateway_session={cookie}"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["secret-key", "settings-key", "identity", "store"])
def test_a_machine_without_the_others_keys_or_store_is_refused(sets: Sets, tmp_path: Path, name: str) -> None:
    strange = {
        "secret-key": {"GATEWAY_SECRET_KEY": "another" * 10},
        "settings-key": {"GATEWAY_KEYS_DIR": str(tmp_path / "other")},
        "identity": {"GATEWAY_KEYS_DIR": str(tmp_path / "other")},
        "store": {"GATEWAY_STORAGE__ROOT": str(tmp_path / "other")},
    }[name]
    if "GATEWAY_KEYS_DIR" in strange:
        same = {"settings-key": ["django.key", "identity.pem"], "identity": ["django.key", "config.key"]}[name]
        (tmp_path / "other").mkdir(mode=0o700)
        for file in same:
            (tmp_path / "other" / file).write_bytes((sets.keys / file).read_bytes())
            (tmp_path / "other" / file).chmod(0o600)
    commands = ["rungateway", "runlisteners", "runworkers"] if name == "store" else ["runworkers"]
    for command in commands:
        done = sets.second.manage(command, **strange)
        assert done.returncode != 0
        assert "on its database" in done.stderr
    told = sets.second.manage("sharedmarks", **strange)
    assert told.returncode != 0
    assert [line.split()[0] for line in told.stdout.splitlines() if "another" in line] == [name]
    if name == "identity":
        assert sets.second.manage("sharedmarks", "--replace", name, **strange).returncode == 0
        assert sets.first.manage("sharedmarks").returncode != 0


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_sets_are_killed_again_and_again_under_load(sets: Sets, tmp_path: Path) -> None:
    """Twenty deaths in turns, the other set starting again meanwhile."""
    for gateway in sets.both:
        sets.start(gateway)
    wait_until(sets.leader, what="one of them to lead")
    for number in range(20):
        victim, survivor = sets.both[number % 2], sets.both[1 - number % 2]
        killed_in_mid_load(sets, tmp_path / f"round{number}", victim, survivor, count=30 + 17 * (number % 5))
        sets.start(victim)
    all_came_home_once(sets, tmp_path / "opened")
