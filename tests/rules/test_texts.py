"""Words that people give us: bounded, and such that every store takes them."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.rules.errors import Code
from app.rules.texts import LONGEST_NAME, LONGEST_SHOWN, not_json, refuse_text, shown


@pytest.mark.parametrize(
    "text",
    ["a", "Zoë's agent", "日本語", "שלום\u200f", "நெ\u200d", "a\nb\tc", "\U0001f600", "x" * LONGEST_NAME],
)
def test_words_pass(text: str) -> None:
    assert refuse_text("name", text) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("\n\t", "empty"),
        ("x" * (LONGEST_NAME + 1), "201 characters"),
        ("a\0b", "control"),
        ("a\x1bb", "control"),
        ("a\rb", "control"),
        ("a\x7fb", "control"),
        ("a\ud800b", "U+D800"),
        ("a\x85b", "U+0085"),
        ("a\x9bb", "U+009B"),
        ("invoice\u202etxt.exe", "U+202E"),
        ("a\u2066b\u2069", "U+2066"),
        ("a\u2028b", "U+2028"),
    ],
)
def test_what_some_store_or_reader_cannot_take_is_refused_and_named(text: str, why: str) -> None:
    refusal = refuse_text("name", text)
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.INVALID, ("name",))
    assert refusal.message.startswith("name ")
    assert why in refusal.message


def test_words_are_cut_where_they_are_repeated() -> None:
    assert shown("x" * LONGEST_SHOWN) == "x" * LONGEST_SHOWN
    assert shown("x" * (LONGEST_SHOWN + 1)) == "x" * (LONGEST_SHOWN - 1) + "…"


def test_empty_words_pass_where_they_may() -> None:
    assert refuse_text("description", "", empty=True) is None
    assert refuse_text("description", "a\0", empty=True) is not None


@given(some.text(some.characters(codec=None), max_size=20))
def test_what_passes_can_be_stored_as_utf8_and_written_as_json(text: str) -> None:
    if refuse_text("name", text) is None:
        assert b"\0" not in text.encode()
        assert orjson.loads(orjson.dumps(text)) == text


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"a": [1,]}', 'line 1, column 9: "trailing comma is not allowed"'),
        (b'{"a":\n 1', 'line 2, column 3: "unexpected end of data"'),
        (b'{"a": "\xff"}', "byte 8 begins nothing that is UTF-8"),
    ],
)
def test_what_is_no_json_is_told_where(raw: bytes, said: str) -> None:
    with pytest.raises(orjson.JSONDecodeError) as wrong:
        orjson.loads(raw)
    assert not_json(raw, wrong.value) == said
