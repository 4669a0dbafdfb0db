import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, decode_bytes, encode_string

from studies.dicom.charset import charset_is_known, text_decode


@pytest.mark.parametrize(
    ("declared", "raw", "text"),
    [
        (b"", b"Doe^John", "Doe^John"),
        (b"ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
        (b"ISO_IR 192", "Wáng^小东".encode(), "Wáng^小东"),
        (b"GB18030", "王^小东\\钢".encode("gb18030"), "王^小东\\钢"),
        (b"GBK", "王^小东".encode("gbk"), "王^小东"),
        (b"ISO_IR 144", b"\xbb\xee\xda\xdc\xd1", "Люкмб"),
        (b"ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        (b"ISO_IR 166", b"\xb9\xd2", "นา"),
        # PS3.5 H.3.1, example 1: three groups, JIS X 0208 between escapes
        (
            b"\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        # PS3.5 I.2: KS X 1001 in G1, to be designated anew after each delimiter
        (
            b"\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
        # PS3.5 K.2: GB 2312 in G1
        (b"\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=", "Zhang^XiaoDong=张^小东="),
        # JIS X 0212 beside JIS X 0208
        (b"\\ISO 2022 IR 87\\ISO 2022 IR 159", b"\x1b$(D\x30\x21\x1b$B;3\x1b(B", "丂山"),
        (b"ISO 2022 IR 100\\ISO 2022 IR 144", b"Dion\xeds\x1b-L\xbb\xee", "DionísЛю"),
    ],
)
def test_standard_examples_are_decoded(declared, raw, text):
    assert text_decode(raw, declared=declared, person_name=True) == text
    assert charset_is_known(declared)


def test_delimiter_of_a_name_puts_the_first_set_back():
    raw = b"\x1b-L\xbb^\xe9"
    assert text_decode(raw, declared=b"ISO 2022 IR 100\\ISO 2022 IR 144", person_name=True) == "Л^é"
    assert text_decode(raw, declared=b"ISO 2022 IR 100\\ISO 2022 IR 144") == "Л^щ"


@pytest.mark.parametrize(
    "spelling", [b"ISO_IR 100", b"ISO-IR 100", b"ISO IR 100", b"iso_ir 100 ", b"ISO_IR_100", b"ISO_IR100"]
)
def test_common_misspellings_are_understood(spelling):
    assert charset_is_known(spelling)
    assert text_decode(b"\xe9", declared=spelling) == "é"


def test_controls_overrides_and_padding_are_removed():
    raw = "\u202eDoe\x00\x07^\x85J\u2028ohn\ufeff  ".encode()
    assert text_decode(b"  " + raw, declared=b"ISO_IR 192") == "Doe^John"


@pytest.mark.parametrize("raw", [b"A\x1bB", b"A\x1b%/IB", b"A\x1b$ZB", b"A\x1b"])
def test_unknown_escape_is_replaced_and_leaves_no_control(raw):
    text = text_decode(raw, declared=b"\\ISO 2022 IR 87")
    assert text.startswith("A\ufffd")
    assert "\x1b" not in text


def test_utf8_knows_no_escapes():
    assert text_decode(b"A\x1b$BB", declared=b"ISO_IR 192") == "A$BB"


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"ISO_IR 999", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"ISO 2022 IR 149", b"GB18030"]),
)
def test_any_bytes_become_safe_text(raw, declared):
    text = text_decode(raw, declared=declared, person_name=True)
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in text)
    text.encode()  # no surrogates: a database takes it


@given(st.binary(max_size=60))
def test_any_declaration_is_taken(declared):
    assert isinstance(charset_is_known(declared), bool)
    assert text_decode(b"Doe\xe9\x1b$B", declared=declared).startswith("Doe")


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        (["", "ISO 2022 IR 87"], "Yamada 山田 太郎"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ 山田"),
        (["", "ISO 2022 IR 149"], "Hong 洪吉洞"),
        (["ISO 2022 IR 100", "ISO 2022 IR 144", "ISO 2022 IR 126"], "é Люк αβγ"),
        (["ISO 2022 IR 6", "ISO 2022 IR 138", "ISO 2022 IR 127"], "a שרון ب"),
    ],
)
def test_what_pydicom_encodes_is_read_as_pydicom_reads_it(terms, text):
    encodings = convert_encodings(list(terms))
    raw = encode_string(text, encodings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_bytes(raw, encodings, set(b"\\")) == text
    assert text_decode(raw, declared="\\".join(terms).encode()) == text
