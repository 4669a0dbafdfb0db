"""What is asked about associations."""

from django.db.models import QuerySet

from network.models import AssociationRecord


def associations_latest(limit: int = 30) -> QuerySet[AssociationRecord]:
    return AssociationRecord.objects.order_by("-closed_at", "-id")[:limit]
