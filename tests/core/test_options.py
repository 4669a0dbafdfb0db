"""Options: which value counts, how it is judged, when a change is seen; without Django and without a database."""

import threading
from typing import Any

import pytest

from gateway_project.core import core_options
from gateway_project.core.option_docs import options_markdown, value_text
from gateway_project.core.options import (
    Kind,
    Option,
    OptionError,
    OptionRegistry,
    OptionUnknownError,
    Source,
    StoreUnavailableError,
    option_bootstrap,
)
from gateway_project.core.secrets import SecretError, secret_encrypt

SECONDS = Option("SETTLING.SCAN_SECONDS", Kind.INT, 30, help="Scan.", minimum=1, maximum=3600)
RATIO = Option("QUEUE.RATIO", Kind.FLOAT, 1, help="Ratio.")
SWITCH = Option("UPLOAD.ENABLED", Kind.BOOL, True, help="Switch.")
NAMES = Option("DICOM.NAMES", Kind.LIST, [], help="Names | of peers.", restart=True)
RULES = Option("INGRESS.RULES", Kind.JSON, {"any": []}, help="Rules.")
LEVEL = Option("TEST.LEVEL", Kind.STR, "INFO", help="Level.", choices=("INFO", "DEBUG"))
TOKEN = Option("VAULT.TOKEN", Kind.STR, "", help="Token.", secret=True)
ALL = (SECONDS, RATIO, SWITCH, NAMES, RULES, LEVEL, TOKEN)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class MemoryStore:
    def __init__(self) -> None:
        self.rows: dict[str, object] = {}
        self.number = 0
        self.asked = 0
        self.loaded = 0
        self.down = False

    def put(self, key: str, value: object) -> None:
        self.rows[key] = value
        self.number += 1

    def version(self) -> int:
        self.asked += 1
        if self.down:
            raise StoreUnavailableError("down")
        return self.number

    def load(self) -> dict[str, object]:
        self.loaded += 1
        return dict(self.rows)


class House:
    """A registry with its environment, store and clock in the test's hands."""

    def __init__(self) -> None:
        self.environ: dict[str, str] = {}
        self.clock = Clock()
        self.store = MemoryStore()
        self.registry = OptionRegistry(environ=self.environ, monotonic=self.clock)
        self.registry.register(ALL)
        self.registry.bind(self.store)

    def put(self, key: str, value: object) -> None:
        self.store.put(key, value)
        self.registry.invalidate()


@pytest.fixture
def house() -> House:
    return House()


def test_environment_wins_over_override_wins_over_default(house: House) -> None:
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 30
    assert house.registry.state("SETTLING.SCAN_SECONDS").source is Source.DEFAULT
    house.put("SETTLING.SCAN_SECONDS", 7)
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 7
    assert house.registry.state("SETTLING.SCAN_SECONDS").source is Source.OVERRIDE
    house.environ["GATEWAY_SETTLING__SCAN_SECONDS"] = "5"
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 5
    state = house.registry.state("SETTLING.SCAN_SECONDS")
    assert (state.source, state.locked, state.shown) == (Source.ENVIRONMENT, True, 5)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("SETTLING.SCAN_SECONDS", " 12 ", 12),
        ("QUEUE.RATIO", "2.5", 2.5),
        ("UPLOAD.ENABLED", "Off", False),
        ("UPLOAD.ENABLED", "1", True),
        ("DICOM.NAMES", " CT1, MR1 ,,", ["CT1", "MR1"]),
        ("DICOM.NAMES", "", []),
        ("INGRESS.RULES", '{"any": [1]}', {"any": [1]}),
        ("TEST.LEVEL", "debug", "DEBUG"),
    ],
)
def test_environment_text_becomes_the_options_type(house: House, key: str, text: str, value: Any) -> None:
    house.environ[house.registry.get(key).environment_name] = text
    found = house.registry.value(key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("SETTLING.SCAN_SECONDS", ""),
        ("SETTLING.SCAN_SECONDS", "1_0"),
        ("SETTLING.SCAN_SECONDS", "٣"),
        ("SETTLING.SCAN_SECONDS", "0"),
        ("SETTLING.SCAN_SECONDS", "3601"),
        ("QUEUE.RATIO", "nan"),
        ("QUEUE.RATIO", "inf"),
        ("UPLOAD.ENABLED", "maybe"),
        ("INGRESS.RULES", "{"),
        ("INGRESS.RULES", "[" * 100_000),
        ("TEST.LEVEL", "LOUD"),
    ],
)
def test_unusable_environment_text_names_the_variable(house: House, key: str, text: str) -> None:
    name = house.registry.get(key).environment_name
    house.environ[name] = text
    with pytest.raises(OptionError, match=name) as caught:
        house.registry.environment_check()
    assert caught.value.code == "option-environment-invalid"
    assert len(str(caught.value)) < 300


def test_environment_check_names_every_fault_at_once(house: House) -> None:
    house.environ |= {"GATEWAY_UPLOAD__ENABLED": "maybe", "GATEWAY_QUEUE__RATIO": "x"}
    with pytest.raises(OptionError, match=r"GATEWAY_QUEUE__RATIO.*GATEWAY_UPLOAD__ENABLED"):
        house.registry.environment_check()


