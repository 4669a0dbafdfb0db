"""What holds whatever a peer sends: one function for each reader of strange bytes, which raises when a promise breaks.

Each takes any bytes at all. A documented error is an answer; every other exception, and PromiseError, is a finding.
"""

import io
import os
import re
import unicodedata
import zlib
from collections.abc import Callable
from contextlib import suppress

from network.dimse.command import CommandError, StoreCommand, command_elements, store_command, store_response
from network.dimse.guards import MessageGuard, ProtocolViolationError, associate_request_check
from network.dimse.query.answer import AnswerEncoder, value_of
from network.dimse.query.dataset import elements_read
from network.dimse.query.errors import QueryError
from network.dimse.query.matching import Folding
from network.dimse.query.question import STUDY_ROOT_FIND, question_read
from network.dimse.query.text import codecs_of
from studies.dicom import tags
from studies.dicom.errors import DatasetError
from studies.dicom.header import Header
from studies.dicom.normalise import Content, content_read
from studies.dicom.part10 import FileMeta, ae_title_clean, file_meta, file_meta_read
from studies.dicom.scan import DatasetScanner
from studies.dicom.uids import uid_clean

EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
SYNTAXES = (
    "1.2.840.10008.1.2",
    EXPLICIT,
    "1.2.840.10008.1.2.2",
    DEFLATED,
    "1.2.840.10008.1.2.4.50",
    "1.2.826.0.1.3680043.2.1.1",
)
DEFLATE_FIRST = len(SYNTAXES)
"""As a syntax's number: the bytes are deflated first, as mutations of a deflated stream do not get far."""
LIMITS = {"max_inflated_bytes": 1 << 20, "max_elements": 5_000, "max_items": 2_000, "max_fragments": 2_000}
TAIL_LIMIT_BYTES = 4096
TEXT_LIMIT = 256
COMMENT_BYTES = 64
PDU_HEADER_BYTES = PDV_HEADER_BYTES = 6
FILE_META_CODES = {"not-part10", "file-meta-malformed", "file-meta-no-transfer-syntax"}
FILE_META_FLAGS = {"group-length-missing", "group-length-wrong", "ae-title-invalid", "uid-invalid"}
REQUEST_CODES = {"request-malformed", "context-id-invalid"}
LINE_BREAKS_AND_OVERRIDES = {"Cc", "Cs", "Zl", "Zp"}


FRAGMENTS = re.compile(rb"(?:O[BW]|\xe0\x7f\x10\0..)..\xff{4}", re.DOTALL)


class PromiseError(Exception):
    """Something was done that is promised never to be done."""


def holds(promise: bool, words: str) -> None:
    if not promise:
        raise PromiseError(words)


def scan(data: bytes) -> None:
    """The walk over data sets: the first byte chooses a transfer syntax, the second how the rest is cut."""
    if len(data) < 2:
        return
    syntax, dataset = dataset_of_input(data)
    whole = scan_outcome(syntax, dataset, len(dataset) or 1)
    pieces = scan_outcome(syntax, dataset, 1 + data[1] * 7)
    holds(whole == pieces, f"the outcome depends on the chunks: {whole} and {pieces}")


def dataset_of_input(data: bytes) -> tuple[str, bytes]:
    number = data[0] % (len(SYNTAXES) + 1)
    return (DEFLATED, deflated(data[2:])) if number == DEFLATE_FIRST else (SYNTAXES[number], data[2:])


