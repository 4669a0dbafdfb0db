"""What the commands share: what they read from files, and how they show what they have done."""

import argparse
import json
import sys
from pathlib import Path
from typing import Protocol

from uploads.vault.errors import VaultStoreError

EXIT_REFUSED = 1
EXIT_USAGE = 2


class AddCommand(Protocol):
    """Adds a command to the parser: what runs it, its help, and whether it needs a vault's directory."""

    def __call__(self, name: str, run: object, text: str, *, directory: bool = True) -> argparse.ArgumentParser: ...


def jwk_read(path: Path) -> dict[str, object]:
    """The JSON object of a key's file, `input-invalid` for anything else; what kind of key it is shows later."""
    try:
        document = json.loads(path.read_bytes()[: 64 * 1024])
    except (ValueError, RecursionError) as error:
        raise VaultStoreError("input-invalid") from error
    if not isinstance(document, dict):
        raise VaultStoreError("input-invalid")
    return document


def show(options: argparse.Namespace, document: object, lines: list[str]) -> None:
    """The result, as JSON or as lines for people."""
    for line in [json.dumps(document, indent=1)] if options.json else lines:
        out(line)


def out(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
