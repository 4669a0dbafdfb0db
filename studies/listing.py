"""Searches with a filter for each attribute, in pages by keyset; what programs ask and one search box cannot say."""

from dataclasses import dataclass
from datetime import date, datetime

from django.db.models import Count, Q, QuerySet, Sum
from django.utils.timezone import localdate

from studies.models import Instance, QuarantinedObject, Study
from studies.search import search_read, spellings
from studies.selectors import with_modality

Place = tuple[datetime, int]


@dataclass(frozen=True)
class StudySearch:
    """Every part that is set must match. `query` as in the search box (`search_read`); names match by their words."""

    states: tuple[str, ...] = ()
    source: str = ""
    modality: str = ""
    study_date_from: date | None = None
    study_date_to: date | None = None
    since: datetime | None = None
    query: str = ""
    patient_name: str = ""
    patient_id: str = ""
    patient_birth_date: date | None = None
    accession_number: str = ""

    def condition(self) -> Q:
        found = Q()
        if self.states:
            found &= Q(state__in=self.states)
        for lookup, value in (
            ("source_ae_title", self.source),
            ("study_date__gte", self.study_date_from),
            ("study_date__lte", self.study_date_to),
            ("received_at__gte", self.since),
            ("patient_id__iexact", self.patient_id),
            ("patient_birth_date", self.patient_birth_date),
            ("accession_number__iexact", self.accession_number),
        ):
            if value:
                found &= Q(**{lookup: value})
        for word in self.patient_name.replace("^", " ").replace(",", " ").split():
            either = Q()
            for spelling in spellings(word):
                either |= Q(patient_name_folded__contains=spelling)
            found &= either
        if self.query.strip():
            found &= search_read(self.query, today=localdate()).where
        return found & with_modality(self.modality) if self.modality else found


def studies_found(search: StudySearch, *, before: Place | None, limit: int) -> list[Study]:
    """The latest first, at most `limit`, those after the place in that order. One query."""
    studies = Study.objects.filter(search.condition())
    if before is not None:
        moment, pk = before
        studies = studies.filter(Q(received_at__lt=moment) | Q(received_at=moment, pk__lt=pk))
    return list(studies.order_by("-received_at", "-pk")[:limit])


def study_instances_page(study_id: int, *, after: tuple[str, int] | None = None, limit: int) -> list[Instance]:
    """By SOP Instance UID and version: the order of an index, so a page of a million costs what one of ten does."""
    instances = Instance.objects.filter(study_id=study_id).select_related("series", "revision")
    if after is not None:
        uid, version = after
        later = Q(sop_instance_uid__gt=uid) | Q(sop_instance_uid=uid, version__gt=version)
        instances = instances.filter(later, sop_instance_uid__gte=uid)
    return list(instances.order_by("sop_instance_uid", "version")[:limit])


def study_totals() -> list[dict[str, object]]:
    """For each state: how many studies, and their bytes."""
    totals = Study.objects.order_by().values("state").annotate(count=Count("pk"), total_size_bytes=Sum("size_bytes"))
    return [dict(total) for total in totals.order_by("state")]


def quarantined_objects(*, state: str = "", source: str = "", code: str = "") -> QuerySet[QuarantinedObject]:
    """The latest first."""
    given = {"state": state, "source_ae_title": source, "code": code}
    chosen = {name: value for name, value in given.items() if value}
    return QuarantinedObject.objects.filter(**chosen).order_by("-latest_at", "-pk")
