"""The gateway as a whole: alive, how it does, and what it runs on."""

import os
import platform
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import django
import psutil
from django.db import connection
from django.utils.timezone import now
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_project import __version__
from gateway_project.core.options import option
from gateway_project.core.selectors import alerts_open, lane_state, workers_running
from gateway_project.wiring.api.access import ACTING, PROGRAMS_SEEING, TokenAuthentication
from gateway_project.wiring.api.contract import ApiView, Problem, operation
from gateway_project.wiring.api.fields import Answer, Moment
from gateway_project.wiring.problems import PROBLEM_TYPE
from gateway_project.wiring.status import STARTED_AT, HealthView, banner, instance_id
from network.selectors import associations_live, local_aes_enabled
from studies.listing import study_totals
from studies.models import StudyState
from studies.options import GB
from studies.selectors import store_root
from uploads.selectors import vaults_enabled

TAG = "System"


class HealthAnswer(Answer):
    status = serializers.ChoiceField([("ok", "ok"), ("database-unavailable", "the database does not answer")])
    instance_id = serializers.CharField()
    startup_time = serializers.DateTimeField()
    utc_now = serializers.DateTimeField()


class ApiHealthView(HealthView):
    """The same as /health."""

    authentication_classes = [TokenAuthentication, SessionAuthentication]
    http_method_names = ["get", "head"]

    @extend_schema(
        summary="Is it alive",
        description="Anonymous from the gateway's own machine; from elsewhere any token or account.",
        tags=[TAG],
        auth=[{}, {"token": []}],  # type: ignore[list-item]
        responses={
            (200, "application/json"): HealthAnswer,
            (503, "application/json"): OpenApiResponse(HealthAnswer, "The database does not answer."),
            (401, PROBLEM_TYPE): OpenApiResponse(Problem, "From elsewhere, without an accepted token or session."),
            (429, PROBLEM_TYPE): OpenApiResponse(Problem, "Too many tokens were refused."),
        },
    )
    def get(self, request: Request) -> Response:
        return super().get(request)


# -- status ------------------------------------------------------------------------------------------------------------


class EndpointAnswer(Answer):
    name = serializers.CharField()
    ae_title = serializers.CharField()
    host = serializers.CharField()
    port = serializers.IntegerField()
    tls = serializers.BooleanField()


class DicomAnswer(Answer):
    listening = serializers.BooleanField(help_text="The listener answers.")
    connections = serializers.IntegerField(help_text="Open now.")
    endpoints = EndpointAnswer(many=True)


class VaultReadyAnswer(Answer):
    name = serializers.CharField()
    ready = serializers.BooleanField(help_text="Nothing holds its lane up.")
    lane_state = serializers.CharField()
    required = serializers.BooleanField()  # type: ignore[assignment]
    demonstration = serializers.BooleanField()


class StorageAnswer(Answer):
    total_bytes = serializers.IntegerField(allow_null=True)
    free_bytes = serializers.IntegerField(allow_null=True, help_text="null: the store's disk cannot be read.")
    low = serializers.BooleanField(help_text="Less than STORAGE.LOW_SPACE_GB is free.")
    stopped = serializers.BooleanField(help_text="Less than STORAGE.STOP_SPACE_GB is free: objects are refused.")


class WorkersAnswer(Answer):
    running = serializers.BooleanField(help_text="Settling, uploads and clean-up have somebody who does them.")
    upload_enabled = serializers.BooleanField(help_text="UPLOAD.ENABLED.")


class StudyTotalAnswer(Answer):
    state = serializers.ChoiceField(StudyState.choices)
    count = serializers.IntegerField()
    total_size_bytes = serializers.IntegerField()


class AlertCountAnswer(Answer):
    open = serializers.IntegerField()
    unacknowledged = serializers.IntegerField()


