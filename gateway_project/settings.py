"""Django's settings: bootstrap only. What an operator changes while running is an option (core/options.py)."""

import os
from pathlib import Path
from typing import Any

import environ

from gateway_project import __version__, bootstrap
from gateway_project.core.logs import logging_config

JOURNAL_MODE = bootstrap.sqlite_engine()

os.umask(0o077)
BASE_DIR = Path(__file__).resolve().parent.parent
environ.Env.read_env(BASE_DIR / ".env")
env = environ.Env()

DATA_DIR = bootstrap.directory_private(Path(env.str("GATEWAY_DATA_DIR", str(BASE_DIR / "data"))).expanduser().resolve())
KEYS_DIR = bootstrap.keys_directory(env.str("GATEWAY_KEYS_DIR", ""))  # None: keys/ below the data directory
SECRET_KEY = env.str("GATEWAY_SECRET_KEY", "") or bootstrap.secret_key_read(KEYS_DIR or DATA_DIR / "keys")
DEBUG = False
WEB_HTTPS = env.bool("GATEWAY_WEB__HTTPS", False)  # browsers reach us over TLS: a proxy of yours, or our own port
WEB_TRUSTED_PROXIES = bootstrap.networks_read(
    env.list("GATEWAY_WEB__TRUSTED_PROXIES", default=[]), variable="GATEWAY_WEB__TRUSTED_PROXIES"
)
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *env.list("GATEWAY_WEB__ALLOWED_HOSTS", default=[])]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.admin",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_q",
    "csp",
    "gateway_project.core",
    "studies",
    "network",
    "uploads",
    "routing",
    "hl7",
    "gateway_project.wiring",
]
MIDDLEWARE = [
    "gateway_project.core.middleware.CorrelationMiddleware",
    "gateway_project.wiring.middleware.ProxyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "gateway_project.wiring.middleware.MethodMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "gateway_project.wiring.middleware.SessionSlideMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "gateway_project.wiring.middleware.SetupMiddleware",
]
ROOT_URLCONF = "gateway_project.urls"
WSGI_APPLICATION = "gateway_project.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "gateway_project.wiring.status.page_context",
            ]
        },
    }
]

DATABASES = {
    "default": bootstrap.database_settings(
        env.db_url("DATABASE_URL", f"sqlite:///{DATA_DIR / 'gateway.sqlite3'}"), journal_mode=JOURNAL_MODE
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = bootstrap.redis_url_check(env.str("REDIS_URL", ""))
CACHES = {"default": bootstrap.cache_settings(REDIS_URL, directory=DATA_DIR / "cache")}

# django-q2 is only the bell; the truth is in our job rows (docs/decisions/0002-rows-and-bell.md).
DRAIN_SECONDS = 60
TASK_SECONDS = 86_400  # one ring: a drain's minute and the job under way at its end
Q_CLUSTER: dict[str, Any] = {
    "name": "gateway",
    **bootstrap.broker_settings(REDIS_URL),
    "workers": 1,
    "queue_limit": 1,
    "bulk": 1,
    "poll": 0.2,
    "guard_cycle": 0.5,
    "timeout": TASK_SECONDS,
    "retry": TASK_SECONDS + 60,
    "ack_failures": True,
    "max_attempts": 1,
    "save_limit": -1,
    "scheduler": False,
    "catch_up": False,
    "recycle": 200,
    "max_rss": 600_000,
    "label": "Task queue",
    "ALT_CLUSTERS": {"control": {"workers": 1}, "transfer": {"workers": 2}, "notices": {"workers": 1}},
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
PASSWORD_RESET_TIMEOUT = 24 * 3600  # of the one-time links that administrators make
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "now"
LOGOUT_REDIRECT_URL = "login"
SESSION_ENGINE = "gateway_project.core.sessions"
SESSION_COOKIE_AGE = 8 * 3600  # until someone is logged in; then WEB.SESSION_HOURS
SESSION_COOKIE_NAME = "gateway_session"
CSRF_COOKIE_NAME = "gateway_csrf"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = WEB_HTTPS
CSRF_COOKIE_HTTPONLY = True
DATA_UPLOAD_MAX_MEMORY_SIZE = 262_144  # of a form, as web_worker.py gathers it; what is larger comes to DICOMweb
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500
DATA_UPLOAD_MAX_NUMBER_FILES = 10
SECURE_HSTS_SECONDS = 31_536_000 if WEB_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = WEB_HTTPS
SECURE_REFERRER_POLICY = "same-origin"  # "no-referrer" makes Chromium send Origin: null, which CSRF refuses
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "gateway_project.wiring.api.access.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "gateway_project.wiring.problems.problem_response",
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "DICOM Gateway",
    "DESCRIPTION": "Where every study is and why; settling, retrying, lanes, alerts, quarantine. "
    "Errors are problem details (RFC 9457) with a stable `code`. No patient stands in an address.",
    "VERSION": __version__,
    "TAGS": [
        {"name": name}
        for name in (
            "System",
            "Studies",
            "Uploads",
            "Connections",
            "Peers",
            "Vaults",
            "Alerts",
            "Quarantine",
            "Custody",
        )
    ],
    "PREPROCESSING_HOOKS": ["gateway_project.wiring.api.schema.only_api"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "gateway_project.wiring.api.schema.bodies_closed",
    ],
    "SCHEMA_PATH_PREFIX": "/api/",
    "OAS_VERSION": "3.1.0",
    "ENUM_NAME_OVERRIDES": {
        "StudyStateEnum": "studies.models.StudyState.choices",
        "QuarantineStateEnum": "studies.models.QuarantineState.choices",
        "JobStateEnum": "gateway_project.core.models.JobState.choices",
        "SeverityEnum": "gateway_project.core.models.Severity.choices",
        "LaneStateEnum": "gateway_project.wiring.api.vaults.LANE_STATES",
        "CommitLevelEnum": "network.models.CommitLevel.choices",
        "ProcedureStepStateEnum": "network.models.StepState.choices",
    },
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
}

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = bootstrap.time_zone_name()
FORMAT_MODULE_PATH = ["gateway_project.formats"]
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = logging_config(
    directory=DATA_DIR / "logs",
    console_level=env.str("GATEWAY_LOG__CONSOLE_LEVEL", "INFO"),
    file_level=env.str("GATEWAY_LOG__FILE_LEVEL", "INFO"),
)
