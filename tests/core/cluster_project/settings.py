"""A project of two clusters on a database of its own, so that processes can be killed in it."""

import sys

import pysqlite3
import pysqlite3.dbapi2

sys.modules["sqlite3"] = pysqlite3
sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2

import os  # noqa: E402
from pathlib import Path  # noqa: E402

from tests.core.cluster_project import shared, ticker  # noqa: E402

sys.modules["gateway_project.core.ticker"] = ticker
sys.modules["gateway_project.core.shared"] = shared

DIRECTORY = Path(os.environ["CLUSTER_PROJECT_DIR"])
SECRET_KEY = "only for tests"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django_q", "tests.core.cluster_project"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DIRECTORY / "db.sqlite3",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL;"},
    }
}
REDIS_URL = os.environ.get("REDIS_URL", "")
Q_CLUSTER = {
    "name": "cluster-tests",
    **({"broker_class": "gateway_project.core.redis_broker.RedisBroker"} if REDIS_URL else {"orm": "default"}),
    "workers": 1,
    "queue_limit": 1,
    "bulk": 1,
    "poll": 0.05,
    "guard_cycle": 0.5,
    "timeout": int(os.environ.get("CLUSTER_PROJECT_TIMEOUT", "600")),
    "retry": 3600,
    "ack_failures": True,
    "max_attempts": 1,
    "save_limit": -1,
    "scheduler": False,
    "recycle": int(os.environ.get("CLUSTER_PROJECT_RECYCLE", "5")),
    "ALT_CLUSTERS": {"control": {"workers": 1}, "transfer": {"workers": 2}},
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
