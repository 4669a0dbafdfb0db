"""W04, W15, W16, W18: hostile HTTP from a raw socket against the real web processes, while honest people are served."""

import contextlib
import re
import select
import socket
import time

import psutil
import pytest

from gateway_project.web_worker import GuardedWorker
from gateway_project.wiring.supervision import supervisor_config
from tests.faults.short_web_worker import ShortWorker
from tests.gateway_harness import Gateway, listens, wait_until

pytestmark = pytest.mark.timeout(120)
ADMINISTRATOR = (
    "from gateway_project.wiring.setup import administrator_create;"
    "administrator_create(username='first', password='correct horse 17 battery')"
)
WEB = (
    "-m", "gunicorn", "gateway_project.wsgi:application", "-k", "tests.faults.short_web_worker.ShortWorker", "-w", "1",
    "--threads", "4", "--no-control-socket", "--limit-request-line", "4094", "--limit-request-fields", "60",
    "--forwarded-allow-ips=", "--log-level", "warning",
)  # fmt: skip


@pytest.fixture(scope="module")
def web(shared_gateway: Gateway) -> tuple[Gateway, psutil.Process]:
    """One web worker with four threads and the deadlines of short_web_worker: the same one withstands all of these."""
    gateway = shared_gateway
    gateway.code(ADMINISTRATOR)
    process = gateway.start(*WEB, "--bind", f"127.0.0.1:{gateway.web_port}")
    wait_until(lambda: listens(gateway.web_port), what="the web's port")
    wait_until(lambda: b"200 OK" in ask(gateway, b"GET /health HTTP/1.1\r\n"), what="an answer")
    return gateway, psutil.Process(process.pid)


def connect(gateway: Gateway, *, seconds: float = 20) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.web_port), timeout=seconds)


