"""Which kind of file system a path lies on, as the kernel's table of mounts tells."""

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
# Behind these stands another machine, or a program: locks may be refused, lost or local, a flush may lie, and a file
# may go stale under an open descriptor. fuseblk is a local disk.
_REMOTE = frozenset(
    "9p afs beegfs ceph cifs coda fuse gfs2 glusterfs gpfs lustre ncpfs "  # noqa: SIM905 - a list is to be read
    "nfs nfs4 ocfs2 orangefs smb3 smbfs virtiofs".split()
)
_ESCAPED = re.compile(r"\\([0-7]{3})")


_LOCAL_LOCKS = frozenset({"nolock", "local_lock=all", "local_lock=flock", "nobrl", "localflock", "localflocks"})


def remote_file_system(path: Path, table: str) -> str:
    """The type of the network file system (or of a program's, FUSE) that the path lies on; "" for any other.

    `table` as /proc/mounts has it. Of several mounts at one place the latest counts; the path need not exist.
    """
    kind, _options = _mount(path, table)
    return kind if kind.partition(".")[0] in _REMOTE else ""


def locks_local(path: Path, table: str) -> str:
    """The mount option by which a lock taken there is not seen by other machines; "" when none says so."""
    _kind, options = _mount(path, table)
    return next((option for option in options.split(",") if option in _LOCAL_LOCKS), "")


def _mount(path: Path, table: str) -> tuple[str, str]:
    """Type and options of the mount that the path lies on."""
    real = os.path.realpath(path)
    found, kind, options = -1, "", ""
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[1])
        if len(point) >= found and (real == point or real.startswith(point.rstrip("/") + "/")):
            found, kind, options = len(point), fields[2], (fields[3] if len(fields) > 3 else "")
    return kind, options


def mounts_read() -> str:
    """The table; empty where the kernel does not tell."""
    try:
        return MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
