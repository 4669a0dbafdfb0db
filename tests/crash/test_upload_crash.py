"""SIGKILL of the worker and of the vault after every step from settled to receipt: the vault ends with the study, once.

Real processes: one that settles and dispatches, one worker, the reference vault over HTTP. After each death the lease
runs out, what died is started again, and the end is compared from outside, with the recipient's tool.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.dicom_samples import study_files, uid_of
from tests.gateway_harness import DRAIN, EXPIRE, PREPARE, ROOT, SETTLE, Gateway, listens, wait_until
from uploads.envelope.keys import private_key_read
from uploads.vault.recipient import open_upload

pytestmark = [pytest.mark.timeout(180)]

FILES = 3
DISPATCH_POINTS = ("settle.stamped", "settle.committed", "dispatch.planned", "dispatch.committed")
# Each with how often the worker passes it in an upload of so many files: a key document, the files, three documents.
PASSES = FILES + 4
UPLOAD_POINTS = {
    "upload.sealed": FILES,
    "upload.durable": PASSES,
    "upload.staged": PASSES,
    "upload.sent": PASSES,
    "upload.confirmed": PASSES,
    "upload.committing": 1,
    "upload.answered": 1,
    "upload.receipted": 1,
    "upload.done": 1,
}
VAULT_POINTS = {
    "vault.part": PASSES,
    "vault.fsynced": PASSES,
    "vault.renamed": PASSES,
    "vault.linked": PASSES,
    "vault.committed": 1,
}
RECEIVE = """
from pathlib import Path
from studies.dicom.part10 import file_meta_read
from studies.dicom.spool import Intake
from studies.selectors import store_open
from studies.services.index import index_objects
from studies.services.receive import Arrival, InstanceReceiver

class Index:
    items = []
    backlog = lambda self: 0
    backlog_seconds = lambda self: 0.0
    add = lambda self, item: self.items.append(item)

store, index = store_open(), Index()
intake = Intake(store, owner="receiver")
receiver = InstanceReceiver(store, intake, index)
for path in sorted(Path(FOLDER).glob("*.dcm")):
    with path.open("rb") as stream:
        meta = file_meta_read(stream)
        uids = (meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid)
        receiver.receive(Arrival(*uids, "JUDGE", "GATEWAY", "-", "-"), [stream.read()])
index_objects(store, index.items)
for item in index.items:
    intake.release(item.spooled.path)
