"""What one PUT costs the reference vault, served as the gateway starts it: `python -m benchmarks.vault_put`.

Two kept-alive connections at once with small bodies, then one with large ones, each beside the same writes and flushes
without a vault. On a busy machine the lowest figures say more than the medians; CPU is the vault's alone.
"""

import argparse
import base64
import hashlib
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from uploads.envelope.keys import jwk_from_key, key_generate
from uploads.vault.registry import gateway_register, vault_create

TOKEN = secrets.token_urlsafe(24)
SMALL, LARGE = 8_000, 50_000_000


@contextmanager
def served(folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The port of a vault of its own, and its process."""
    directory = folder / "vault"
    vault_create(directory, vault_id="bench", demonstration=True)
    gateway_register(directory, gateway_id="gateway-01", token=TOKEN, jwk=jwk_from_key(key_generate()))
    command = [sys.executable, "-m", "uploads.vault", "serve", "--directory", str(directory), "--port", "0"]
    command += ["--vault-id", "bench", "--demonstration"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield int(line.rpartition(":")[2]), psutil.Process(process.pid)
        finally:
            process.terminate()


def put_all(port: int, bodies: list[bytes], seconds: list[float]) -> None:
    """Puts the bodies one after the other on one connection, each timed from its first octet to the answer's last."""
    upload_id = secrets.token_hex(16)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, body in enumerate(bodies):
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            head = (
                f"PUT /v1/uploads/{upload_id}/file-{number:05d}.gve HTTP/1.1\r\nHost: vault\r\n"
                f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n"
                f"Content-Digest: sha-256=:{digest}:\r\n\r\n"
            ).encode()
            began = time.perf_counter()
            connection.sendall(head + body if len(body) < LARGE else head)
            if len(body) >= LARGE:
                connection.sendall(body)
            answer = b""
            while not answer.rstrip().endswith(b"}"):
                answer += connection.recv(65536)
            seconds.append(time.perf_counter() - began)
            if not answer.startswith(b"HTTP/1.1 201 "):
                raise SystemExit(f"The vault refused: {answer!r}")


def cpu_seconds(process: psutil.Process) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in [process, *process.children()])


def measure(folder: Path, *, connections: int, count: int, size_bytes: int) -> str:
    with served(folder) as (port, process):
        seconds: list[float] = []
        bodies = [os.urandom(size_bytes) for _ in range(count)]
        put_all(port, bodies[:2], [])  # its worker has started
        cpu, began = cpu_seconds(process), time.perf_counter()
        threads = [threading.Thread(target=put_all, args=(port, bodies, seconds)) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall, cpu = time.perf_counter() - began, cpu_seconds(process) - cpu
    each = len(seconds)
    return (
        f"{connections} x {count} PUT of {size_bytes} octets: {wall / each * 1e3:.2f} ms each, answer after "
        f"{min(seconds) * 1e3:.2f} ms at best, {statistics.median(seconds) * 1e3:.2f} ms median; vault CPU "
        f"{cpu / each * 1e3:.2f} ms each; {size_bytes / min(seconds) / 1e6:.0f} MB/s at best"
    )


def bare(folder: Path, *, count: int, size_bytes: int) -> str:
    """The same file system without a vault: write, fsync, rename, link, fsync of the directory."""
    seconds, body = [], os.urandom(size_bytes)
    for number in range(count):
        began = time.perf_counter()
        part = folder / f"{number}.part"
        with part.open("wb", buffering=0) as file:
            file.write(body)
            os.fsync(file.fileno())
        part.rename(folder / f"D{number}")
        (folder / f"link-{number}").symlink_to(f"D{number}")
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        seconds.append(time.perf_counter() - began)
    return (
        f"bare disk, {size_bytes} octets: {min(seconds) * 1e3:.2f} ms, {statistics.median(seconds) * 1e3:.2f} ms median"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to store (default: a temporary folder)")
    parser.add_argument("--count", type=int, default=400)
    options = parser.parse_args()
    for name, connections, count, size in (("small", 2, options.count, SMALL), ("large", 1, 10, LARGE)):
        folder = Path(tempfile.mkdtemp(prefix=f"vault-put-{name}-", dir=options.folder))
        try:
            print(bare(folder, count=min(count, 100), size_bytes=size))
            print(measure(folder, connections=connections, count=count, size_bytes=size))
        finally:
            shutil.rmtree(folder)
    print("load", os.getloadavg())


if __name__ == "__main__":
    main()
