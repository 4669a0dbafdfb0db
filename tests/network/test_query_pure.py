"""The pure half of the query service: identifiers read, matched and written, beside pydicom and a plain model."""

import datetime as dt
import fnmatch
import re
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from gateway_project.core.folding import name_fold, text_fold
from network.dimse.query.answer import AnswerEncoder, value_of
from network.dimse.query.command import FindCommand, FindResponses, cancelled_id, find_command
from network.dimse.query.dataset import Element, elements_read
from network.dimse.query.errors import QueryError
from network.dimse.query.matching import (
    Folding,
    Glob,
    NameMatch,
    NoMatch,
    RangeMatch,
    SequenceMatch,
    TextMatch,
    glob_matches,
)
from network.dimse.query.question import STUDY_ROOT_FIND, Key, Level, Question, question_read
from network.dimse.query.text import answer_charset, codecs_of, text_decode, text_encode
from network.dimse.query.times import date_match, moment_match, moment_of, time_match
from tests.network.identifiers import decoded, encoded, question

PLAIN = st.text(st.sampled_from("abcAB^= .%_\\?é山"), max_size=12)
GLOB = st.text(st.sampled_from("abAB*?^%_."), max_size=10)


@given(GLOB, st.text(st.sampled_from("abAB^%_."), max_size=14))
def test_glob_is_what_a_regular_expression_says(pattern: str, text: str) -> None:
    expression = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    expected = re.fullmatch(expression, text, re.DOTALL) is not None
    assert glob_matches(pattern, text) == expected == Glob(pattern).matches(text)
    assert fnmatch.fnmatchcase(text, pattern) == expected


def test_glob_of_many_stars_is_quick() -> None:
    assert not glob_matches("*a" * 500 + "b", "a" * 4000)


@given(st.text(max_size=20))
def test_folding_again_changes_nothing(text: str) -> None:
    assert text_fold(text_fold(text)) == text_fold(text)
    assert name_fold(name_fold(text)) == name_fold(text)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [("Müller", "MULLER", True), ("straße", "STRASSE", True), ("が", "か", False), ("한", "하", False)],
)  # fmt: skip
def test_what_folding_takes_away(one: str, other: str, equal: bool) -> None:
    assert (text_fold(one) == text_fold(other)) is equal


@given(PLAIN, PLAIN)
def test_name_matches_itself_and_what_begins_like_it(name: str, rest: str) -> None:
    folding = Folding()
    wanted = name_fold(name)
    if wanted and not set(wanted) & set("*?"):
        assert NameMatch((Glob(wanted),), folding).matches(name)
        assert NameMatch((Glob(wanted + "*"),), folding).matches(wanted + rest.lstrip("^= "))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("20200229", ["20200229"], ["20200228"]),
        ("2020.02.29", ["20200229"], ["20200301"]),
        ("20200101-", ["20200101", "99991231"], ["20191231"]),
        ("-20200101", ["00010101", "20200101"], ["20200102"]),
    ],
)
def test_dates(text: str, inside: list[str], outside: list[str]) -> None:
    match = date_match(text)
    days = [dt.datetime.strptime(day, "%Y%m%d").date() for day in inside + outside]
    assert [match.matches(day) for day in days] == [True] * len(inside) + [False] * len(outside)
    assert not match.matches(None)


@pytest.mark.parametrize(
    "text", ["20200230", "2020", "20200101-2020", "-", "x", "20200101-20200102-20200103", "20200101-x"]
)
def test_what_is_no_date_matches_nothing(text: str) -> None:
    assert date_match(text) == NoMatch()


@pytest.mark.parametrize("text", ["25", "1060", "-", "10-x", "1"])
def test_what_is_no_time_matches_nothing(text: str) -> None:
    assert time_match(text) == NoMatch()


def test_moments_reach_to_the_end_of_what_they_name() -> None:
    assert moment_match("2020") == RangeMatch(
        dt.datetime(2020, 1, 1), dt.datetime.max.replace(year=2020), is_single=True
    )
    assert moment_match("202002-20200301") == RangeMatch(
        dt.datetime(2020, 2, 1), dt.datetime(2020, 3, 1, 23, 59, 59, 999999)
    )
    zone = dt.timezone(-dt.timedelta(hours=5))
    assert moment_match("20200201101500-0500") == RangeMatch(
        dt.datetime(2020, 2, 1, 10, 15, tzinfo=zone),
        dt.datetime(2020, 2, 1, 10, 15, 0, 999999, tzinfo=zone),
        is_single=True,
    )
    assert moment_match("2019-2020") == RangeMatch(dt.datetime(2019, 1, 1), dt.datetime.max.replace(year=2020))


