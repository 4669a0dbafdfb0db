"""C-FIND for those who may: the question is read, asked of the index, answered and recorded."""

import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from django.db import Error, close_old_connections

from gateway_project.core.options import option
from network.dimse import statuses
from network.dimse.query.answer import AnswerEncoder
from network.dimse.query.dataset import elements_read
from network.dimse.query.errors import QueryError
from network.dimse.query.matching import Folding
from network.dimse.query.ports import FindBatch, FindRequest
from network.dimse.query.question import (
    PATIENT_ROOT_FIND,
    PATIENT_STUDY_ONLY_FIND,
    STUDY_ROOT_FIND,
    Question,
    question_read,
)
from network.selectors.query import IndexQuery, Limits
from network.services.associations import ae_title_shown
from network.services.query_trail import Asked, QueryTrail

_MODEL_WORDS: Final = {
    PATIENT_ROOT_FIND: "Patient Root",
    STUDY_ROOT_FIND: "Study Root",
    PATIENT_STUDY_ONLY_FIND: "Patient/Study Only",
}
_KEPT_CHARACTERS: Final = 200


class QueryService:
    """network.dimse.query.ports.FindPort over the index; one for each receiver process."""

    def __init__(self, trail: QueryTrail) -> None:
        self._trail = trail
        self._places = Places("QUERY.MAX_PARALLEL_PER_PEER", "QUERY.MAX_PARALLEL")

    def find(self, request: FindRequest, identifier: bytes) -> Generator[FindBatch, None, None]:
        """The answers that this peer may have. Every query is recorded, with its end; its values only in the trail."""
        peer = request.peer
        asked = Asked(
            association_id=peer.association_id,
            calling_ae_title=ae_title_shown(peer.calling_ae_title),
            address=peer.address,
            outcome="failure",
            model=_MODEL_WORDS[request.sop_class_uid],
        )
        if not peer.rights.query:
            self._trail.add(replace(asked, outcome="refused", code="query-forbidden"))
            raise QueryError(
                "this AE may not query: ask the gateway's operator",
                code="query-forbidden",
                status=statuses.NOT_AUTHORIZED,
            )
        try:
            with self._places.taken(peer.calling_ae_title):
                question = question_of(request, identifier)
                asked = replace(asked, level=question.level.name, keys=_kept(question))
                for batch in _answers(request, question):
                    asked = replace(asked, answers=asked.answers + len(batch.identifiers))
                    yield batch
            asked = replace(asked, outcome="success")
        except GeneratorExit:
            asked = replace(asked, outcome="cancelled")
            raise
        except QueryError as error:
            asked = replace(asked, code=error.code)
            raise
        except Error:
            close_old_connections()  # the next query finds a database again when there is one
            raise
        finally:
            self._trail.add(asked)


def question_of(request: FindRequest, identifier: bytes) -> Question:
    """What the identifier asks, as the options and the negotiation have it. Raises QueryError."""
    folding = Folding(
        case=option("QUERY.FOLD_CASE"),
        accents=option("QUERY.FOLD_ACCENTS"),
        fuzzy=request.fuzzy or option("QUERY.FUZZY_NAMES"),
    )
    return question_read(
        elements_read(identifier, explicit=request.explicit),
        model=request.sop_class_uid,
        folding=folding,
        relational=request.relational or option("QUERY.RELATIONAL"),
        combined=request.combined or option("QUERY.COMBINED_DATE_TIME"),
    )


def _answers(request: FindRequest, question: Question) -> Iterator[FindBatch]:
    limits = Limits(
        answers=option("QUERY.MAX_ANSWERS"), seconds=option("QUERY.SECONDS"), files=option("QUERY.MAX_FILES")
    )
    query = IndexQuery(question, visible=request.peer.rights.visible, limits=limits)
    encoder = AnswerEncoder(
        question,
        explicit=request.explicit,
        retrieve_ae_title=request.peer.called_ae_title,
        left_out=query.left_out,
    )
    for page in query.pages():
        yield FindBatch([encoder.encode(values) for values in page], query.all_supported)


def _kept(question: Question) -> dict[str, str]:
    return {keyword: text[:_KEPT_CHARACTERS] for keyword, text in question.texts.items()}


class Places:
    """How many questions of one AE title there may be at once in this process, by an option; and in all by another."""

    def __init__(self, per_peer: str, in_all: str = "") -> None:
        self._per_peer, self._in_all = per_peer, in_all
        self._changed = threading.Condition()
        self._taken: Counter[str] = Counter()

    def take(self, ae_title: str) -> None:
        """A place, to be given back; waits for one among all for as long as a query may take.

        Raises QueryError `query-busy`.
        """
        with self._changed:
            self._refuse_over(ae_title)
            free = not self._in_all or self._changed.wait_for(
                lambda: self._taken.total() < option(self._in_all), option("QUERY.SECONDS")
            )
            if not free:
                raise _busy("too many requests at once")
            self._refuse_over(ae_title)  # others of it may have waited too
            self._taken[ae_title] += 1

    def _refuse_over(self, ae_title: str) -> None:
        if self._taken[ae_title] >= option(self._per_peer):
            raise _busy("too many requests of this AE at once")

    def give_back(self, ae_title: str) -> None:
        with self._changed:
            self._taken[ae_title] -= 1
            if not self._taken[ae_title]:
                del self._taken[ae_title]
            self._changed.notify_all()

    @contextmanager
    def taken(self, ae_title: str) -> Iterator[None]:
        self.take(ae_title)
        try:
            yield
        finally:
            self.give_back(ae_title)


def _busy(words: str) -> QueryError:
    return QueryError(f"{words}: try again", code="query-busy", status=statuses.OUT_OF_RESOURCES, permanent=False)
