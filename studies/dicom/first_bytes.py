"""What the first bytes of an object look like, said without showing any of them: they may name a patient."""

HEAD_BYTES = 512

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "It begins like a JPEG picture."),
    (b"\x00\x00\x00\x0cjP  ", "It begins like a JPEG 2000 picture."),
    (b"\x89PNG\r\n\x1a\n", "It begins like a PNG picture."),
    (b"GIF8", "It begins like a GIF picture."),
    (b"BM", "It begins like a BMP picture."),
    (b"II*\x00", "It begins like a TIFF picture."),
    (b"MM\x00*", "It begins like a TIFF picture."),
    (b"%PDF", "It begins like a PDF document."),
    (b"PK\x03\x04", "It begins like a ZIP archive or an Office document."),
    (b"\x1f\x8b", "It begins like a gzip archive."),
    (b"MZ", "It begins like a Windows program."),
    (b"\x7fELF", "It begins like a Linux program."),
    (b"MSH|", "It begins like an HL7 message."),
    (b"\x0bMSH|", "It begins like an HL7 message."),
    (b"<?xml", "It begins like an XML document."),
    (b"<!DOCTYPE", "It begins like a web page."),
    (b"<html", "It begins like a web page."),
    (b"{", "It begins like a JSON document."),
)
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)


def first_bytes_words(head: bytes) -> str:
    """One sentence about the beginning of an object; no byte of it is repeated."""
    if not head:
        return "It is empty."
    if head[128:132] == b"DICM":
        return "It begins like a DICOM file: a preamble and the letters DICM."
    if not any(head):
        return "It begins with zeros alone."
    for signature, words in _SIGNATURES:
        if head.startswith(signature):
            return words
    return _dataset_words(head) or _text_words(head)


def _dataset_words(head: bytes) -> str:
    """A data set without preamble begins with a low group number, in one byte order or the other (PS3.5 7.1)."""
    if len(head) < 8:
        return ""
    for order, name in (("little", "little-endian"), ("big", "big-endian")):
        group = int.from_bytes(head[:2], order)  # type: ignore[arg-type]
        if 0x0002 <= group <= 0x0040 and group % 2 == 0:
            coded = "with explicit VR" if head[4:6] in _VRS else "with implicit VR"
            return f"It begins like a DICOM data set in {name} byte order {coded}, in group {group:04X}."
    return ""


def _text_words(head: bytes) -> str:
    printable = sum(32 <= byte < 127 or byte in (9, 10, 13) for byte in head)
    if printable == len(head):
        return "It begins like plain text; what it says is not shown here."
    return "Its beginning is of no kind that is known here."
