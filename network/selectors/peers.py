"""What is asked about the peers that are known."""

from dataclasses import dataclass, field

from django.db.models import Count, Q, QuerySet

from network.models import CommitmentRequest, RemoteAE


@dataclass(frozen=True)
class PeerPage:
    """Rows of one page by AE title, and whether there are others before and behind it."""

    rows: list[RemoteAE]
    newer: bool
    older: bool


@dataclass(frozen=True)
class PeerCounts:
    """Of those that are switched on; `known` is all of them."""

    known: int
    may_query: int
    may_retrieve: int
    callable: int
    failing: int
    failing_titles: list[str] = field(default_factory=list)


def peers_page(*, before: str = "", after: str = "", size: int = 100) -> PeerPage:
    """One page by AE title: those behind `before`, or those in front of `after`. One query."""
    if after:
        rows = list(RemoteAE.objects.filter(ae_title__lt=after).order_by("-ae_title")[: size + 1])
        return PeerPage(rows[:size][::-1], newer=len(rows) > size, older=True)
    found = RemoteAE.objects.filter(ae_title__gt=before) if before else RemoteAE.objects.all()
    rows = list(found.order_by("ae_title")[: size + 1])
    return PeerPage(rows[:size], newer=bool(before), older=len(rows) > size)


def peers_titled(ae_title: str) -> QuerySet[RemoteAE]:
    """Who has this AE title, which a peer has sent: nobody, if it cannot be one (PostgreSQL refuses NUL)."""
    return RemoteAE.objects.filter(ae_title=ae_title) if ae_title.isprintable() else RemoteAE.objects.none()


def peers_counted() -> PeerCounts:
    """In two queries; at most three of those that fail are named."""
    on = Q(enabled=True)
    fails = on & ~Q(last_error="")
    counts = RemoteAE.objects.aggregate(
        known=Count("pk"),
        may_query=Count("pk", filter=on & Q(may_query=True)),
        may_retrieve=Count("pk", filter=on & Q(may_retrieve=True)),
        callable=Count("pk", filter=on & ~Q(host="")),
        failing=Count("pk", filter=fails),
    )
    titles = list(RemoteAE.objects.filter(fails).values_list("ae_title", flat=True)[:3]) if counts["failing"] else []
    return PeerCounts(**counts, failing_titles=titles)


def commitments_latest(remote: RemoteAE, *, limit: int) -> list[CommitmentRequest]:
    """Its latest requests for commitment, without what they list."""
    return list(remote.commitments.defer("references").order_by("-pk")[:limit])