def test_secrets_value_never_stands_in_an_error(house: House) -> None:
    strict = Option("VAULT.PIN", Kind.STR, "0000", help="Pin.", secret=True, check=_digits_only)
    with pytest.raises(OptionError) as parsed:
        strict.parse("hunter2")
    with pytest.raises(OptionError) as validated:
        strict.validate(["hunter2"])
    assert "GATEWAY_VAULT__PIN" in str(parsed.value)
    assert "hunter2" not in f"{parsed.value}{validated.value}"


def _digits_only(value: str) -> None:
    if not value.isdigit():
        raise ValueError(f"must be digits, not {value}")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (SECONDS, True),
        (SECONDS, "7"),
        (SECONDS, 7.0),
        (RATIO, float("nan")),
        (RATIO, False),
        (SWITCH, 1),
        (NAMES, "CT1"),
        (NAMES, ["CT1", 2]),
        (RULES, {1, 2}),
        (TOKEN, "a\x00b"),
    ],
)
def test_table_values_are_not_guessed(option: Option, value: object) -> None:
    with pytest.raises(OptionError):
        option.validate(value)


@pytest.mark.parametrize(
    "declaration",
    [
        {"key": "lower.case"},
        {"key": "NOSECTION"},
        {"key": "A.B__C"},
        {"default": 0},
        {"default": "3"},
        {"help": ""},
        {"secret": True},
        {"choices": ("1",)},
        {"kind": "int"},
    ],
)
def test_contradictory_declaration_is_refused(declaration: dict[str, Any]) -> None:
    good = {"key": "A.B", "kind": Kind.INT, "default": 3, "help": "Help.", "minimum": 1}
    Option(**good)
    with pytest.raises(OptionError):
        Option(**(good | declaration))


def test_two_options_of_one_key_are_refused_but_collecting_twice_is_not(house: House) -> None:
    house.registry.register(ALL)
    with pytest.raises(OptionError, match="twice"):
        house.registry.register([Option("QUEUE.RATIO", Kind.FLOAT, 1, help="Another.")])


def test_unknown_key_suggests_the_near_one(house: House) -> None:
    with pytest.raises(OptionUnknownError, match=r"SETTLING\.SCAN_SECONDS"):
        house.registry.value("SETTLING.SCAN_SECOND")


def test_change_is_seen_after_two_seconds_and_the_table_read_only_then(house: House) -> None:
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 30
    house.store.put("SETTLING.SCAN_SECONDS", 9)
    house.clock.now += 1.9
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 30
    assert (house.store.asked, house.store.loaded) == (1, 1)
    house.clock.now += 0.2
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 9
    house.clock.now += 3
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 9
    assert (house.store.asked, house.store.loaded) == (3, 2)


def test_locked_option_asks_no_store(house: House) -> None:
    house.environ["GATEWAY_UPLOAD__ENABLED"] = "no"
    assert house.registry.value("UPLOAD.ENABLED") is False
    assert house.store.asked == 0


def test_store_that_goes_down_leaves_the_last_known_values(house: House) -> None:
    house.put("SETTLING.SCAN_SECONDS", 9)
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 9
    house.store.down = True
    house.clock.now += 3
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 9
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 9
    assert house.store.asked == 2, "a store that is down is not asked on every read"


def test_first_reading_that_fails_raises_instead_of_using_defaults(house: House) -> None:
    house.store.down = True
    with pytest.raises(StoreUnavailableError):
        house.registry.value("SETTLING.SCAN_SECONDS")
    house.store.down = False
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 30


def test_row_that_no_longer_fits_counts_as_absent_and_is_reported(house: House) -> None:
    house.put("SETTLING.SCAN_SECONDS", 99_999)
    house.put("GONE.OPTION", 1)
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 30
    state = house.registry.state("SETTLING.SCAN_SECONDS")
    assert state.source is Source.DEFAULT
    assert "at most 3600" in state.fault


def test_callers_cannot_change_the_registry_through_a_value(house: House) -> None:
    house.put("DICOM.NAMES", ["CT1"])
    house.registry.value("DICOM.NAMES").append("EVIL")
    house.registry.value("INGRESS.RULES")["any"].append("EVIL")
    assert house.registry.value("DICOM.NAMES") == ["CT1"]
    assert house.registry.value("INGRESS.RULES") == {"any": []}


def test_restart_is_pending_only_for_marked_options_that_differ_from_the_boot(house: House) -> None:
    with pytest.raises(OptionError):
        house.registry.restart_pending()
    house.registry.boot_values_freeze()
    assert house.registry.restart_pending() == []
    house.put("DICOM.NAMES", ["CT1"])
    house.put("SETTLING.SCAN_SECONDS", 8)
    assert house.registry.restart_pending() == ["DICOM.NAMES"]
    house.put("DICOM.NAMES", [])
    assert house.registry.restart_pending() == []


