"""The registry of options: environment over override over default, in every process the same within two seconds.

An app declares `OPTIONS: tuple[Option, ...]` in its `options.py`; `collect()` registers them when Django starts. The
overrides are read through an `OverrideStore`, so nothing here needs a database.
"""

import copy
import difflib
import importlib
import importlib.util
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from gateway_project.core.errors import GatewayError
from gateway_project.core.option_types import Kind, Option, OptionError, OptionLockedError, OptionUnknownError
from gateway_project.core.packages import package_is_ours
from gateway_project.core.secrets import SecretError, secret_decrypt

__all__ = [
    "REGISTRY",
    "Kind",
    "Option",
    "OptionError",
    "OptionLockedError",
    "OptionRegistry",
    "OptionState",
    "OptionUnknownError",
    "OverrideStore",
    "Source",
    "StoreUnavailableError",
    "boot_values_freeze",
    "collect",
    "option",
    "option_bootstrap",
    "restart_pending",
]

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
ENVIRONMENT_NAME = re.compile(r"GATEWAY_.+?__.+")
CORE_APP = "gateway_project.core"


class StoreUnavailableError(OptionError):
    """The table of overrides cannot be read at the moment."""

    code = "option-store-unavailable"
    permanent = False


class OverrideStore(Protocol):
    """Where overrides are kept. Both raise StoreUnavailableError; a table not made yet is empty, not an error."""

    def version(self) -> int:
        """A number that differs after every committed change; cheap, asked every two seconds."""
        ...

    def load(self) -> dict[str, object]:
        """Every override as its JSON value; a secret's is its encrypted text."""
        ...


class Source(Enum):
    """Where an option's value comes from; ENVIRONMENT is locked."""

    ENVIRONMENT = "environment"
    OVERRIDE = "override"
    DEFAULT = "default"


@dataclass(frozen=True)
class OptionState:
    """What may be shown of an option: `shown` is the value, or for a secret only "set" / "not set"."""

    option: Option
    shown: Any
    source: Source
    fault: str = ""

    @property
    def locked(self) -> bool:
        return self.source is Source.ENVIRONMENT


@dataclass(frozen=True)
class _Snapshot:
    version: int | None = None
    values: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, GatewayError] = field(default_factory=dict)


