"""The admin's study list with what only the pipeline can do: settle now, retry; and the accounts."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from gateway_project.core.admin_site import rows_link, site
from gateway_project.core.roles import actor_of
from gateway_project.wiring import (
    account_admin,  # noqa: F401 - registers accounts
    pipeline,
)
from gateway_project.wiring.words import count_words
from studies.admin import StudyAdmin
from studies.models import Study
from uploads.admin import UploadJobAdmin
from uploads.models import UploadJob


class StudyPipelineAdmin(StudyAdmin):
    """Takes the place of the studies' own admin, which cannot know the pipeline above it."""

    actions = ("settle_now", "retry")

    @admin.display(description="its uploads")
    def uploads(self, study: Study) -> SafeString:
        return rows_link(UploadJob, "uploads", revision__study__id__exact=study.pk)

    def get_readonly_fields(self, request: HttpRequest, obj: Study | None = None) -> tuple[str, ...]:
        return (*super().get_readonly_fields(request, obj), "uploads")

    @admin.action(description="Settle now: do not wait for the quiet time", permissions=["act"])
    def settle_now(self, request: HttpRequest, queryset: QuerySet[Study]) -> None:
        actor = actor_of(request.user)
        settled = sum(pipeline.settle_now(study.pk, actor=actor) is not None for study in queryset)
        self.message_user(request, f"{count_words(settled, 'study', 'studies')} settled.", messages.SUCCESS)

    @admin.action(description="Retry: try failed uploads at once", permissions=["act"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Study]) -> None:
        actor = actor_of(request.user)
        retried = sum(pipeline.retry(study.pk, actor=actor) for study in queryset)
        self.message_user(request, f"{count_words(retried, 'upload is', 'uploads are')} tried again.", messages.SUCCESS)


class UploadJobPipelineAdmin(UploadJobAdmin):
    """Takes the place of the uploads' own: a job is tried again with its study, whose state follows."""

    actions = ("retry",)

    @admin.action(description="Retry: try failed uploads at once", permissions=["act"])
    def retry(self, request: HttpRequest, queryset: QuerySet[UploadJob]) -> None:
        actor = actor_of(request.user)
        studies = sorted(set(queryset.values_list("revision__study_id", flat=True)))
        retried = sum(pipeline.retry(study, actor=actor) for study in studies)
        self.message_user(request, f"{count_words(retried, 'upload is', 'uploads are')} tried again.", messages.SUCCESS)


for model, kind in ((Study, StudyPipelineAdmin), (UploadJob, UploadJobPipelineAdmin)):
    site.unregister(model)
    site.register(model, kind)
