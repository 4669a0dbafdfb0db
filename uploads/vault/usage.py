"""How much each gateway has stored: exact after any crash, and cheap for each file.

    usage/totals.json       octets of each gateway's closed uploads, durable; rewritten once for each upload
    usage/open/<upload id>  an upload that is not in the totals yet; made before anything of it is stored
    usage/live.json         totals, open uploads and bodies on their way in; not durable, made anew at every start

A crash between two steps leaves the mark of its upload in `open`, so a start has to look at those uploads alone and
never at the whole archive. `counted` in the totals names marks whose upload is in them already. Only a directory
without totals is read through, once.
"""

import contextlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from gateway_project.core.failpoint import failpoint
from uploads.vault.durable import directory_lock, directory_sync, file_write, record_read, record_write
from uploads.vault.errors import VaultStoreError
from uploads.vault.layout import COMMIT_FILE, REMOVED_FILE, stored_files, upload_directory, upload_ids, upload_owner
from uploads.vault.registry import USAGE_DIRECTORY

_PAD_BYTES = 4096


@dataclass(frozen=True)
class Quota:
    """What may be stored, in octets, in the whole vault and of the gateway that asks; None is no bound."""

    vault_bytes: int | None = None
    gateway_bytes: int | None = None


@dataclass
class _Totals:
    octets: Counter[str] = field(default_factory=Counter)
    counted: list[str] = field(default_factory=list)