def read_all(sock: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while block := sock.recv(65536):
            got += block
    return got


def ask(gateway: Gateway, head: bytes, *, host: bytes = b"localhost", body: bytes = b"") -> bytes:
    with connect(gateway) as sock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(head + b"Host: " + host + b"\r\nConnection: close\r\n\r\n" + body)
        return read_all(sock)
    return b""


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


def healthy(gateway: Gateway) -> bool:
    return b'"status": "ok"' in ask(gateway, b"GET /health HTTP/1.1\r\n") or b'"status":"ok"' in ask(
        gateway, b"GET /health HTTP/1.1\r\n"
    )


def memory(process: psutil.Process) -> int:
    return max(child.memory_info().rss for child in process.children(recursive=True))


def test_w18_silent_and_slow_peers_take_no_thread_from_others(web) -> None:
    """More of each kind than there are threads; an honest request is answered at once, and the slow ones end."""
    gateway, _process = web
    silent = [connect(gateway) for _ in range(40)]
    slow_heads = [connect(gateway) for _ in range(12)]
    for sock in slow_heads:
        sock.sendall(b"GET /login/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    slow_bodies = [connect(gateway) for _ in range(12)]
    for sock in slow_bodies:
        sock.sendall(
            b"POST /login/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 100000\r\n\r\nusername="
        )
    assert healthy(gateway)
    give_up_at = time.monotonic() + 60
    open_ones = [*silent, *slow_heads, *slow_bodies]
    for sock in open_ones:
        sock.setblocking(False)
    while open_ones and time.monotonic() < give_up_at:
        for sock in list(open_ones):
            try:
                if sock in slow_heads or sock in slow_bodies:
                    sock.send(b"x")  # a byte now and then buys no time
                if not sock.recv(4096):
                    open_ones.remove(sock)
            except BlockingIOError:
                continue
            except OSError:
                open_ones.remove(sock)
        select_wait(open_ones)
    assert open_ones == []
    assert healthy(gateway)


def select_wait(sockets: list[socket.socket]) -> None:
    if sockets:
        select.select(sockets, [], [], 0.2)


def test_w16_lengths_that_lie_are_refused_by_the_head(web) -> None:
    gateway, process = web
    before = memory(process)
    form = b"Content-Type: application/x-www-form-urlencoded\r\n"
    head = b"POST /login/ HTTP/1.1\r\n" + form
    # with the form's token, or it would be refused for the lack of it before its length matters
    page = ask(gateway, b"GET /login/ HTTP/1.1\r\n")
    token = re.search(rb"gateway_csrf=([A-Za-z0-9]+)", page)[1]
    head += b"Cookie: gateway_csrf=" + token + b"\r\nX-CSRFToken: " + token + b"\r\n"
    assert status(ask(gateway, head + b"Content-Length: 4294967296\r\n", body=b"username=x")) == 413
    for wrong in (b"-1", b"abc", b"1e9", b"5, 6", b"0x10"):
        assert status(ask(gateway, head + b"Content-Length: " + wrong + b"\r\n", body=b"user=")) == 400, wrong
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    assert status(ask(gateway, head + both, body=b"0\r\n\r\n")) == 400
    assert status(ask(gateway, head, body=b"username=x")) == 200  # no length: no body, so no name
    many = b"&".join(b"a%d=1" % n for n in range(600))
    assert status(ask(gateway, head + b"Content-Length: %d\r\n" % len(many), body=many)) == 413
    assert memory(process) - before < 60_000_000
    assert healthy(gateway)


def test_w16_a_chunked_body_without_end_is_not_gathered(web) -> None:
    gateway, process = web
    before = memory(process)
    head = b"POST /login/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with connect(gateway) as sock:
        sent = 0
        with contextlib.suppress(OSError):
            sock.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            while sent < 64_000_000:
                sock.sendall(b"10000\r\n" + b"a" * 65536 + b"\r\n")
                sent += 65536
    assert memory(process) - before < 60_000_000
    assert healthy(gateway)


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n", {400, 414}),
        (b"GET /login/ HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(200)), {400, 431}),
        (b"GET /login/ HTTP/1.1\r\nX-Long: " + b"a" * 20000 + b"\r\n", {400, 431}),
        (b"GET /login/ HTTP/1.1\r\nX-Bad\x00: 1\r\n", {400}),
        (b"GET /login/ HTTP/9.9\r\n", {400, 505}),
        (b"TRACE /login/ HTTP/1.1\r\nX-Secret: MARKED\r\n", {405}),
        (b"OPTIONS /login/ HTTP/1.1\r\n", {405}),
        (b"OPTIONS * HTTP/1.1\r\n", {400, 404, 405}),
        (b"CONNECT example.org:443 HTTP/1.1\r\n", {400, 404, 405}),
        (b"GET http://evil.example/login/ HTTP/1.1\r\n", {200, 302, 400, 404}),
        (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n", {404}),
        (b"GET /static/../../manage.py HTTP/1.1\r\n", {400, 404}),
        (b"GET /static/%2e%2e/%2e%2e/manage.py HTTP/1.1\r\n", {400, 404}),
        (b"GET /login/%0d%0aSet-Cookie:%20x=1 HTTP/1.1\r\n", {404}),
        (b"GET /login/?next=%0d%0aSet-Cookie:%20x=1 HTTP/1.1\r\n", {200}),
    ],
)
def test_w04_strange_heads_are_refused_and_say_nothing_back(web, head: bytes, wanted: set[int]) -> None:
    gateway, _process = web
    answer = ask(gateway, head)
    assert status(answer) in wanted, answer[:200]
    assert b"\r\nSet-Cookie: x=1" not in answer
    assert b"MARKED" not in answer
    assert b"root:" not in answer
    assert b"DJANGO_SETTINGS_MODULE" not in answer
    assert healthy(gateway)


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Forwarded-Proto: https\r\nX-Forwarded-For: 127.0.0.1\r\n",
        b"X-Forwarded-Host: evil.example\r\n",
        b"Forwarded: for=127.0.0.1;host=evil.example;proto=https\r\n",
        b"X_Forwarded_For: 127.0.0.1\r\n",
        b"X-Real-IP: 127.0.0.1\r\n",
    ],
)
def test_w15_forwarding_headers_of_strangers_change_nothing(web, headers: bytes) -> None:
    gateway, _process = web
    answer = ask(gateway, b"GET /studies/ HTTP/1.1\r\n" + headers)
    assert status(answer) == 302
    assert b"\r\nLocation: /login/?next=/studies/\r\n" in answer
    assert b"evil" not in answer


@pytest.mark.parametrize("host", [b"evil.example", b"localhost:99999", b"localhost@evil.example", b"a\tb", b""])
def test_w15_foreign_hosts_are_refused(web, host: bytes) -> None:
    gateway, _process = web
    answer = ask(gateway, b"GET /login/ HTTP/1.1\r\n", host=host)
    assert status(answer) in ({400, 200} if host == b"localhost:99999" else {400})
    assert b"evil.example" not in answer


@pytest.mark.django_db
def test_the_worker_of_the_test_is_the_one_that_runs() -> None:
    """The test's worker has shorter deadlines and nothing else of its own."""
    assert issubclass(ShortWorker, GuardedWorker)
    assert vars(ShortWorker).keys() <= {"__module__", "__doc__"}
    assert "-k gateway_project.web_worker.GuardedWorker" in supervisor_config(None)