def test_moments_with_an_offset_are_compared_in_utc() -> None:
    """One without is in this machine's zone; the ends of the calendar, which no zone reaches, harm nothing."""
    ends = moment_match("20200201101500+0100")
    assert ends.matches(moment_of("20200201091500+0000"))
    assert not ends.matches(moment_of("20200201101500+0000"))
    local = dt.datetime(2020, 2, 1, 9, 15, tzinfo=dt.UTC).astimezone().replace(tzinfo=None)
    assert ends.matches(local)
    assert moment_match("00010101-+0100").matches(moment_of("00010101+1400")) in (True, False)
    assert moment_match("99991231-").matches(moment_of("99991231235959-1400"))


def test_sequence_matches_when_one_item_matches_every_key() -> None:
    match = SequenceMatch({1: TextMatch((Glob("a"),)), 2: TextMatch((Glob("b*"),))})
    assert match.matches(({1: "x", 2: "b"}, {1: "a", 2: "bc"}))
    assert not match.matches(({1: "a", 2: "x"}, {1: "x", 2: "b"}))
    assert not match.matches(())
    assert not match.matches(None)


@pytest.mark.parametrize("explicit", [True, False])
def test_what_pydicom_wrote_is_read(explicit: bool) -> None:
    inner = Dataset()
    inner.AccessionNumber = "A1"
    inner.RequestedProcedureCodeSequence = [Dataset()]
    asked = question("IMAGE", PatientName="Doe*", Rows=512, RequestAttributesSequence=[inner, Dataset()])
    elements = elements_read(encoded(asked, explicit=explicit), explicit=explicit)
    assert elements[0x00100010].value == b"Doe*"
    first, second = elements[0x00400275].items
    assert (first[0x00080050].value, second) == (b"A1", {})
    assert len(first[0x00321064].items) == 1


def refused_properly(error: QueryError) -> None:
    """With a status of C-FIND, and words that fit into an Error Comment."""
    assert error.status in (0xA900, 0xC000)
    assert len(str(error)) <= 64


@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, explicit: bool, beginning: bool) -> None:
    try:
        elements = elements_read(data, explicit=explicit, beginning=beginning)
        question_read(elements, model=STUDY_ROOT_FIND, folding=Folding(), relational=True)
    except QueryError as error:
        refused_properly(error)


@given(st.data())
def test_spoilt_identifier_is_read_or_refused(data: st.DataObject) -> None:
    inner = Dataset()
    inner.ScheduledProcedureStepID = "1"
    asked = question(
        "STUDY", StudyDate="20200101-", PatientName="A*", RequestAttributesSequence=[inner], StudyTime="10"
    )
    raw = bytearray(encoded(asked))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        question_read(
            elements_read(bytes(raw), explicit=True), model=STUDY_ROOT_FIND, folding=Folding(), relational=True
        )
    except QueryError as error:
        refused_properly(error)


def test_depth_is_bounded_and_what_is_allowed_is_read() -> None:
    def nested(depth: int) -> bytes:
        body = b""
        for _ in range(depth):
            body = struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body
            body = struct.pack("<HH2sHL", 0x40, 0x275, b"SQ", 0, len(body)) + body
        return body

    assert 0x00400275 in elements_read(nested(16), explicit=True)
    with pytest.raises(QueryError, match="16 deep"):
        elements_read(nested(17), explicit=True)


VALUES = {
    0x00100010: st.text(st.sampled_from("abZ^=éŁ山 "), max_size=20),
    0x00100020: st.text(st.sampled_from("ab1 "), max_size=20),
    0x00080020: st.none() | st.dates(),
    0x00080030: st.none() | st.times(),
    0x00080061: st.lists(st.sampled_from(["CT", "MR", "SR"]), max_size=3).map(tuple),
    0x00280010: st.none() | st.integers(0, 65535),
    0x00200013: st.none() | st.integers(-(2**31), 2**31 - 1),
    0x0020000D: st.from_regex(r"1(\.[1-9][0-9]{0,4}){1,8}", fullmatch=True),
}


