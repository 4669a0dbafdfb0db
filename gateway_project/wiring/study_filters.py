"""The filters of the list of studies: they live in the address, combine, and hold nothing that a stranger made up.

Every value is one of ours (a state, a span of days, a vault's number) or one that the index holds (a source, a
modality): an address with any other is refused, so that nothing foreign stands beside a patient in a compressed page.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.db.models import Q
from django.utils.timezone import localtime

from studies.models import StudyState
from studies.selectors import study_modalities, study_sources, with_modality
from uploads.selectors import studies_of_vault, vault_names

KEPT_SECONDS = 60.0
FAILED = (StudyState.FAILED_PERMANENT, StudyState.FAILED_TRANSIENT)

# What `?state=` understands: the chips above the list.
STATES: dict[str, tuple[str, tuple[StudyState, ...]]] = {
    "failed": ("needs a hand", FAILED),
    "receiving": ("receiving", (StudyState.RECEIVING,)),
    "settled": ("settled", (StudyState.SETTLED,)),
    "uploading": ("uploading", (StudyState.UPLOADING,)),
    "uploaded": ("uploaded", (StudyState.UPLOADED,)),
    "deleted": ("files deleted", (StudyState.PENDING_DELETION, StudyState.DELETED)),
}
# What `?received=` understands: days before today at which it begins, and at which it ends.
RECEIVED: dict[str, tuple[str, int, int]] = {
    "today": ("today", 0, 0),
    "yesterday": ("yesterday", 1, 1),
    "7d": ("last 7 days", 6, 0),
    "30d": ("last 30 days", 29, 0),
}


@dataclass(frozen=True)
class Filters:
    """What the list is narrowed to; empty where it is not."""

    state: str = ""
    source: str = ""
    modality: str = ""
    received: str = ""
    vault: str = ""

    @property
    def states(self) -> tuple[StudyState, ...]:
        return STATES[self.state][1] if self.state else ()

    @property
    def any(self) -> bool:
        return self != Filters()

    def address(self, **more: str) -> str:
        """Everything that is set, for an address, after `?`."""
        values = {each.name: getattr(self, each.name) for each in fields(self)} | more
        return urlencode({name: value for name, value in values.items() if value})

    def where(self, now: datetime) -> Q:
        """All of it but the state."""
        where = Q()
        if self.source:
            where &= Q(source_ae_title=self.source)
        if self.modality:
            where &= with_modality(self.modality)
        if self.vault:
            where &= studies_of_vault(int(self.vault))
        if self.received:
            _label, first, last = RECEIVED[self.received]
            midnight = localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
            where &= Q(received_at__gte=midnight - timedelta(days=first))
            if last:
                where &= Q(received_at__lt=midnight - timedelta(days=last - 1))
        return where


def filters_read(query: Mapping[str, str]) -> Filters:
    """Raises ValueError for a value that is not to be had."""
    filters = Filters(**{each.name: query.get(each.name, "") for each in fields(Filters)})
    known: dict[str, Callable[[], object]] = {
        "state": lambda: STATES,
        "received": lambda: RECEIVED,
        "source": lambda: _SOURCES.get(filters.source),
        "modality": lambda: _MODALITIES.get(filters.modality),
        "vault": lambda: {str(pk) for pk, _name in vault_names()} if filters.vault else (),
    }
    for name, values in known.items():
        value = getattr(filters, name)
        if value and value not in values():  # type: ignore[operator]
            raise ValueError(f"not a {name}")
    return filters


class _Known:
    """Values of the index, read again after a minute, or at once for one that is not among them."""

    def __init__(self, read: Callable[[], list[str]]) -> None:
        self._read, self._until, self._values = read, 0.0, list[str]()

    def get(self, wanted: str = "") -> list[str]:
        if time.monotonic() >= self._until or (wanted and wanted not in self._values):
            self._values = self._read()
            self._until = time.monotonic() + KEPT_SECONDS
        return self._values


_SOURCES, _MODALITIES = _Known(study_sources), _Known(study_modalities)


@dataclass(frozen=True)
class Choice:
    label: str
    address: str
    current: bool


@dataclass(frozen=True)
class Menu:
    """One filter that opens: its name, what is chosen ("" for nothing), and what can be."""

    name: str
    chosen: str
    choices: list[Choice]


def state_chips(filters: Filters) -> list[Choice]:
    labels = [("", "all"), *((key, label) for key, (label, _states) in STATES.items())]
    return [_choice(filters, "state", value, label) for value, label in labels]


def filter_menus(filters: Filters) -> list[Menu]:
    """Received, source, modality and vault; one that would offer nothing is left out. At most three short queries."""
    offered = {
        "received": [(key, label) for key, (label, _first, _last) in RECEIVED.items()],
        "source": [(value, value) for value in _SOURCES.get()],
        "modality": [(value, value) for value in _MODALITIES.get()],
        "vault": [(str(pk), name) for pk, name in vault_names()],
    }
    return [_menu(filters, name, values) for name, values in offered.items() if values]


def _menu(filters: Filters, name: str, values: list[tuple[str, str]]) -> Menu:
    chosen = getattr(filters, name)
    labels = dict(values)
    choices = [_choice(filters, name, "", "any"), *(_choice(filters, name, value, label) for value, label in values)]
    return Menu(name=name, chosen=labels.get(chosen, chosen), choices=choices)


def _choice(filters: Filters, name: str, value: str, label: str) -> Choice:
    return Choice(label, replace(filters, **{name: value}).address(), getattr(filters, name) == value)
