"""Studies: found, looked at, settled, retried."""

from datetime import datetime
from typing import Any

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request

from gateway_project.core.roles import actor_of
from gateway_project.wiring import pipeline
from gateway_project.wiring.api import pages
from gateway_project.wiring.api.access import PROGRAMS_ACTING, PROGRAMS_SEEING
from gateway_project.wiring.api.contract import UID, ApiView, operation
from gateway_project.wiring.api.fields import (
    Answer,
    Asked,
    Choices,
    Cursor,
    Day,
    Moment,
    Nothing,
    Parts,
    RowAnswer,
    Since,
    Text,
    bounded,
)
from gateway_project.wiring.api.uploads import AttemptAnswer, UploadAnswer
from gateway_project.wiring.problems import Refused
from network.models import ProcedureStep
from network.selectors.procedure_steps import study_steps
from studies.listing import StudySearch, studies_found, study_instances_page
from studies.models import Instance, Series, Study, StudyState
from studies.selectors import settles_at, study_series
from uploads.selectors import study_attempts, study_uploads

TAG = "Studies"
LATEST = 50
SERIES_MOST = 500
FAILED = (StudyState.FAILED_TRANSIENT, StudyState.FAILED_PERMANENT)


# -- what is asked -----------------------------------------------------------------------------------------------------


class StudyListQuery(Asked):
    """Filters that may stand in an address: nothing of a patient."""

    state = Choices(choices=StudyState.choices, required=False, default=set)
    source = Text(  # type: ignore[assignment]
        max_length=16, help_text="Calling AE title of the latest sender."
    )
    modality = Text(max_length=16, help_text="One of the study's modalities, as CT.")
    study_date_from = Day(required=False, help_text="Study Date, this day or later.")
    study_date_to = Day(required=False, help_text="Study Date, this day or earlier.")
    since = Since(required=False, help_text="The latest object came then or later.")
    limit = bounded(LATEST, LATEST)
    cursor = Cursor()


class StudySearchBody(StudyListQuery):
    """The same filters and those by patient, in the body."""

    query = Text(
        max_length=200,
        help_text="As the search box: words of a name, a patient's ID, an accession number, a date, a UID.",
    )
    patient_name = Text(max_length=200, help_text="Words of the name, in any order.")
    patient_id = Text(max_length=64)
    patient_birth_date = Day(required=False)
    accession_number = Text(max_length=64)


class StudyQuery(Asked):
    max_instances = bounded(50, 500, help_text="How many instances are listed.")
    max_attempts = bounded(50, 200, help_text="How many upload attempts are listed, the latest first.")


class AttemptsQuery(Asked):
    limit = bounded(100, 200)


class InstancesQuery(Asked):
    limit = bounded(100, 500)
    cursor = Cursor()


# -- what is answered --------------------------------------------------------------------------------------------------


