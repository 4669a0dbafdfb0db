"""A STOW-RS request as octets, and its answer as an account of every instance."""

import email.parser
import email.policy
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.dicomweb.errors import DicomwebError
from network.dicomweb.stow import Part, StoreAnswer, StoreRequest, answer_parse, failure_meaning, warning_words


def part(*blocks: bytes, size: int | None = None) -> Part:
    return Part(sum(map(len, blocks)) if size is None else size, lambda: iter(blocks))


def body_parts(request: StoreRequest) -> list[tuple[str, bytes]]:
    """What another's parser reads: content type and octets of each part."""
    head = f"Content-Type: {request.content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + b"".join(request))
    return [(each.get_content_type(), each.get_payload(decode=True)) for each in message.iter_parts()]


def test_request_is_multipart_related_of_the_announced_length() -> None:
    request = StoreRequest([part(b"abc", b"def"), part(b"--\r\n\r\n--")])
    body = b"".join(request)
    assert len(body) == len(request)
    assert request.content_type.startswith('multipart/related; type="application/dicom"; boundary=')
    boundary = request.content_type.partition("boundary=")[2].encode()
    assert body.startswith(b"--" + boundary + b"\r\n")
    assert body.endswith(b"\r\n--" + boundary + b"--\r\n")
    assert body.count(boundary) == 3
    assert request.content_bytes == 14


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5))
def test_any_octets_come_out_as_they_went_in(contents: list[bytes]) -> None:
    request = StoreRequest([part(content) for content in contents])
    boundary = request.content_type.partition("boundary=")[2].encode()
    body = b"".join(request)
    assert len(body) == len(request)
    pieces = body.split(b"--" + boundary)
    assert [piece.partition(b"\r\n\r\n")[2][:-2] for piece in pieces[1:-1]] == contents


def test_another_parser_reads_the_parts() -> None:
    assert body_parts(StoreRequest([part(b"first object"), part(b"second")])) == [
        ("application/dicom", b"first object"),
        ("application/dicom", b"second"),
    ]


def test_boundary_is_new_for_each_request_and_long() -> None:
    boundaries = {StoreRequest([part(b"x")]).content_type.partition("boundary=")[2] for _ in range(50)}
    assert len(boundaries) == 50
    assert all(len(boundary) == 64 for boundary in boundaries)  # 256 bits; RFC 2046 5.1.1 allows 70 characters


def test_request_can_be_sent_again_from_the_beginning() -> None:
    told: list[int] = []
    request = StoreRequest([part(b"abc"), part(b"defg")], on_progress=told.append)
    assert b"".join(request) == b"".join(request)
    assert told == [3, 7, 3, 7]


@pytest.mark.parametrize("size", [5, 7])
def test_part_of_another_length_ends_the_request_before_its_end(size: int) -> None:
    request = StoreRequest([part(b"abc", b"def", size=size), part(b"x")])
    sent: list[bytes] = []
    with pytest.raises(DicomwebError) as caught:
        sent.extend(request)  # keeps what came before the error
    assert caught.value.code == "part-changed"
    assert sum(map(len, sent)) < len(request)


def test_blocks_are_read_one_at_a_time() -> None:
    read: list[int] = []

    def blocks() -> Iterator[bytes]:
        for number in range(1000):
            read.append(number)
            yield b"x" * 1000

    stream = iter(StoreRequest([Part(1_000_000, blocks)]))
    next(stream), next(stream), next(stream)
    assert read == [0, 1]


def named(uid: str, **reasons: int) -> dict[str, object]:
    tags = {"failure": "00081197", "warning": "00081196"}
    item: dict[str, object] = {"00081155": {"vr": "UI", "Value": [uid]}}
    return item | {tags[name]: {"vr": "US", "Value": [value]} for name, value in reasons.items()}


def answer(stored: list[object] = (), failed: list[object] = (), other: list[object] = ()) -> bytes:  # type: ignore[assignment]
    tags = (("00081199", stored), ("00081198", failed), ("0008119A", other))
    return json.dumps({tag: {"vr": "SQ", "Value": list(items)} for tag, items in tags}).encode()


def test_answer_names_what_is_stored_and_what_failed() -> None:
    parsed = answer_parse(answer([named("1.1"), named("1.2", warning=0xB000)], [named("1.3", failure=0xC000)], [{}]))
    assert parsed == StoreAnswer({"1.1": None, "1.2": 0xB000}, {"1.3": 0xC000}, 1)


def test_instance_named_as_both_is_failed() -> None:
    assert answer_parse(answer([named("1.1")], [named("1.1", failure=0x0110)])) == StoreAnswer({}, {"1.1": 0x0110})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{}", StoreAnswer()),
        (b"[]", StoreAnswer()),
        (b'{"00081199": {"vr": "SQ"}}', StoreAnswer()),
        (b"[" + answer([named("1.1")]) + b"," + answer([named("1.2")]) + b"]", StoreAnswer({"1.1": None, "1.2": None})),
        (b'{"00081199": {"Value": [{"00081155": {"Value": ["1.1\\u0000"]}}]}}', StoreAnswer({"1.1": None})),
        (b'{"00081199": {"Value": [{"00081155": {"Value": []}}, {}]}}', StoreAnswer()),
        (
            b'{"00081198": {"Value": [{"00081155": {"Value": ["1.1"]}, "00081197": {"Value": ["272"]}}]}}',
            StoreAnswer({}, {"1.1": 272}),
        ),
        (
            b'{"00081198": {"Value": [{"00081155": {"Value": ["1.1"]}, "00081197": {"Value": [true]}}]}}',
            StoreAnswer({}, {"1.1": None}),
        ),
    ],
)
def test_odd_answers_are_read_and_confirm_nothing_that_they_do_not_name(content: bytes, expected: StoreAnswer) -> None:
    assert answer_parse(content) == expected


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"null", b"3", b'["1.1"]', b'{"00081199": []}', b'{"00081199": {"Value": "1.1"}}', b"[" * 100_000,
     b'{"00081199": {"Value": ["1.1"]}}', b"\xff"],
)  # fmt: skip
def test_answers_that_are_none_are_refused(content: bytes) -> None:
    with pytest.raises(DicomwebError) as caught:
        answer_parse(content)
    assert caught.value.code == "answer-unreadable"


@pytest.mark.parametrize(
    ("reason", "permanent", "words"),
    [(0x0110, False, "failed while"), (0xA700, False, "out of resources"), (0xA7FF, False, "out of resources"),
     (0xA900, True, "SOP class"), (0xC000, True, "understand"), (0xC122, True, "transfer syntax"),
     (0x0122, True, "SOP class"), (0x0111, True, "keeps it"), (0x1234, True, "refuses"), (None, True, "no reason")],
)  # fmt: skip
def test_failure_reasons_have_plain_words(reason: int | None, permanent: bool, words: str) -> None:
    meaning = failure_meaning(reason)
    assert meaning.permanent is permanent
    assert words in meaning.words


def test_warning_reasons_have_plain_words() -> None:
    assert "coercion" in warning_words(0xB000)
    assert warning_words(0xB123)