def test_secret_is_decrypted_for_use_and_shown_only_as_set(
    house: House, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_project.core.secrets.config_key_path", lambda: tmp_path / "config.key")
    assert house.registry.state("VAULT.TOKEN").shown == "not set"
    house.put("VAULT.TOKEN", secret_encrypt("hunter2"))
    assert house.registry.value("VAULT.TOKEN") == "hunter2"
    assert house.registry.state("VAULT.TOKEN").shown == "set"
    (tmp_path / "config.key").unlink()
    house.put("SETTLING.SCAN_SECONDS", 8)
    with pytest.raises(SecretError):
        house.registry.value("VAULT.TOKEN")
    state = house.registry.state("VAULT.TOKEN")
    assert (state.shown, state.source) == ("set", Source.OVERRIDE)
    assert "config.key" in state.fault
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 8


def test_variable_that_matches_no_option_is_found_with_the_name_meant(house: House) -> None:
    house.environ |= {"GATEWAY_SETTLING__SCAN_SECOND": "3", "GATEWAY_DATA_DIR": "/x", "GATEWAY_UPLOAD__ENABLED": "1"}
    assert house.registry.environment_strays() == {"GATEWAY_SETTLING__SCAN_SECOND": "GATEWAY_SETTLING__SCAN_SECONDS"}


def test_listeners_hear_of_every_reading_and_may_read_options(house: House) -> None:
    heard: list[int] = []
    house.registry.subscribe(lambda: heard.append(house.registry.value("SETTLING.SCAN_SECONDS")))
    house.registry.value("UPLOAD.ENABLED")
    house.put("SETTLING.SCAN_SECONDS", 8)
    house.registry.value("UPLOAD.ENABLED")
    house.registry.invalidate()
    house.registry.value("UPLOAD.ENABLED")
    assert heard == [30, 8]


def test_thread_never_sees_a_default_while_another_makes_the_first_reading(house: House) -> None:
    reading, go_on = threading.Event(), threading.Event()
    house.store.put("SETTLING.SCAN_SECONDS", 8)
    load = house.store.load

    def slow_load() -> dict[str, object]:
        reading.set()
        go_on.wait(10)
        return load()

    house.store.load = slow_load  # type: ignore[method-assign]
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(house.registry.value("SETTLING.SCAN_SECONDS"))) for _ in range(3)
    ]
    threads[0].start()
    assert reading.wait(10)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert seen == [8, 8, 8]
    assert house.store.loaded == 1


def test_store_that_reads_an_option_itself_does_not_recurse(house: House) -> None:
    seen: list[int] = []
    version = house.store.version

    def reading_version() -> int:
        seen.append(house.registry.value("SETTLING.SCAN_SECONDS"))
        return version()

    house.store.version = reading_version  # type: ignore[method-assign]
    assert house.registry.value("SETTLING.SCAN_SECONDS") == 30
    assert seen == [30]


def test_bootstrap_reads_the_environment_without_a_registry() -> None:
    assert option_bootstrap(SECONDS, environ={}) == 30
    assert option_bootstrap(SECONDS, environ={"GATEWAY_SETTLING__SCAN_SECONDS": "4"}) == 4
    with pytest.raises(OptionError, match="GATEWAY_SETTLING__SCAN_SECONDS"):
        option_bootstrap(SECONDS, environ={"GATEWAY_SETTLING__SCAN_SECONDS": "four"})


def test_cores_own_options_are_the_ones_that_something_reads() -> None:
    own = {option.key: option.default for option in core_options.OPTIONS if not option.key.startswith("ALERT.")}
    assert own == {
        "INSTANCE.ID": "gateway-01",
        "LOG.CONSOLE_LEVEL": "INFO",
        "LOG.FILE_LEVEL": "INFO",
        "LOG.MAX_ARCHIVE_FILES": 14,
        "QUEUE.LEASE_SECONDS": 60.0,
        "QUEUE.MAX_ATTEMPTS": 20,
        "QUEUE.RETRY_COEFFICIENT": 10.0,
        "WEB.PUBLIC_URL": "",
    }
    with pytest.raises(OptionError):
        core_options.INSTANCE_ID.validate("two\nlines")


def test_settings_page_holds_every_option_and_no_current_value(house: House) -> None:
    before = options_markdown(house.registry)
    house.put("SETTLING.SCAN_SECONDS", 1234)
    house.environ["GATEWAY_VAULT__TOKEN"] = "hunter2"
    page = options_markdown(house.registry)
    assert page == before
    for option in ALL:
        assert f"| `{option.key}` | `{option.environment_name}` |" in page
    names = next(line for line in page.splitlines() if line.startswith("| `DICOM.NAMES`"))
    assert names.endswith("| list of texts, comma separated | empty | yes | Names \\| of peers. |")
    assert "whole number from 1 to 3600" in page
    assert "| secret | not set |" in page


@pytest.mark.parametrize(("option", "value"), [(SECONDS, 5), (SWITCH, False), (NAMES, ["A", "B"]), (RULES, {"a": [1]})])
def test_value_text_is_what_the_environment_would_hold(option: Option, value: Any) -> None:
    assert option.parse(value_text(option, value)) == value