class OptionRegistry:
    """Every declared option and its current value; safe for threads, and for a fork while another thread reads.

    `poll_seconds`: how long a change may go unseen, by the monotonic clock. While the store cannot be read, the last
    known overrides rule; only a first read that fails raises (StoreUnavailableError), as defaults could do harm.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] = os.environ,
        monotonic: Callable[[], float] = time.monotonic,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._environ = environ
        self._monotonic = monotonic
        self._poll_seconds = poll_seconds
        self._options: dict[str, Option] = {}
        self._parsed: dict[str, tuple[str, Any]] = {}
        self._store: OverrideStore | None = None
        self._snapshot: _Snapshot | None = None
        self._next_poll = 0.0
        self._listeners: list[Callable[[], None]] = []
        self._boot: dict[str, Any] | None = None
        self.lock_renew()

    def lock_renew(self) -> None:
        """For the child of a fork: the lock may have been held by a thread that does not exist here."""
        self._lock = threading.RLock()  # a signal handler may read while its thread does
        self._reader: int | None = None

    # -- declaring -------------------------------------------------------------------------------------------------

    def register(self, options: Iterable[Option]) -> None:
        """Adds options; the same object twice is fine, two options of one key raise OptionError."""
        for option_ in options:
            known = self._options.setdefault(option_.key, option_)
            if known is not option_:
                raise OptionError(f"option {option_.key} is declared twice", code="option-duplicate")
        self._snapshot = None

    def bind(self, store: OverrideStore | None) -> None:
        """From now on overrides are read from this store (None: from nowhere)."""
        self._store = store
        self._snapshot = None

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Calls it after every (re-)reading of the overrides, in the thread that met it. Once for each listener."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def get(self, key: str) -> Option:
        """The declaration of this key; raises OptionUnknownError."""
        try:
            return self._options[key]
        except KeyError:
            close = difflib.get_close_matches(key, self._options, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise OptionUnknownError(f"there is no option {key}{hint}") from None

    def all(self) -> list[Option]:
        """Every declared option, by key."""
        return [self._options[key] for key in sorted(self._options)]

    # -- reading ---------------------------------------------------------------------------------------------------

    def value(self, key: str) -> Any:
        """The current typed value: environment, else override, else default. The caller may change a returned list.

        An override that no longer fits its option (after an upgrade, say) counts as absent and is reported by
        `state`. A secret that cannot be decrypted raises SecretError: an empty token would only fail elsewhere.
        """
        option_ = self.get(key)
        text = self._environ.get(option_.environment_name)
        if text is not None:
            return _own(option_, self._environment_value(option_, text))
        overrides = self._overrides()
        if option_.secret and key in overrides.faults:
            raise overrides.faults[key]
        return _own(option_, overrides.values.get(key, option_.default))

    def state(self, key: str) -> OptionState:
        """What may be shown of an option and where it comes from; never a secret's value. A bad row does not raise."""
        option_ = self.get(key)
        locked = self.environment_locks(key)
        overrides = _Snapshot() if locked else self._overrides()
        fault = overrides.faults.get(key)
        if locked:
            source = Source.ENVIRONMENT
        elif key in overrides.values or (option_.secret and fault):
            source = Source.OVERRIDE
        else:
            source = Source.DEFAULT
        if option_.secret:
            shown: Any = "set" if fault or self.value(key) else "not set"
        else:
            shown = self.value(key)
        return OptionState(option_, shown, source, str(fault) if fault else "")

    def environment_locks(self, key: str) -> bool:
        """True when the environment sets this option, so that no override counts."""
        return self.get(key).environment_name in self._environ

    def environment_check(self) -> None:
        """Raises one OptionError that names every environment variable whose value cannot be used."""
        faults = []
        for option_ in self.all():
            text = self._environ.get(option_.environment_name)
            if text is None:
                continue
            try:
                self._environment_value(option_, text)
            except OptionError as error:
                faults.append(str(error))
        if faults:
            raise OptionError("; ".join(faults), code="option-environment-invalid")

    def environment_strays(self) -> dict[str, str]:
        """Variables of our form that match no option, each with the name probably meant ("" when none is near)."""
        names = [option_.environment_name for option_ in self.all()]
        strays = sorted(name for name in self._environ if ENVIRONMENT_NAME.fullmatch(name) and name not in names)
        return {name: next(iter(difflib.get_close_matches(name, names, n=1)), "") for name in strays}

    def invalidate(self) -> None:
        """The next read asks the store for its version, whatever the clock says."""
        self._next_poll = 0.0

    # -- restarting ------------------------------------------------------------------------------------------------

    def boot_values_freeze(self) -> None:
        """Notes what this process starts with; call once, when it begins its work."""
        self._boot = {option_.key: self._comparable(option_.key) for option_ in self.all() if option_.restart}

    def restart_pending(self) -> list[str]:
        """Keys marked `restart` whose value is no longer the one this process started with, sorted."""
        if self._boot is None:
            raise OptionError("boot_values_freeze() was not called in this process", code="option-boot-unknown")
        return [key for key, value in sorted(self._boot.items()) if self._comparable(key) != value]

    def _comparable(self, key: str) -> Any:
        try:
            return self.value(key)
        except SecretError as error:
            return error.code

    # -- inside ----------------------------------------------------------------------------------------------------

    def _environment_value(self, option_: Option, text: str) -> Any:
        cached = self._parsed.get(option_.key)
        if cached is None or cached[0] != text:
            cached = self._parsed[option_.key] = (text, option_.parse(text))
        return cached[1]

    def _overrides(self) -> _Snapshot:
        snapshot = self._snapshot
        if self._store is None or self._reader == threading.get_ident():
            return snapshot or _Snapshot()
        if snapshot is not None and self._monotonic() < self._next_poll:
            return snapshot
        if not self._lock.acquire(blocking=snapshot is None):
            return snapshot or _Snapshot()
        try:
            self._reader = threading.get_ident()
            changed = self._poll(self._store)
        finally:
            self._reader = None
            self._lock.release()
        if changed:
            for listener in self._listeners:
                listener()
        return self._snapshot or _Snapshot()

    def _poll(self, store: OverrideStore) -> bool:
        snapshot = self._snapshot
        if snapshot is not None and self._monotonic() < self._next_poll:
            return False  # another thread was faster
        try:
            version = store.version()  # before load: what changes in between is then read again
            changed = snapshot is None or snapshot.version != version
            if changed:
                self._snapshot = self._read(version, store.load())
        except StoreUnavailableError:
            if snapshot is None:
                raise
            logger.warning("option overrides unreadable, the last known are used", exc_info=True)
            changed = False
        self._next_poll = self._monotonic() + self._poll_seconds
        return changed

    def _read(self, version: int, rows: dict[str, object]) -> _Snapshot:
        values: dict[str, Any] = {}
        faults: dict[str, GatewayError] = {}
        for key, row in rows.items():
            option_ = self._options.get(key)
            if option_ is None:
                continue  # of another release; kept, so that going back finds it again
            try:
                values[key] = option_.validate(secret_decrypt(row) if option_.secret else row)
            except (OptionError, SecretError) as error:
                faults[key] = error
                logger.error("option override unusable", extra={"option": key, "code": error.code})  # noqa: TRY400
        return _Snapshot(version, values, faults)


def _own(option_: Option, value: Any) -> Any:
    return copy.deepcopy(value) if option_.kind in (Kind.LIST, Kind.JSON) else value


REGISTRY = OptionRegistry()
os.register_at_fork(after_in_child=REGISTRY.lock_renew)


def option(key: str) -> Any:
    """The current typed value of an option, at most two seconds old; see `OptionRegistry.value`."""
    return REGISTRY.value(key)


def option_bootstrap(declared: Option, *, environ: Mapping[str, str] = os.environ) -> Any:
    """Environment or default, before the table can be read (settings.py); raises OptionError naming the variable."""
    text = environ.get(declared.environment_name)
    return declared.default if text is None else declared.parse(text)


def boot_values_freeze() -> None:
    """Notes what this process starts with, for `restart_pending`."""
    REGISTRY.boot_values_freeze()


def restart_pending() -> list[str]:
    """Keys whose change waits for a restart of this process."""
    return REGISTRY.restart_pending()


def collect(*, registry: OptionRegistry = REGISTRY, store: OverrideStore | None = None) -> None:
    """Registers the options of every installed app of ours, binds the table, judges the environment.

    Touches no database; may be repeated. Raises OptionError for a key declared twice, or an environment variable that
    cannot be used.
    """
    from django.apps import apps

    from gateway_project.core import option_checks  # noqa: F401 - registers core.W001
    from gateway_project.core.logs import log_levels_apply

    names = [f"{CORE_APP}.core_options"]
    names += [
        f"{app.name}.options" for app in apps.get_app_configs() if package_is_ours(app.name) and app.name != CORE_APP
    ]
    for name in names:
        if importlib.util.find_spec(name) is not None:
            registry.register(importlib.import_module(name).OPTIONS)
    if store is None:
        from gateway_project.core.option_table import DjangoOverrideStore

        store = DjangoOverrideStore()
    registry.bind(store)
    registry.subscribe(log_levels_apply)
    registry.environment_check()
