"""The gateway's settings on a data directory of this test process's own."""

import atexit
import os
import shutil
import tempfile

os.environ["GATEWAY_DATA_DIR"] = tempfile.mkdtemp(prefix="gateway-test-")
for name in [name for name in os.environ if name.startswith("GATEWAY_") and "__" in name]:
    del os.environ[name]
atexit.register(shutil.rmtree, os.environ["GATEWAY_DATA_DIR"], ignore_errors=True)

from gateway_project.settings import *  # noqa: E402, F403
from gateway_project.settings import DATA_DIR, DATABASES  # noqa: E402

if "sqlite" in DATABASES["default"]["ENGINE"]:  # pragma: no branch
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
    DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL;PRAGMA synchronous=OFF;"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