intake.close()
"""
# A circuit's wait is over, as after some seconds.
LANE_OPENED_AGAIN = (
    "from django.utils.timezone import now; from gateway_project.core.models import Lane;"
    "from uploads.models import UploadJob; Lane.objects.update(open_until=None);"
    "UploadJob.objects.filter(state='ready').update(run_after=now())"
)
# Django is set up once; every process of the gateway's is a fork of this one, killed or ended like any other.
NURSERY = """
import json, os, sys, traceback
import django
django.setup()
from gateway_project.core import failpoint, tasks
from gateway_project.wiring import demonstration, pipeline, prepare
for line in sys.stdin:
    code, armed = json.loads(line)
    pid = os.fork()
    if pid == 0:
        failpoint._ARMED = failpoint._armed(armed)
        try:
            exec(code, {"__name__": "child"})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Nursery:
    """Runs code in processes of a gateway, each a fork of one that is ready."""

    def __init__(self, gateway: Gateway) -> None:
        env = gateway.env | {"GATEWAY_DATA_DIR": f"{gateway.data}/."}  # it outlives the gateway's processes
        with (gateway.data.parent / "nursery.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", NURSERY],
                env=env,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def run(self, code: str, failpoint: str = "") -> int:
        """Ends with the process; answers its exit code, negative for a signal."""
        self.process.stdin.write(json.dumps([code, failpoint]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@dataclass
class House:
    """A gateway that has received one study, and the same again for every test."""

    gateway: Gateway
    nursery: Nursery
    template: Path
    files: Path

    def reset(self) -> None:
        shutil.rmtree(self.gateway.data)
        shutil.copytree(self.template, self.gateway.data, symlinks=True)

    def start_vault(self, failpoint: str = "") -> subprocess.Popen[bytes]:
        vault = str(self.gateway.data / "vault")
        arguments = ["--directory", vault, "--vault-id", "gateway-01-demonstration", "--demonstration"]
        port = str(self.gateway.vault_port)
        extra = {"GATEWAY_FAILPOINT": failpoint}
        process = self.gateway.start("-m", "uploads.vault", "serve", *arguments, "--port", port, **extra)
        wait_until(lambda: listens(self.gateway.vault_port), what="the vault's port")
        return process

    def kill_vault(self) -> None:
        """Its worker has killed itself at its fail-point; whatever else it is made of goes the same way."""
        self.gateway.kill()
        self.gateway.processes.clear()
        wait_until(lambda: not listens(self.gateway.vault_port), what="the vault to be gone")

    def code(self, code: str) -> None:
        assert self.nursery.run(code) == 0, (self.gateway.data.parent / "nursery.log").read_text()[-2000:]

    def killed(self, code: str, failpoint: str) -> None:
        assert self.nursery.run(code, failpoint) == -signal.SIGKILL, "it passed its fail-point"

    def drained(self) -> None:
        self.code(f"{EXPIRE}; {DRAIN}")


@pytest.fixture(scope="session")
def session_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("crash")
    gateway = Gateway(folder / "data")
    gateway.data.mkdir(mode=0o700)
    nursery = Nursery(gateway)
    house = House(gateway, nursery, folder / "template", folder / "files")
    study_files(house.files, count=FILES)
    house.code(PREPARE)
    house.code(RECEIVE.replace("FOLDER", repr(str(house.files))))
    shutil.copytree(gateway.data, house.template, symlinks=True)
    yield house
    nursery.process.communicate(timeout=10)
    gateway.kill()


@pytest.fixture
def house(session_house: House) -> Iterator[House]:
    session_house.reset()
    yield session_house
    session_house.kill_vault()


def once_and_whole(house: House, target: Path, *, deaths: int = 1) -> None:
    """The vault holds exactly the study in one committed upload, byte for byte; the gateway knows; nothing is left."""
    gateway = house.gateway
    ((state, upload_id, receipt_id, total, done),) = gateway.rows(
        "SELECT state, upload_id, receipt_id, files_total, files_done FROM uploads_uploadjob"
    )
    assert (state, total, done) == ("done", FILES, FILES)
    assert gateway.rows("SELECT state, reason FROM studies_study") == [("uploaded", "")]
    assert gateway.value("SELECT count(*) FROM uploads_uploadpart WHERE confirmed_at IS NULL") == 0
    assert gateway.value("SELECT count(DISTINCT instance_id) FROM uploads_uploadpart") == FILES

    uploads = [path.parent for path in (gateway.data / "vault" / "uploads").glob("*/*/owner.json")]
    assert [path.name for path in uploads if (path / "commit.json").exists()] == [upload_id]
    assert len(uploads) == 1, "one upload id from the first to the last try"
    key = private_key_read(gateway.data / "demonstration-recipient" / "recipient.pem")
    opened = open_upload(gateway.data / "vault", upload_id, private_key=key, target=target)
    kept = dict(gateway.rows("SELECT sop_instance_uid, path FROM studies_instance"))
    assert opened.complete
    assert sorted(file.sop_instance_uid for file in opened.files) == sorted(map(uid_of, house.files.glob("*.dcm")))
    for file in opened.files:
        assert (target / file.path).read_bytes() == (gateway.store / kept[file.sop_instance_uid]).read_bytes()

    assert list((gateway.data / "uploads").iterdir()) == []
    audited = gateway.rows(
        "SELECT json_extract(detail, '$.receipt_id') FROM core_auditevent WHERE event = 'Data Export'"
    )
    assert audited == [(receipt_id,)], "done once"
    tries = gateway.rows("SELECT number, result, error_code FROM uploads_uploadattempt ORDER BY number")
    assert [number for number, _result, _code in tries] == list(range(1, len(tries) + 1))
    assert tries[-1][1] == "done"
    assert len(tries) <= deaths + 1
    assert all((result, code) != ("running", "") for _number, result, code in tries)


def settled(house: House) -> None:
    house.code(SETTLE)
    assert house.gateway.value("SELECT count(*) FROM uploads_uploadjob") == 1


def worker_round(house: House, target: Path, failpoint: str, *, passes: int) -> None:
    house.start_vault()
    settled(house)
    house.killed(DRAIN, f"{failpoint}:{passes}")
    house.drained()
    once_and_whole(house, target)


def vault_round(house: House, target: Path, failpoint: str, *, passes: int) -> None:
    house.start_vault(f"{failpoint}:{passes}")
    settled(house)
    house.code(DRAIN)
    house.kill_vault()
    ((state, attempts, code),) = house.gateway.rows("SELECT state, attempts, error_code FROM uploads_uploadjob")
    assert (state, attempts) == ("ready", 0), "a fault of the lane costs no attempt"
    assert code in ("connection-lost", "connection-refused", "unreachable", "timeout")
    house.start_vault()
    house.code(LANE_OPENED_AGAIN)
    house.drained()
    once_and_whole(house, target)


@pytest.mark.parametrize("failpoint", DISPATCH_POINTS)
def test_killed_while_settling_the_study_is_uploaded_once(house: House, tmp_path: Path, failpoint: str) -> None:
    house.start_vault()
    house.killed(SETTLE, failpoint)
    settled(house)
    assert house.gateway.rows("SELECT number, state FROM studies_studyrevision") == [(1, "dispatched")]
    house.drained()
    once_and_whole(house, tmp_path / "opened")


@pytest.mark.parametrize("failpoint", UPLOAD_POINTS)
def test_killed_worker_leaves_nothing_undone_or_done_twice(house: House, tmp_path: Path, failpoint: str) -> None:
    worker_round(house, tmp_path / "opened", failpoint, passes=1)


LATER = [
    ("upload.sealed", 2),
    ("upload.durable", 3),
    ("upload.staged", 2),
    ("upload.sent", 3),
    ("upload.staged", PASSES),
    ("upload.sent", PASSES),
]


@pytest.mark.parametrize(("failpoint", "passes"), LATER)
def test_killed_worker_later_on_its_way(house: House, tmp_path: Path, failpoint: str, passes: int) -> None:
    worker_round(house, tmp_path / "opened", failpoint, passes=passes)


@pytest.mark.parametrize("failpoint", VAULT_POINTS)
def test_killed_vault_keeps_what_it_confirmed_and_takes_the_rest(house: House, tmp_path: Path, failpoint: str) -> None:
    vault_round(house, tmp_path / "opened", failpoint, passes=min(2, VAULT_POINTS[failpoint]))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("number", range(500))
def test_random_deaths_one_after_the_other(house: House, tmp_path: Path, number: int) -> None:
    """Up to two deaths of the worker (a third one parks the job, by design) and some of the vault."""
    chance = random.Random(number)
    worker_deaths = 0
    settled(house)
    deaths = chance.randint(1, 4)
    for _death in range(deaths):
        if worker_deaths < 2 and chance.random() < 0.5:
            house.start_vault()
            point = chance.choice(list(UPLOAD_POINTS))
            ended = house.nursery.run(DRAIN, f"{point}:{chance.randint(1, UPLOAD_POINTS[point])}")
            worker_deaths += ended == -signal.SIGKILL
        else:
            point = chance.choice(list(VAULT_POINTS))
            house.start_vault(f"{point}:{chance.randint(1, VAULT_POINTS[point])}")
            house.code(DRAIN)
        house.kill_vault()
        house.code(EXPIRE)
        house.code(LANE_OPENED_AGAIN)
    house.start_vault()
    house.drained()
    once_and_whole(house, tmp_path / "opened", deaths=deaths)
