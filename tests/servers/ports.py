"""Ports that nobody holds now, outside the range that the kernel hands out by itself."""

import secrets
import socket


def free_port() -> int:
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
