"""A real Orthanc with its DICOMweb plug-in on a port of its own: started, killed, started again, asked."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

import requests

PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
START_SECONDS = 30


def free_port() -> int:
    """Below the ports that the kernel gives out by itself, so that nobody takes it while Orthanc is down."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Orthanc:
    """Its index and objects lie in `folder` and outlive a restart."""

    def __init__(self, folder: Path, *, user: str = "", password: str = "", overwrite: bool = True) -> None:
        self.port = free_port()
        self.auth = (user, password) if user else None
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._settings = folder / "orthanc.json"
        self._settings.write_text(
            json.dumps(
                {
                    "StorageDirectory": str(folder / "db"),
                    "IndexDirectory": str(folder / "db"),
                    "HttpPort": self.port,
                    "DicomServerEnabled": False,
                    "RemoteAccessAllowed": False,
                    "OverwriteInstances": overwrite,
                    "AuthenticationEnabled": bool(user),
                    "RegisteredUsers": {user: password} if user else {},
                    "Plugins": [PLUGIN],
                    "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
                }
            )
        )

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def start(self) -> "Orthanc":
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [shutil.which("Orthanc") or "Orthanc", str(self._settings)],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
            )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if self.get("/system").status_code == 200:
                    return self
            except requests.ConnectionError:
                time.sleep(0.05)
        raise RuntimeError(f"Orthanc does not answer: {(self._folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", auth=self.auth, headers=headers, timeout=10)

    def instances(self) -> dict[str, bytes]:
        """Every stored file, by SOP Instance UID."""
        found = {}
        for identifier in self.get("/instances").json():
            uid = self.get(f"/instances/{identifier}/simplified-tags").json()["SOPInstanceUID"]
            found[uid] = self.get(f"/instances/{identifier}/file").content
        return found
