"""The process in which pixels are decoded: it owns nothing, may be killed at any time, and is replaced then.

Started by `render_pool` as `python -m studies.dicom.render_worker`. Over its one socket come a request and the
descriptor of an open file; back goes the picture or a code. It opens no file, reaches no network where the kernel lets
it give that up, writes nothing to disk, and its memory and CPU time are bounded by the kernel.
"""

import ctypes
import json
import logging
import math
import os
import resource
import socket
import struct
import sys
import warnings
from typing import Any, Final

from studies.dicom.render_errors import RenderError

HEAD: Final = struct.Struct(">II")  # bytes of the answer's JSON, bytes of the picture
LENGTH: Final = struct.Struct(">I")
READY: Final = b"R"
MAX_REQUEST: Final = 4096
IDLE_SECONDS: Final = 300
RENDERS_EACH: Final = 2000
_NICE: Final = 10
_DESCRIPTORS: Final = 64
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38


def main() -> int:
    """Arguments: the socket's descriptor, megabytes of memory, seconds of CPU for each picture."""
    descriptor, memory_mb, cpu_seconds = (int(argument) for argument in sys.argv[1:4])
    logging.disable()  # pydicom's warnings quote values of the data set
    warnings.simplefilter("ignore")
    _privileges_drop()
    from studies.dicom import render_codecs
    from studies.dicom.render import warm_up

    render_codecs.register()
    warm_up()  # what is loaded by then counts neither as a picture's memory nor as its time
    _limits_set(memory_mb)
    with socket.socket(fileno=descriptor) as connection:
        connection.sendall(READY)
        connection.settimeout(IDLE_SECONDS)
        for _ in range(RENDERS_EACH):
            if not _serve(connection, cpu_seconds):
                break
    return 0


def _privileges_drop() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.unshare(_CLONE_NEWNET) != 0:  # as root; else in a user name space of its own, if the kernel allows one
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    os.nice(_NICE)


def _limits_set(memory_mb: int) -> None:
    """So much memory beyond what the interpreter and the codecs have mapped already."""
    with open("/proc/self/statm", encoding="ascii") as stream:  # noqa: PTH123 - one number, from the kernel
        mapped = int(stream.read().split()[0]) * resource.getpagesize()
    most = mapped + memory_mb * (1 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))


def _cpu_allow(seconds: int) -> None:
    """So many seconds from now on; at the limit the kernel ends this process (SIGXCPU)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def _serve(connection: socket.socket, cpu_seconds: int) -> bool:
    """One request; False when there will be no other."""
    try:
        message, descriptors, _flags, _address = socket.recv_fds(connection, MAX_REQUEST, 1)
    except TimeoutError:
        return False
    if not message or len(descriptors) != 1:
        return False
    (length,) = LENGTH.unpack_from(message)
    while len(message) < LENGTH.size + length:
        message += connection.recv(MAX_REQUEST)
    _cpu_allow(cpu_seconds)
    go_on, answer, picture = _answer(json.loads(message[LENGTH.size :]), descriptors[0])
    head = json.dumps(answer).encode()
    connection.settimeout(None)
    connection.sendall(HEAD.pack(len(head), len(picture)) + head + picture)
    connection.settimeout(IDLE_SECONDS)
    return go_on


def _answer(asked: dict[str, Any], descriptor: int) -> tuple[bool, dict[str, Any], bytes]:
    from studies.dicom.render import render
    from studies.dicom.render_request import Request

    try:
        with open(descriptor, "rb") as stream:
            facts, picture = render(stream, Request(**asked))
    except RenderError as error:
        # after a lack of memory who knows what is left in pieces: the next one begins afresh
        return error.code != "picture-killed", {"error": error.code, "detail": error.detail}, b""
    except MemoryError:
        return False, {"error": "picture-killed", "detail": ""}, b""
    except Exception:  # noqa: BLE001 - the outermost loop: whatever a hostile object brings about is "broken"
        return True, {"error": "picture-broken", "detail": ""}, b""
    return True, {"facts": facts.as_dict()}, picture


if __name__ == "__main__":
    os._exit(main())  # at once: nothing is left to be tidied
