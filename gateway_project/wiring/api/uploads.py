"""Uploads and their attempts; those that are under way, with rate and time left."""

from typing import Any

from django.utils.timezone import now
from rest_framework import serializers
from rest_framework.request import Request

from gateway_project.wiring.api.access import PROGRAMS_SEEING
from gateway_project.wiring.api.contract import ApiView, operation
from gateway_project.wiring.api.fields import Answer, Asked, RowAnswer, bounded
from uploads.models import UploadAttempt, UploadJob
from uploads.selectors import upload_rate
from uploads.selectors.lines import uploads_under_way

TAG = "Uploads"


class UploadsQuery(Asked):
    limit = bounded(100, 200)


class UploadAnswer(RowAnswer):
    vault = serializers.CharField(source="vault.name", read_only=True)
    revision = serializers.IntegerField(source="revision.number", read_only=True)

    class Meta:
        model = UploadJob
        fields = (
            "upload_id", "vault", "revision", "state", "attempts", "files_total", "files_done", "progress_done",
            "progress_total", "run_after", "error_code", "error_words", "created_at", "ended_at", "receipt_id",
            "receipt_at",
        )  # fmt: skip


class AttemptAnswer(RowAnswer):
    vault = serializers.CharField(source="job.vault.name", read_only=True)
    revision = serializers.IntegerField(source="job.revision.number", read_only=True)

    class Meta:
        model = UploadAttempt
        fields = (
            "vault", "revision", "number", "upload_id", "started_at", "ended_at", "result", "error_code", "error_words",
            "files_sent", "bytes_sent",
        )  # fmt: skip


class UnderWayAnswer(UploadAnswer):
    study_instance_uid = serializers.CharField(source="revision.study.study_instance_uid", read_only=True)
    bytes_per_second = serializers.FloatField(allow_null=True, help_text="null until something has been sent.")
    seconds_left = serializers.FloatField(allow_null=True)

    class Meta(UploadAnswer.Meta):
        fields = (  # type: ignore[assignment]
            *UploadAnswer.Meta.fields, "study_instance_uid", "bytes_per_second", "seconds_left", "started_at",
        )  # fmt: skip


class UnderWayListAnswer(Answer):
    uploads = UnderWayAnswer(many=True)


class UploadsView(ApiView):
    @operation("Uploads under way", tag=TAG, roles=PROGRAMS_SEEING, query=UploadsQuery, answer=UnderWayListAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """The earliest first, with bytes (`progressDone` of `progressTotal`), rate and time left."""
        jobs, moment = uploads_under_way(limit=self.asked["limit"]), now()
        for job in jobs:
            job.bytes_per_second = upload_rate(job, now=moment)  # type: ignore[attr-defined]
            left = max(job.progress_total - job.progress_done, 0)
            job.seconds_left = left / job.bytes_per_second if job.bytes_per_second else None  # type: ignore[attr-defined]
        return {"uploads": jobs}