class SettlesAt(Moment):
    """When an open study settles if nothing more comes; null when nothing is open."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, allow_null=True, **kwargs)

    def get_attribute(self, instance: Study) -> datetime | None:
        return settles_at(instance)


class StudyAnswer(RowAnswer):
    modalities = Parts()
    settles_at = SettlesAt()

    class Meta:
        model = Study
        fields = (
            "id", "study_instance_uid", "state", "state_since", "reason", "patient_name", "patient_id",
            "issuer_of_patient_id", "patient_birth_date", "patient_sex", "accession_number", "study_id", "study_date",
            "study_time", "study_description", "referring_physician_name", "institution_name", "source_ae_title",
            "modalities", "series_count", "instance_count", "size_bytes", "conflict", "created_at", "received_at",
            "settles_at",
        )  # fmt: skip


class StudyPageAnswer(Answer):
    studies = StudyAnswer(many=True)
    next = serializers.CharField(allow_null=True, help_text="Cursor of the next page; null on the last.")


class SeriesAnswer(RowAnswer):
    class Meta:
        model = Series
        fields = (
            "series_instance_uid", "modality", "series_number", "series_description", "body_part_examined",
            "station_name", "manufacturer", "series_date", "series_time", "instance_count", "size_bytes",
        )  # fmt: skip


class InstanceAnswer(RowAnswer):
    flags = Parts(separator=",", help_text="What is ugly about it but was kept.")
    series_instance_uid = serializers.CharField(source="series.series_instance_uid", read_only=True)
    revision = serializers.IntegerField(
        source="revision.number", read_only=True, allow_null=True, default=None, help_text="null: not settled yet."
    )

    class Meta:
        model = Instance
        fields = (
            "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "series_instance_uid", "revision", "version",
            "current", "instance_number", "number_of_frames", "rows", "columns", "size_bytes", "sha256", "flags",
            "source_ae_title", "received_at", "file_deleted_at",
        )  # fmt: skip


class InstancePageAnswer(Answer):
    instances = InstanceAnswer(many=True)
    next = serializers.CharField(allow_null=True)


class ProcedureStepAnswer(RowAnswer):
    class Meta:
        model = ProcedureStep
        fields = (
            "sop_instance_uid", "state", "calling_ae_title", "modality", "step_id", "description", "accession_number",
            "station_ae_title", "station_name", "started_at", "ended_at", "created_at", "closed_at", "instance_count",
            "here_count", "overdue_at", "done_at",
        )  # fmt: skip


class AttemptsAnswer(Answer):
    attempts = AttemptAnswer(many=True)


class StudyDetailAnswer(Answer):
    study = StudyAnswer()
    can_retry = serializers.BooleanField(help_text="Its state is one of the failed ones.")
    series = SeriesAnswer(many=True, help_text=f"The first {SERIES_MOST}.")
    instances = InstanceAnswer(many=True, help_text="The first of them; .../instances has all, page by page.")
    uploads = UploadAnswer(many=True)
    attempts = AttemptAnswer(many=True)
    procedure_steps = ProcedureStepAnswer(many=True, help_text="What modalities told by MPPS; the first 50.")


class SettleAnswer(Answer):
    settled = serializers.BooleanField(help_text="False: nothing new had arrived; all was settled before.")
    revision = serializers.IntegerField(allow_null=True)
    instance_count = serializers.IntegerField()
    state = serializers.ChoiceField(StudyState.choices)


class RetryAnswer(Answer):
    retried = serializers.IntegerField(help_text="Uploads that are tried again now.")
    state = serializers.ChoiceField(StudyState.choices)


# -- operations --------------------------------------------------------------------------------------------------------


def study_of(uid: str) -> Study:
    study = Study.objects.filter(study_instance_uid=uid).first()
    if study is None:
        raise Http404
    return study


def _page(asked: dict[str, Any]) -> dict[str, Any]:
    limit, before = asked.pop("limit"), pages.moment_cursor_read("s", asked.pop("cursor", None))
    search = StudySearch(states=tuple(asked.pop("state")), **asked)
    rows = studies_found(search, before=before, limit=limit + 1)
    shown, following = pages.page_of(rows, limit, lambda study: pages.moment_cursor("s", study.received_at, study.pk))
    return pages.answer_page("studies", shown, following)


class StudiesView(ApiView):
    @operation("The latest studies", tag=TAG, roles=PROGRAMS_SEEING, query=StudyListQuery, answer=StudyPageAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """Up to 50, by the time of their latest object. A study that grows moves to the top of the list."""
        return _page(self.asked)


class StudySearchView(ApiView):
    @operation("Search", tag=TAG, roles=PROGRAMS_SEEING, body=StudySearchBody, answer=StudyPageAnswer)
    def post(self, request: Request) -> dict[str, Any]:
        """As the list, with filters by patient. They travel in the body alone: addresses end up in logs."""
        return _page(self.sent)


class StudyView(ApiView):
    @operation("One study", tag=TAG, roles=PROGRAMS_SEEING, path=[UID], query=StudyQuery, answer=StudyDetailAnswer)
    def get(self, request: Request, uid: str) -> dict[str, Any]:
        """Overview, series, instances, uploads and their attempts, procedure steps."""
        study = study_of(uid)
        return {
            "study": study,
            "can_retry": study.state in FAILED,
            "series": study_series(study)[:SERIES_MOST],
            "instances": study_instances_page(study.pk, limit=self.asked["max_instances"]),
            "uploads": study_uploads(study.pk),
            "attempts": study_attempts(study.pk, limit=self.asked["max_attempts"]),
            "procedure_steps": study_steps(study.study_instance_uid),
        }


class StudyInstancesView(ApiView):
    @operation(
        "Instances of a study",
        tag=TAG,
        roles=PROGRAMS_SEEING,
        path=[UID],
        query=InstancesQuery,
        answer=InstancePageAnswer,
    )
    def get(self, request: Request, uid: str) -> dict[str, Any]:
        """By SOP Instance UID; superseded versions too."""
        limit, cursor = self.asked["limit"], self.asked.get("cursor")
        after = None
        if cursor:
            sop_instance_uid, version = pages.cursor_read("i", cursor, 2)
            if not (version.isdecimal() and len(version) < 10):
                raise pages.cursor_refused()
            after = (sop_instance_uid, int(version))
        rows = study_instances_page(study_of(uid).pk, after=after, limit=limit + 1)
        shown, following = pages.page_of(
            rows, limit, lambda row: pages.cursor_make("i", row.sop_instance_uid, str(row.version))
        )
        return pages.answer_page("instances", shown, following)


class StudyAttemptsView(ApiView):
    @operation(
        "Upload attempts of a study",
        tag=TAG,
        roles=PROGRAMS_SEEING,
        path=[UID],
        query=AttemptsQuery,
        answer=AttemptsAnswer,
    )
    def get(self, request: Request, uid: str) -> dict[str, Any]:
        """The latest first, over all vaults and revisions."""
        return {"attempts": study_attempts(study_of(uid).pk, limit=self.asked["limit"])}


class StudyRetryView(ApiView):
    @operation(
        "Try failed uploads again",
        tag=TAG,
        roles=PROGRAMS_ACTING,
        path=[UID],
        body=Nothing,
        answer=RetryAnswer,
        problems=(409,),
    )
    def post(self, request: Request, uid: str) -> dict[str, Any]:
        """At once, and whatever held their lanes up is lifted. Only from the states failed_transient and
        failed_permanent; else 409 `not-failed`. May be repeated.
        """
        study = study_of(uid)
        retried = pipeline.retry(study.pk, actor=actor_of(request.user)) if study.state in FAILED else 0
        if not retried:
            raise Refused(409, "not-failed", "No upload of this study has failed: there is nothing to try again.")
        study.refresh_from_db()
        return {"retried": retried, "state": study.state}


class StudySettleView(ApiView):
    @operation("Settle now", tag=TAG, roles=PROGRAMS_ACTING, path=[UID], body=Nothing, answer=SettleAnswer)
    def post(self, request: Request, uid: str) -> dict[str, Any]:
        """For a sender that knows that the study is complete. May be repeated: then `settled` is false."""
        study = study_of(uid)
        revision = pipeline.settle_now(study.pk, actor=actor_of(request.user))
        study.refresh_from_db()
        return {
            "settled": revision is not None,
            "revision": revision.number if revision else None,
            "instance_count": revision.instance_count if revision else 0,
            "state": study.state,
        }