def deflated(dataset: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    return packer.compress(dataset) + packer.flush()


def scan_outcome(syntax: str, dataset: bytes, chunk: int) -> tuple[object, ...]:
    """What became of it; what is kept between two chunks is bounded, what is said of it is documented."""
    scanner = DatasetScanner(syntax, **LIMITS)
    documented = DatasetScanner.__doc__ or ""
    try:
        for at in range(0, len(dataset), chunk):
            scanner.feed(memoryview(dataset)[at : at + chunk])
            holds(len(scanner._tail) <= TAIL_LIMIT_BYTES, f"{len(scanner._tail)} bytes are kept between two chunks")
        header = scanner.finish()
    except DatasetError as error:
        holds(f'"{error.code}"' in documented, f"the code {error.code} is not documented")
        readable(scanner.header_so_far())
        # how far a stream is inflated before one of its flaws is met depends on the chunks; that it is refused does not
        return ("refused" if syntax == DEFLATED else error.code,)
    holds(all(f'"{flag}"' in documented for flag in header.flags), f"one of {header.flags} is not documented")
    readable(header)
    return ("whole", header.flags, tuple(sorted(header.values.items())))


def readings(data: bytes) -> None:
    """The typed readings of raw values: a length and a declared character set, then a value that every tag is given."""
    if not data:
        return
    declared, raw = data[1 : 1 + (data[0] & 0x7F)], data[1 + (data[0] & 0x7F) :]
    values = dict.fromkeys(tags.INDEX_VRS, raw) | {tags.SPECIFIC_CHARACTER_SET: declared}
    readable(Header(values, (), big_endian=data[0] > 0x7F))


def readable(header: Header) -> None:
    """Each reading takes whatever was kept, and gives what its docstring says."""
    for tag in tags.INDEX_VRS:
        text = header.text(tag)
        text.encode()
        holds(len(text) <= TEXT_LIMIT, "a text is too long")
        holds(text == text.strip(" "), "a text is padded")
        unsafe = [c for c in text if unicodedata.category(c) in LINE_BREAKS_AND_OVERRIDES or is_override(c)]
        holds(not unsafe, f"unsafe in a text: {unsafe}")
        header.date(tag)
        header.time(tag)
        number = header.integer(tag)
        holds(number is None or -(2**31) <= number < 2**31, "an integer of more than 32 bits")
        with suppress(DatasetError):
            uid = header.uid(tag)
            holds(not uid or uid == uid_clean(uid), "a UID that is none")
    with suppress(DatasetError):
        holds(all(header.identity()), "an identity of less than four UIDs")


def is_override(character: str) -> bool:
    return unicodedata.bidirectional(character) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def part10(data: bytes) -> None:
    """The file meta: what is read can be written and is read again as the same, whatever deflated bytes follow."""
    ours = {"sop_class_uid": "1.2", "sop_instance_uid": "1.3", "source_ae_title": "A", "receiving_ae_title": "B"}
    head = file_meta(**ours, transfer_syntax_uid=DEFLATED)
    holds(file_meta_read(io.BytesIO(head + data)).dataset_offset == len(head), "our own file is read otherwise")
    stream = io.BytesIO(data)
    try:
        meta = file_meta_read(stream)
    except DatasetError as error:
        holds(error.code in FILE_META_CODES, f"the code {error.code} is not documented")
        return
    holds(stream.tell() == meta.dataset_offset <= len(data), "the stream does not stand at the data set")
    holds(set(meta.flags) <= FILE_META_FLAGS, f"one of {meta.flags} is not documented")
    holds(all(t == "" or t == ae_title_clean(t) for t in (meta.source_ae_title, meta.receiving_ae_title)), "AE title")
    holds(all(uid == uid_clean(uid) for uid in uids_of(meta) if uid), "a UID that is none")
    if all(uids_of(meta)):
        again = file_meta_read(io.BytesIO(rewritten(meta)))
        holds(again.flags == () and uids_of(again) == uids_of(meta), "written anew it reads otherwise")


def uids_of(meta: FileMeta) -> tuple[str, str, str]:
    return meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid


def rewritten(meta: FileMeta) -> bytes:
    return file_meta(
        sop_class_uid=meta.sop_class_uid,
        sop_instance_uid=meta.sop_instance_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        source_ae_title=meta.source_ae_title,
        receiving_ae_title=meta.receiving_ae_title,
    )


def content(data: bytes) -> None:
    """The hash of the content: what can be hashed has the same hash deflated, unless fragments name their syntax.

    A data set that begins with group 0002 is refused before: in a file it cannot be told from the file meta.
    """
    if len(data) < 2:
        return
    syntax, dataset = dataset_of_input(data)
    plain = content_outcome(syntax, dataset)
    if syntax == EXPLICIT and dataset[:2] != b"\2\0" and FRAGMENTS.search(dataset) is None:
        packed = content_outcome(DEFLATED, deflated(dataset))
        holds(plain == packed, f"the content depends on the encoding: {plain} and {packed}")


def content_outcome(syntax: str, dataset: bytes) -> Content | str:
    uids = {"sop_class_uid": "1.2", "sop_instance_uid": "1.3", "transfer_syntax_uid": syntax}
    head = file_meta(**uids, source_ae_title="", receiving_ae_title="")
    with os.fdopen(os.memfd_create("fuzz"), "r+b", buffering=0) as stream:
        os.write(stream.fileno(), head + dataset)
        stream.seek(0)
        try:
            return content_read(stream)
        except DatasetError as error:
            return error.code


def command(data: bytes) -> None:
    """Command sets: a C-STORE-RQ that is taken is answered by a response that can be read."""
    with suppress(CommandError):
        command_elements(data)
    asked = store_command(data)
    if asked is not None:
        answered(asked)
    guard = MessageGuard(message_bytes=1000)
    with suppress(ProtocolViolationError):
        guard.feed(data, {1, 3})


def answered(asked: StoreCommand) -> None:
    for max_pdu_bytes in (0, 40):
        response = store_response(
            asked, context_id=1, status=0xC000, comment="\N{GREEK SMALL LETTER ALPHA}" * 99, max_pdu_bytes=max_pdu_bytes
        )
        guard, at, encoded = MessageGuard(message_bytes=0), 0, b""
        while at < len(response):
            end = at + PDU_HEADER_BYTES + int.from_bytes(response[at + 2 : at + PDU_HEADER_BYTES])
            holds(not max_pdu_bytes or end - at - PDU_HEADER_BYTES <= max_pdu_bytes, "a PDU longer than agreed")
            guard.feed(response[at + PDU_HEADER_BYTES : end], {1})
            encoded += response[at + PDU_HEADER_BYTES + PDV_HEADER_BYTES : end]
            at = end
        elements = command_elements(encoded)
        holds(int.from_bytes(elements[0x0120], "little") == asked.message_id, "another message is answered")
        holds(elements[0x1000].rstrip(b"\0") == asked.sop_instance_uid.encode(), "another instance is answered")


def request(data: bytes) -> None:
    """Association requests: judged, never stumbled over."""
    try:
        associate_request_check(data)
    except ProtocolViolationError as error:
        holds(error.code in REQUEST_CODES, f"the code {error.code} is not known")


def question(data: bytes) -> None:
    """Identifiers of queries: refused as C-FIND refuses, or asked, and then answered by what can be read."""
    if not data:
        return
    explicit = bool(data[0] & 1)
    try:
        elements = elements_read(data[1:], explicit=explicit, beginning=bool(data[0] & 2))
        read = question_read(elements, model=STUDY_ROOT_FIND, folding=Folding(fuzzy=True), relational=True)
    except QueryError as error:
        holds(error.status in (0xA900, 0xC000), f"the status {error.status:04X} is not one of a question")
        holds(len(str(error)) <= COMMENT_BYTES and str(error).isascii(), "the words are no Error Comment")
        return
    codecs = codecs_of(read.charset)
    asked = {key.tag: key.vr for key in read.keys if key.tag in elements}  # others are told without being asked for
    values = {tag: value_of(elements[tag], vr, codecs) for tag, vr in asked.items()}
    for key in read.keys:
        if key.match is not None:
            key.match.matches(values[key.tag])
    values |= {key.tag: None for key in read.keys if key.tag not in elements}
    answer = AnswerEncoder(read, explicit=explicit, retrieve_ae_title="GATEWAY").encode(values)
    holds(set(values) <= set(elements_read(answer, explicit=explicit)), "the answer lacks what was asked")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "scan": scan,
    "readings": readings,
    "part10": part10,
    "content": content,
    "command": command,
    "request": request,
    "question": question,
}