@given(st.fixed_dictionaries(VALUES), st.booleans(), st.sampled_from(["", "ISO_IR 100", "ISO_IR 192", "GB18030"]))
def test_answers_come_back_as_they_were(values: dict, explicit: bool, charset: str) -> None:
    keys = dict.fromkeys(
        ["PatientName", "PatientID", "StudyDate", "StudyTime", "ModalitiesInStudy", "StudyInstanceUID"]
    )
    asked = question("STUDY", SpecificCharacterSet=charset, Rows=None, InstanceNumber=None, **keys)
    read = question_read(
        elements_read(encoded(asked), explicit=True), model=STUDY_ROOT_FIND, folding=Folding(), relational=True
    )
    answer = AnswerEncoder(read, explicit=explicit, retrieve_ae_title="GATEWAY").encode(values)
    assert len(answer) % 2 == 0
    elements = elements_read(answer, explicit=explicit)
    assert list(elements) == sorted(elements)
    declared = elements[0x00080005].value.decode().strip() if 0x00080005 in elements else ""
    codecs = codecs_of((declared,))
    for tag, value in values.items():
        found = value_of(elements[tag], elements[tag].vr, codecs)
        assert found == _as_read(value), hex(tag)
    assert decoded(answer, explicit=explicit).RetrieveAETitle == "GATEWAY"


NUMBERED = ["US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT"]
SAID_AS = ["SQ", "OB", "UN", "LO", "PN", "DS", "IS", "DA", "DT", "TM", "UI", *NUMBERED]
STORED = st.builds(
    Element,
    st.sampled_from(SAID_AS),
    st.binary(max_size=24) | st.just(struct.pack("<d", 1e300)) | st.just(b"20200101+9999"),
    st.lists(
        st.dictionaries(
            st.sampled_from([0x00100010, 0x00189073, 0x00109431, 0x0018106A, 0x00080005]),
            st.builds(Element, st.sampled_from(SAID_AS), st.binary(max_size=16) | st.just(struct.pack("<d", 1e300))),
        ),
        max_size=2,
    ).map(tuple),
)


@example(Element("SQ", items=({0x00109431: Element("FD", struct.pack("<d", 1e300))},)), "SQ", True, False)  # FL
@given(STORED, st.sampled_from(SAID_AS), st.booleans(), st.booleans())
def test_whatever_a_file_holds_is_told_or_left_empty(stored: Element, vr: str, explicit: bool, typed: bool) -> None:
    """VRs of hostile files are not those of the dictionary: no value may cost the others their answer."""
    asked = Question(STUDY_ROOT_FIND, Level.IMAGE, (Key(0x00189073, vr, ""),), (), {})
    value = value_of(stored, vr, codecs_of(()), typed=typed)
    answer = AnswerEncoder(asked, explicit=explicit, retrieve_ae_title="GATEWAY").encode({0x00189073: value})
    assert len(answer) % 2 == 0
    assert elements_read(answer, explicit=explicit)


def _as_read(value: object) -> object:
    """As values are told apart on the wire: outer spaces are padding, one value is not several."""
    if isinstance(value, str):
        return value.strip(" ") or None
    if isinstance(value, tuple):
        return None if not value else value[0] if len(value) == 1 else value
    return value


@pytest.mark.parametrize(
    ("declared", "text"),
    [(("ISO_IR 100",), "Müller^Jörg"), (("", "ISO 2022 IR 87"), "Yamada=山田^太郎"), (("GB18030",), "王^小东"),
     (("", "ISO 2022 IR 149"), "Hong=洪^吉洞=홍^길동"), (("ISO_IR 144",), "Жданов")],
)  # fmt: skip
def test_character_sets_go_both_ways(declared: tuple[str, ...], text: str) -> None:
    assert answer_charset([text], declared) == declared
    raw = text_encode(text, "PN", codecs_of(declared))
    assert text_decode(raw, "PN", codecs_of(declared)) == text


def test_responses_are_cut_as_the_peer_wants_them() -> None:
    command = FindCommand(7, STUDY_ROOT_FIND)
    for maximum in (0, 64, 1024):
        sent = FindResponses(command, context_id=3, max_pdu_bytes=maximum).pending([b"x" * 500, b"y" * 2], 0xFF00)
        fragments: dict[int, bytes] = {1: b"", 0: b""}
        at = 0
        while at < len(sent):
            kind, size, item, context, control = struct.unpack_from(">BxLLBB", sent, at)
            assert (kind, context, size) == (4, 3, item + 4)
            assert not maximum or size <= maximum
            fragments[control & 1] += sent[at + 12 : at + 6 + size]
            at += 6 + size
        assert fragments[0] == b"x" * 500 + b"yy"


def test_commands_are_told_apart() -> None:
    assert find_command(b"") is None
    assert find_command(b"\xff" * 40) is None
    assert cancelled_id(b"\xff" * 40) is None
