"""The judges that come from npm, at the versions of package-lock.json."""

import shutil
from pathlib import Path

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
INSTALLED = MODULES / ".package-lock.json"
"""Which npm writes when all else is in place."""


def npm_missing(package: str) -> str:
    """What this machine lacks for that judge; empty when it can judge."""
    if shutil.which("node") is None:
        return "node"
    return "" if INSTALLED.exists() and (MODULES / package / "package.json").exists() else package
