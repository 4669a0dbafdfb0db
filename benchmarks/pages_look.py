"""Every page and endpoint that can be read, found in the URL configuration and asked for through the WSGI application.

Runs inside Django; prints one JSON document. A new page is found by itself: the values for its address are those of the
first row of everything, by the parameter's name.
"""

import io
import json
import re
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import connection
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

from benchmarks.report import percentile
from gateway_project.core.sessions import SessionStore
from gateway_project.wiring.study_filters import STATES
from studies.models import Instance, Series, Study

SEARCHES = ("smith", "müller garcía", "SEED000123", "A00001234", "2025-11-20", "nobody of this name")
SEARCH_KEY = "study_search"
NOT_READ = {"logout", "setup", "login"}  # they need a state of their own
STREAM_SECONDS = 5.0


@dataclass
class Look:
    """One address: how it answered, how long it took, how many queries it made."""

    address: str
    status: int = 0
    queries: int = 0
    bytes: int = 0
    milliseconds: list[float] = field(default_factory=list)


def look(session_key: str, *, rounds: int) -> None:
    """Prints {"looks": [...], "left_out": [...]}."""
    from gateway_project.wsgi import application

    asker = Asker(application, session_key)
    addresses, left_out = found()
    looks = [Look(address) for address in addresses]
    for each in looks:
        asker.first(each)
    measured = [each for each in looks if each.status not in (405, 404)]
    left_out += [f"{each.address}: {each.status}" for each in looks if each not in measured]
    for _ in range(rounds):
        for each in measured:
            asker.again(each)
    studies = reverse("studies")
    for text in SEARCHES:
        search = Look(f"{studies} search: {text}")
        asker.searching(text)
        asker.first(search, studies)
        for _ in range(rounds):
            asker.again(search, studies)
        measured.append(search)
    print(json.dumps({"looks": [summary(each) for each in measured], "left_out": left_out}))


def summary(each: Look) -> dict[str, Any]:
    values = asdict(each)
    times = values.pop("milliseconds") or [0.0]
    return values | {"p50": statistics.median(times), "p95": percentile(times, 95)}


class Asker:
    """Calls the application as gunicorn would."""

    def __init__(self, application: Any, session_key: str) -> None:
        self._application, self._session_key = application, session_key

    def searching(self, text: str) -> None:
        """What the search box keeps in the session."""
        session = SessionStore(self._session_key)
        session[SEARCH_KEY] = text
        session.save()

    def first(self, each: Look, address: str = "") -> None:
        """Warms up, and counts."""
        count = 0

        def counted(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
            nonlocal count
            count += 1
            return execute(sql, parameters, many, context)

        with connection.execute_wrapper(counted):
            each.status, each.bytes = self._ask(address or each.address)
        each.queries = count

    def again(self, each: Look, address: str = "") -> None:
        began = time.perf_counter()
        self._ask(address or each.address)
        each.milliseconds.append((time.perf_counter() - began) * 1000)

    def _ask(self, address: str) -> tuple[int, int]:
        path, _question, query = address.partition("?")
        told: list[str] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": path.encode().decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost",
            "HTTP_COOKIE": f"gateway_session={self._session_key}",
            "HTTP_ACCEPT": "*/*",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        answer = self._application(environ, lambda status, _headers, *_error: told.append(status))
        size, ends_at = 0, time.monotonic() + STREAM_SECONDS
        try:
            for piece in answer:
                size += len(piece)
                if time.monotonic() > ends_at:  # a stream that has no end of its own
                    break
        finally:
            getattr(answer, "close", lambda: None)()
        return int(told[0].split()[0]), size


def found() -> tuple[list[str], list[str]]:
    """The addresses, and what no address could be made of."""
    samples = Samples()
    addresses: dict[str, None] = {}
    left_out = []
    for name, parameters in sorted(set(patterns(get_resolver()))):
        if name.rpartition(":")[2] in NOT_READ:
            continue
        try:
            address = reverse(name, kwargs={parameter: samples.value(parameter) for parameter in parameters})
        except (NoReverseMatch, LookupError):
            left_out.append(f"{name}: no value for {', '.join(parameters)}")
            continue
        addresses[address] = None
        if name.endswith("_changelist"):
            addresses[f"{address}?q=smith"] = None
    studies = reverse("studies")
    addresses |= dict.fromkeys(f"{studies}?state={state}" for state in STATES)
    middle = Study.objects.order_by("-received_at")[Study.objects.count() // 2]
    addresses[f"{studies}?before={int(middle.received_at.timestamp() * 1_000_000)}-{middle.pk}"] = None
    return list(addresses), left_out


def patterns(
    resolver: URLResolver, spaces: tuple[str, ...] = (), above: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every named pattern with the parameters that its address takes."""
    for entry in resolver.url_patterns:
        names = tuple(re.compile(entry.pattern.regex).groupindex)
        if isinstance(entry, URLResolver):
            inner = (*spaces, entry.namespace) if entry.namespace else spaces
            yield from patterns(entry, inner, (*above, *names))
        elif isinstance(entry, URLPattern) and entry.name:
            yield ":".join((*spaces, entry.name)), (*above, *names)


class Samples:
    """A value for a parameter of an address, by its name: the first row of everything has the number 1."""

    def __init__(self) -> None:
        study, series, instance = Study.objects.get(pk=1), Series.objects.get(pk=1), Instance.objects.get(pk=1)
        self._by_word: Mapping[str, object] = {
            "study": study.study_instance_uid,
            "series": series.series_instance_uid,
            "sop": instance.sop_instance_uid,
            "instance": instance.sop_instance_uid,
            "frame": 1,
            "format": "json",
            "app_label": "studies",
            "pk": 1,
            "id": 1,
            "number": 1,
        }

    def value(self, parameter: str) -> object:
        """Raises LookupError for a name that says nothing."""
        if parameter in ("object_id", "pk", "id") or parameter.endswith(("_id", "_pk")):
            return 1
        return next(value for word, value in self._words(parameter))

    def _words(self, parameter: str) -> Iterable[tuple[str, object]]:
        matching = [(word, value) for word, value in self._by_word.items() if word in parameter]
        if not matching:
            raise LookupError(parameter)
        return matching