class Usage:
    """The count of one vault directory. Safe for many threads and processes; every method may be repeated."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._folder = directory / USAGE_DIRECTORY
        self._open = self._folder / "open"
        self._totals_path = self._folder / "totals.json"
        self._live_path = self._folder / "live.json"

    def prepare(self) -> None:
        """After return live.json says what is stored; to be called while nobody stores."""
        with directory_lock(self._folder):
            self._rebuild()

    def reserve(self, gateway_id: str, size_bytes: int, *, quota: Quota) -> None:
        """Counts a file before its body is read; `store-full` when it does not fit. `release` takes it back."""
        with directory_lock(self._folder):
            live = self._live()
            own, everybody = live[gateway_id], sum(live.values())
            for used, limit in ((own, quota.gateway_bytes), (everybody, quota.vault_bytes)):
                if limit is not None and used + size_bytes > limit:
                    raise VaultStoreError("store-full")
            live[gateway_id] += size_bytes
            self._live_write(live)

    def release(self, gateway_id: str, size_bytes: int) -> None:
        """The file was not stored after all, or is gone."""
        with directory_lock(self._folder):
            live = self._live()
            live[gateway_id] = max(0, live[gateway_id] - size_bytes)
            self._live_write(live)

    def stored(self) -> dict[str, int]:
        """Octets by gateway, with what is on its way in."""
        with directory_lock(self._folder):
            return dict(self._live())

    def uploads_open(self) -> list[str]:
        """The ids of uploads that are not in the totals yet, or are being removed."""
        return sorted(path.name for path in self._open.iterdir())

    def upload_opened(self, upload_id: str) -> None:
        """After return a crash cannot make us forget to count this upload."""
        mark = self._open / upload_id
        mark.touch(mode=0o600)
        directory_sync(self._open)

    def upload_closed(self, upload_id: str, gateway_id: str, size_bytes: int) -> None:
        """The upload never changes again: its octets go into the durable totals, once however often this is called."""
        with directory_lock(self._folder):
            mark = self._open / upload_id
            if not mark.exists():
                return
            totals = self._totals_pruned()
            if upload_id not in totals.counted:
                totals.octets[gateway_id] += size_bytes
                totals.counted.append(upload_id)
                self._totals_write(totals)
                failpoint("vault.counted")
            mark.unlink(missing_ok=True)  # made durable by whoever next takes its id out of `counted`

    def removal_begun(self, upload_id: str) -> None:
        """After return the upload is marked again, so that a crash within its removal is found at the next start."""
        with directory_lock(self._folder):
            totals = self._totals_pruned()
            if not (self._open / upload_id).exists() and upload_id not in totals.counted:
                totals.counted.append(upload_id)
                self._totals_write(totals)
            self.upload_opened(upload_id)

    def removal_ended(self, upload_id: str, gateway_id: str, size_bytes: int) -> None:
        """The upload's files are gone, and it counts no more."""
        with directory_lock(self._folder):
            mark = self._open / upload_id
            if not mark.exists():
                return
            totals = self._totals_pruned()
            if upload_id in totals.counted:
                totals.counted.remove(upload_id)
                totals.octets[gateway_id] = max(0, totals.octets[gateway_id] - size_bytes)
                self._totals_write(totals)
            mark.unlink(missing_ok=True)
            live = self._live()
            live[gateway_id] = max(0, live[gateway_id] - size_bytes)
            self._live_write(live)

    def _rebuild(self) -> Counter[str]:
        totals = self._totals_read() or self._totals_made()
        live = Counter(totals.octets)
        for upload_id in self.uploads_open():
            upload = upload_directory(self._directory, upload_id)
            gateway_id = upload_owner(upload)
            if gateway_id is not None:  # else killed before anything was stored
                live[gateway_id] += self._open_counted(totals, upload, gateway_id)
        self._live_write(live)
        return live

    def _open_counted(self, totals: _Totals, upload: Path, gateway_id: str) -> int:
        """Returns what a marked upload adds to the totals, and puts one that was closed into them."""
        upload_id = upload.name
        removed = record_read(upload / REMOVED_FILE)
        if removed is not None:  # until its removal has ended, as large as it was
            return 0 if upload_id in totals.counted else int(str(removed["size_bytes"]))
        size_bytes = sum(file.size_bytes for file in stored_files(upload))
        if not (upload / COMMIT_FILE).exists():
            return size_bytes
        known = upload_id in totals.counted
        if not known:
            totals.octets[gateway_id] += size_bytes
            totals.counted.append(upload_id)
            self._totals_write(totals)
        (self._open / upload_id).unlink(missing_ok=True)
        return 0 if known else size_bytes

    def _totals_made(self) -> _Totals:
        """Reads the whole archive through: a directory from before there were totals, or one that lost them."""
        totals = _Totals()
        for upload_id in upload_ids(self._directory):
            upload = upload_directory(self._directory, upload_id)
            gateway_id = upload_owner(upload)
            if gateway_id is None:
                continue
            if (upload / COMMIT_FILE).exists():
                totals.octets[gateway_id] += sum(file.size_bytes for file in stored_files(upload))
                totals.counted += [upload_id] if (self._open / upload_id).exists() else []
            else:
                (self._open / upload_id).touch(mode=0o600)
        directory_sync(self._open)
        self._totals_write(totals)
        return totals

    def _totals_read(self) -> _Totals | None:
        record = record_read(self._totals_path)
        if record is None:
            return None
        octets, counted = record.get("octets"), record.get("counted")
        if not isinstance(octets, dict) or not isinstance(counted, list):
            raise VaultStoreError("record-invalid")
        return _Totals(Counter({str(name): int(value) for name, value in octets.items()}), list(map(str, counted)))

    def _totals_pruned(self) -> _Totals:
        """The totals without the ids whose mark is durably gone."""
        totals = self._totals_read() or self._totals_made()
        directory_sync(self._open)
        totals.counted = [each for each in totals.counted if (self._open / each).exists()]
        return totals

    def _totals_write(self, totals: _Totals) -> None:
        record_write(self._totals_path, {"version": 1, "octets": dict(totals.octets), "counted": totals.counted})

    def _live(self) -> Counter[str]:
        with contextlib.suppress(FileNotFoundError, ValueError):
            content = self._live_path.read_bytes()
            return Counter(json.loads(content))
        return self._rebuild()

    def _live_write(self, live: Counter[str]) -> None:
        """In place and in one write of whole blocks, so that a killed process leaves the old or the new."""
        content = json.dumps(live).encode()
        padded = content.ljust(-(-len(content) // _PAD_BYTES) * _PAD_BYTES)
        try:
            descriptor = os.open(self._live_path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            file_write(self._live_path, padded)
            return
        try:
            os.pwrite(descriptor, padded, 0)
        finally:
            os.close(descriptor)
