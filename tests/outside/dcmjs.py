"""dcmjs-dimse's sender: a DICOM implementation of another house, in another language."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.outside.npm import HERE

PACKAGE = "dcmjs-dimse"
PROGRAM = HERE / "dcmjs_send.cjs"


@dataclass
class Sent:
    """What the sender told: the status of each C-ECHO and of each answered file, how each association ended."""

    echoes: list[int] = field(default_factory=list)
    statuses: dict[Path, int] = field(default_factory=dict)
    associations: list[str] = field(default_factory=list)


def dcmjs_start(
    port: int, *files: Path, calling: str = "DCMJS", associations: int = 1, **extra: str
) -> subprocess.Popen:
    """Starts a sender; `extra` are more of the program's options, such as `cut="abort"`."""
    options = {"port": str(port), "calling": calling, "associations": str(associations)} | extra
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return subprocess.Popen(
        ["node", str(PROGRAM), *words, *map(str, files)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def dcmjs_ended(sender: subprocess.Popen, *, seconds: float = 60) -> Sent:
    """Waits for the sender; fails when it failed itself, whatever it was answered."""
    output, errors = sender.communicate(timeout=seconds)
    assert sender.returncode == 0, errors[-2000:]
    return dcmjs_told(output)


def dcmjs_told(output: str) -> Sent:
    sent = Sent()
    for line in output.splitlines():
        event = json.loads(line)
        if "echo" in event:
            sent.echoes.append(event["echo"])
        elif "file" in event:
            sent.statuses[Path(event["file"])] = event["status"]
        else:
            sent.associations.append(event["association"])
    return sent
