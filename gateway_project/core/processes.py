"""What processes of ours owe each other: to stop when asked, and not to outlive their parent. Linux only, no Django."""

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_NAME_BYTES = 15
_KILL_SECONDS = 5.0

_LIBC = ctypes.CDLL(None, use_errno=True)  # opened here, because nothing should be opened between fork and exec


class StopFlag:
    """A request to stop that every forked child sees at once, and that no killed process can keep from the others.

    It is one byte in a pipe that nobody reads. Unlike `multiprocessing.Event` it has no lock, so a process that is
    SIGKILLed while it looks at the flag harms nobody. Once set it stays set. Setting it is safe in a signal handler.
    """

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._write_fd, False)

    def fileno(self) -> int:
        """A descriptor that is readable once a stop is asked, for select and its like."""
        return self._read_fd

    def set(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full of requests already
            os.write(self._write_fd, b"s")

    def is_set(self) -> bool:
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Sleeps for so many seconds or until a stop is asked; answers whether it was."""
        return bool(select.select([self._read_fd], [], [], seconds)[0])


_stop: StopFlag | None = None


def stop_on_signals() -> StopFlag:
    """From now on SIGTERM and SIGINT only ask this process, and what it forks, to stop; repeating them is harmless."""
    global _stop  # noqa: PLW0603 - signals and their handling belong to the process
    flag = StopFlag()
    _stop = flag
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: flag.set())
    return flag


def stopping() -> bool:
    """Whether this process was asked to stop; false where nothing can ask. Cheap; any thread may call it."""
    return _stop is not None and _stop.is_set()


def stop_wait(seconds: float) -> bool:
    """Sleeps for so many seconds, or less when a stop is asked; answers whether it was. For waits inside a job."""
    if _stop is None:
        time.sleep(seconds)
        return False
    return _stop.wait(seconds)


def signals_leave_to_parent() -> None:
    """SIGTERM and SIGINT no longer end this process: its parent decides, also when a whole group is signalled.

    A handler that does nothing, not SIG_IGN: programs that this process starts get the default back.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


def die_with_parent(parent_pid: int, *, number: int = signal.SIGKILL) -> None:
    """This process gets that signal when the thread that forked it ends, also if that happened before this call.

    Holds across exec, not across fork. May be called between fork and exec while the parent has one thread.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), number)


def orphans_adopt() -> None:
    """Descendants whose parent dies become our children, so that `descendants_kill` finds them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def process_name_set(name: str) -> None:
    """What `ps -o comm` and `top` show for this process: the first 15 bytes."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:_NAME_BYTES]))


def descendants_kill() -> int:
    """SIGKILLs whatever this process started, directly or not, and answers how many that were; gives up after 5 s.

    Complete only after `orphans_adopt`.
    """
    return _kill_until_none(lambda: psutil.Process().children(recursive=True))


def session_kill(session_id: int) -> int:
    """SIGKILLs every process of a session and answers how many that were; gives up after 5 s.

    Call it before the leader is reaped: until then its number cannot become another process's.
    """
    return _kill_until_none(lambda: (p for p in psutil.process_iter() if _session_of(p.pid) == session_id))


def _kill_until_none(members: Callable[[], Iterable[psutil.Process]]) -> int:
    killed: set[int] = set()
    give_up_at = time.monotonic() + _KILL_SECONDS
    while living := [p for p in members() if _lives(p)]:
        for process in living:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                killed.add(process.pid)
        if time.monotonic() > give_up_at:  # in the kernel, waiting for a disk or a server that is gone
            break
        time.sleep(0.01)
    return len(killed)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _prctl(option: int, value: "int | ctypes.Array[ctypes.c_char]") -> None:
    argument = ctypes.c_ulong(value) if isinstance(value, int) else value
    if _LIBC.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed; the gateway's workers need Linux")
