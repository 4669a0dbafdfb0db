"""The gate's Django part: deployment checks on production settings, and no model change without its migration.

Run by `make check` as `python -m gateway_project.checks`; ends with 1 at the first that fails.
"""

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
COMMANDS = (
    ("check", "--deploy", "--fail-level", "WARNING"),
    ("makemigrations", "--check", "--dry-run"),
)


def production_environment(data_dir: str) -> dict[str, str]:
    """What a gateway behind TLS is started with; nothing of the developer's own settings leaks in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "DJANGO_"))}
    return kept | {
        "GATEWAY_DATA_DIR": data_dir,
        "GATEWAY_SECRET_KEY": secrets.token_urlsafe(64),
        "GATEWAY_WEB__HTTPS": "true",
        "GATEWAY_WEB__ALLOWED_HOSTS": "gateway.hospital.example",
        "GATEWAY_WEB__TRUSTED_PROXIES": "127.0.0.1",
    }


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="gateway-check-") as data_dir:
        for command in COMMANDS:
            done = subprocess.run(
                [sys.executable, str(BASE_DIR / "manage.py"), *command],
                env=production_environment(data_dir),
                check=False,
            )
            if done.returncode != 0:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
