"""The gateway's settings on a data directory of this test process's own."""

import atexit
import os
import shutil
import tempfile

os.environ["GATEWAY_DATA_DIR"] = tempfile.mkdtemp(prefix="gateway-test-")
for name in [name for name in os.environ if name.startswith("GATEWAY_") and "__" in name]:
    del os.environ[name]
atexit.register(shutil.rmtree, os.environ["GATEWAY_DATA_DIR"], ignore_errors=True)
# `make test` runs the tests of the database once more on PostgreSQL: one server, which xdist's workers inherit.
if os.environ.get("GATEWAY_TEST_DATABASE") == "postgres":
    from tests.servers import postgres

    if "GATEWAY_TEST_POSTGRES_URL" not in os.environ:
        os.environ["GATEWAY_TEST_POSTGRES_URL"] = postgres.server_for_this_run()
    os.environ["DATABASE_URL"] = os.environ["GATEWAY_TEST_POSTGRES_URL"]
else:
    os.environ.pop("DATABASE_URL", None)
os.environ.pop("REDIS_URL", None)

from gateway_project.settings import *  # noqa: E402, F403
from gateway_project.settings import DATA_DIR, DATABASES  # noqa: E402

if "sqlite" in DATABASES["default"]["ENGINE"]:  # pragma: no branch
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
    DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL;PRAGMA synchronous=OFF;"
else:
    DATABASES["default"]["TEST"] = {"NAME": "gateway_test"}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