class StatusAnswer(Answer):
    instance_id = serializers.CharField()
    version = serializers.CharField()
    startup_time = serializers.DateTimeField()
    utc_now = Moment()
    dicom = DicomAnswer()
    vaults = VaultReadyAnswer(many=True)
    storage = StorageAnswer()
    workers = WorkersAnswer()
    studies = StudyTotalAnswer(many=True)
    alerts = AlertCountAnswer()
    restart_pending = serializers.ListField(child=serializers.CharField(), help_text="Options that wait for a restart.")


class StatusView(ApiView):
    @operation("How it does", tag=TAG, roles=PROGRAMS_SEEING, answer=StatusAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """Listener, vaults, disk, workers, studies by state with their bytes, open alerts."""
        moment, live, shown = now(), associations_live(), banner()
        return {
            "instance_id": instance_id(),
            "version": __version__,
            "startup_time": datetime.fromisoformat(STARTED_AT),
            "utc_now": moment,
            "dicom": {
                "listening": live.running,
                "connections": len(live.associations),
                "endpoints": local_aes_enabled(),
            },
            "vaults": [_vault(vault, moment) for vault in vaults_enabled().order_by("name")],
            "storage": _storage(),
            "workers": {"running": workers_running(moment), "upload_enabled": option("UPLOAD.ENABLED")},
            "studies": study_totals(),
            "alerts": {
                "open": shown.alerts,
                "unacknowledged": alerts_open().filter(acknowledged_at__isnull=True).count(),
            },
            "restart_pending": shown.restart,
        }


def _vault(vault: Any, moment: datetime) -> dict[str, Any]:
    state = lane_state(vault.lane, moment)
    told = {"name": vault.name, "required": vault.required, "demonstration": vault.demonstration}
    return told | {"ready": state == "flowing", "lane_state": state}


def _storage() -> dict[str, Any]:
    try:
        usage = shutil.disk_usage(_existing(store_root()))
    except OSError:
        return {"total_bytes": None, "free_bytes": None, "low": True, "stopped": True}
    return {
        "total_bytes": usage.total,
        "free_bytes": usage.free,
        "low": usage.free < option("STORAGE.LOW_SPACE_GB") * GB,
        "stopped": usage.free < option("STORAGE.STOP_SPACE_GB") * GB,
    }


def _existing(path: Path) -> Path:
    """Before the first object the store's directory is not there, its disk is."""
    return path if path.exists() or path == path.parent else _existing(path.parent)


# -- diagnostics -------------------------------------------------------------------------------------------------------


class DiagnosticsAnswer(Answer):
    operating_system = serializers.CharField()
    architecture = serializers.CharField()
    machine_name = serializers.CharField()
    processor_count = serializers.IntegerField()
    python_version = serializers.CharField()
    django_version = serializers.CharField()
    database = serializers.CharField(help_text="sqlite or postgresql, and its version.")
    process_id = serializers.IntegerField(help_text="Of the process that answers; the web has several.")
    working_set_mb = serializers.FloatField()
    gateway_version = serializers.CharField()
    instance_id = serializers.CharField()
    startup_time = serializers.DateTimeField()
    uptime_seconds = serializers.FloatField()


class DiagnosticsView(ApiView):
    @operation("What it runs on", tag=TAG, roles=ACTING, answer=DiagnosticsAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """For a report to whoever supports the gateway."""
        started = datetime.fromisoformat(STARTED_AT)
        return {
            "operating_system": f"{platform.system()} {platform.release()}",
            "architecture": platform.machine(),
            "machine_name": platform.node(),
            "processor_count": os.cpu_count() or 1,
            "python_version": platform.python_version(),
            "django_version": django.get_version(),
            "database": _database(),
            "process_id": os.getpid(),
            "working_set_mb": round(psutil.Process().memory_info().rss / 1e6, 1),
            "gateway_version": __version__,
            "instance_id": instance_id(),
            "startup_time": started,
            "uptime_seconds": round((now() - started).total_seconds(), 1),
        }


def _database() -> str:
    version = ".".join(str(part) for part in connection.get_database_version())
    return f"{connection.vendor} {version}"
