"""Bodies: what two readers might read in two ways is not read at all."""

import json
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.rules.content.bodies import (
    DEEPEST,
    EMPTY,
    GUARDED_BYTES,
    GUARDED_TEXT_BYTES,
    MOST_NODES,
    Body,
    longest,
    read,
    size_at_most,
)
from app.rules.content.denials import Denial
from app.rules.errors import Code

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def body(raw: bytes, content_type: str | None = JSON) -> Body:
    """A body that is read."""
    found = read(raw, content_type)
    assert isinstance(found, Body), found
    return found


def denied(raw: bytes, content_type: str | None = JSON) -> Denial:
    """Why a body is not read."""
    found = read(raw, content_type)
    assert isinstance(found, Denial), found
    assert found.detail.endswith(".")
    return found


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"{}", {}),
        (b' {"a": [1, -2.5, true, null, "x"]}\r\n', {"a": [1, -2.5, True, None, "x"]}),
        (b'"\\ud83d\\ude00\\u0000"', "😀\0"),
        (b"9007199254740991", 2**53 - 1),
        (b"-9007199254740991", 1 - 2**53),
        (b"1e30", 1e30),
        (b"-1e-30", -1e-30),
        (b"0.0", 0.0),
        (b"0.12345678901234567890", 0.12345678901234567890),
        (b'{"a":1,"b":{"a":1}}', {"a": 1, "b": {"a": 1}}),
        (b'{"card":"4111111111111111"}', {"card": "4111111111111111"}),
        ('{"é":"\u2028\ufeff"}'.encode(), {"é": "\u2028\ufeff"}),
    ],
)
def test_plain_json_is_read_as_every_reader_reads_it(raw: bytes, value: Any) -> None:
    found = body(raw)
    assert (found.is_json, found.value) == (True, value)
    assert found.size.bytes == len(raw)


@pytest.mark.parametrize("content_type", [None, JSON, "text/plain", "image/png", "nonsense"])
def test_an_empty_body_is_null_whatever_it_is_called(content_type: str | None) -> None:
    assert read(b"", content_type) is EMPTY
    assert (EMPTY.is_json, EMPTY.value, list(EMPTY.strings)) == (True, None, [])


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b'{"a":1,"a":2}', "same key twice"),
        (b'{"a":1,"\\u0061":2}', "same key twice"),
        (b'[{"x":{"a":1,"b":2,"a":1}}]', "same key twice"),
        (b'{"":1,"":1}', "same key twice"),
        (b'{"total":1,"Total":2}', "case alone"),
        ('{"s":1,"\u017f":2}'.encode(), "case alone"),
        (b"NaN", "no JSON"),
        (b"[Infinity]", "no JSON"),
        (b"-Infinity", "no JSON"),
        (b"1e999", "no JSON"),
        (b"[-1e999]", "no JSON"),
        (b"1" * 400, "no JSON"),
        (b"1e31", "beyond 1e30"),
        (b"1e-31", "below 1e-30"),
        (b"5e-324", "below 1e-30"),
        (b"9007199254740992", "beyond 2^53-1"),
        (b"-9007199254740992", "beyond 2^53-1"),
        (b"[1,18446744073709551616]", "beyond 2^53-1"),
        (b'"\\ud800"', "no JSON"),
        (b'"\\udc00\\ud800"', "no JSON"),
        (b'"\xed\xa0\x80"', "no JSON"),
        (b'"\xff"', "no JSON"),
        (b'"\xc0\xaf"', "no JSON"),
        (b'\xef\xbb\xbf{"a":1}', "byte order mark"),
        ('{"a":1}'.encode("utf-16"), "no JSON"),
        ('{"a":1}'.encode("utf-16-le"), "no JSON"),
        ('{"a":1}'.encode("utf-32-be"), "no JSON"),
        (b"{'a':1}", "no JSON"),
        (b'{"a":1,}', "no JSON"),
        (b'{"a":1} {"a":2}', "no JSON"),
        (b'{"a":1}//', "no JSON"),
        (b'{"a":01}', "no JSON"),
        (b'"\t"', "no JSON"),
        (b" ", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "levels deep"),
        (b'{"a":' * DEEPEST + b"1" + b"}" * DEEPEST, "levels deep"),
        (b"[" + b"1," * MOST_NODES + b"1]", "keys and values"),
        (b"{" + b",".join(b'"%d":1' % each for each in range(MOST_NODES // 2)) + b"}", "keys and values"),
    ],
)
@pytest.mark.parametrize("content_type", [JSON, "application/vnd.api+json; charset=UTF-8", "text/json"])
def test_json_that_some_read_differently_is_unreadable(raw: bytes, why: str, content_type: str) -> None:
    denial = denied(raw, content_type)
    assert denial.code is Code.BODY_UNREADABLE
    assert why in denial.detail


@pytest.mark.parametrize("content_type", [None, "text/plain", FORM, "application/octet-stream", "image/png"])
def test_what_looks_like_json_is_read_as_json_whatever_it_is_called(content_type: str | None) -> None:
    assert body(b' \n{"a":"\\u0041"}', content_type).value == {"a": "A"}
    for twofold in (b'{"a":1,"a":2}', b'\t["\\ud800"]', b'"\\x"', "\u00a0{'a':1}".encode()):
        assert denied(twofold, content_type).code is Code.BODY_UNREADABLE


def test_a_body_may_be_as_deep_and_as_large_as_it_says() -> None:
    assert body(b"[" * DEEPEST + b"]" * DEEPEST).size.nodes == DEEPEST
    assert body(b"[" + b"1," * (MOST_NODES - 2) + b"1]").size.nodes == MOST_NODES
    assert body(b'"%b"' % (b"x" * (GUARDED_BYTES - 2))).value
    assert body(b"x" * GUARDED_TEXT_BYTES, "text/plain").raw
    for raw, content_type, most in (
        (b'"%b"' % (b"x" * (GUARDED_BYTES - 1)), JSON, GUARDED_BYTES),
        (b"x" * (GUARDED_TEXT_BYTES + 1), "text/plain", GUARDED_TEXT_BYTES),
        (b'"%b"' % (b"x" * GUARDED_TEXT_BYTES), None, GUARDED_TEXT_BYTES),
    ):
        denial = denied(raw, content_type)
        assert denial.code is Code.REQUEST_TOO_LARGE
        assert str(most) in denial.detail


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (b"hello", None),
        (b"hello", "text/plain"),
        ("hällo".encode(), "text/plain; charset=utf-8"),
        (b"hello", 'text/plain;charset="UTF-8";format=flowed;'),
        (b"hello", "text/plain; charset=us-ascii"),
        (b"a=1&b=2", FORM),
        (b"<a>1</a>", "application/xml"),
        (b"5", "text/plain"),
        (b"query { a }", "application/graphql"),
    ],
)
def test_other_text_is_no_json_and_stands_as_it_is(raw: bytes, content_type: str | None) -> None:
    found = body(raw, content_type)
    assert (found.is_json, found.value, found.raw) == (False, None, raw)


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        ("hello".encode("utf-16"), "text/plain"),
        ("hello".encode("utf-16-le"), None),
        (b"\xef\xbb\xbfhello", "text/plain"),
        (b"h\0ello", "text/plain"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"--x\r\n\r\n\xff\xd8\xff\r\n--x--", "multipart/form-data; boundary=x"),
        ("é".encode("latin-1"), "text/plain"),
        (b"a=%ff", FORM),
        (b"a=%c0%af", FORM),
        *(
            (b"{}", f"application/json; charset={name}")
            for name in ("utf-16", "utf-7", "latin1", '"utf-16le"')
        ),
        (b"+AHs-", "text/plain;charset=utf-7"),
        (b"{}", "application/json; charset*=utf-16''x"),
        (b"{}", "application/json; charset=utf-8; charset=utf-16"),
        *(
            (b"{}", none)
            for none in ("", "json", "application/json, text/plain", "application/json; charset")
        ),
        (b"{}", f"application/json; x={'y' * 300}"),
    ],
)
def test_what_is_no_text_in_utf_8_is_unreadable(raw: bytes, content_type: str | None) -> None:
    assert denied(raw, content_type).code is Code.BODY_UNREADABLE


@pytest.mark.parametrize(
    ("raw", "content_type", "hidden"),
    [
        (b"q=dr%6Fp", FORM, "q=drop"),
        (b"q=a+b", FORM, "q=a b"),
        (b"q=dr%256Fp", FORM, "q=drop"),
        (b"q=dr%25256Fp", FORM, "q=drop"),
        (b"dr%6Fp", "text/plain", "drop"),
        (b"dr%256Fp", None, "drop"),
        (b"dr&#111;p", "text/xml", "drop"),
        (b"dr&amp;#x6f;p", "text/xml", "drop"),
        (rb"dr\u006fp", "application/yaml", "drop"),
        (rb"dr\x6fp", None, "drop"),
        (rb"\ud83d\ude00", None, "😀"),
        (b'{"a":"dr\\u006fp"}', JSON, "drop"),
        (b'{"dr\\u006fp":1}', JSON, "drop"),
        (b'{"a":"dr%6Fp"}', FORM, '{"a":"drop"}'),
    ],
)
def test_what_escapes_hide_is_among_the_strings(raw: bytes, content_type: str | None, hidden: str) -> None:
    found = body(raw, content_type)
    assert hidden in found.strings
    assert not found.plain


def test_what_is_escaped_again_and_again_is_unreadable() -> None:
    assert "escaped" in denied(b"%2525252541", FORM).detail
    assert denied(b"&amp;amp;amp;amp;lt;", "text/xml").code is Code.BODY_UNREADABLE


def test_a_text_without_escapes_stands_plain() -> None:
    assert body(b'{"a":"b"}').plain
    assert body(b"hello", None).plain
    assert not body(b'{"a":"\\n"}').plain


values = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(1 - 2**53, 2**53 - 1)
    | some.floats(1e-30, 1e30)
    | some.text(some.characters(exclude_categories=["Cs"]), max_size=8),
    lambda below: (
        some.lists(below, max_size=4) | some.dictionaries(some.text("ab", max_size=3), below, max_size=4)
    ),
    max_leaves=12,
)


def strings(value: Any) -> list[str]:
    """Keys and texts, however deep."""
    match value:
        case str():
            return [value]
        case list():
            return [text for each in value for text in strings(each)]
        case dict():
            return [*value, *strings(list(value.values()))]
    return []


@given(values, some.booleans(), some.sampled_from([JSON, None, "text/plain"]))
def test_any_ordinary_value_is_read_as_it_was_written(
    value: Any, ascii: bool, content_type: str | None
) -> None:
    raw = json.dumps(value, ensure_ascii=ascii).encode()
    found = body(raw)
    assert found.value == value
    assert sorted(found.strings) == sorted(strings(value))
    most = size_at_most(raw)
    assert all(is_there <= at_most for is_there, at_most in zip(found.size, most, strict=True))
    if isinstance(value, str | list | dict):
        assert body(raw, content_type).value == value


@given(
    some.binary(max_size=60),
    some.none() | some.text(max_size=40) | some.sampled_from([JSON, FORM, "text/xml"]),
)
def test_reading_never_raises_and_is_the_same_each_time(raw: bytes, content_type: str | None) -> None:
    assert read(raw, content_type) == read(raw, content_type)


@pytest.mark.parametrize(
    ("piece", "content_type"),
    [
        *((piece, FORM) for piece in (b"%2541", b"%C3%A9", b"+", b"%")),
        *((piece, "text/xml") for piece in (b"&amp;", b"&", b"&#65;", b"&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")),
        *((piece, None) for piece in (rb"\u0041", b"\\", b"&a%41\\u0041")),
        *((piece, JSON) for piece in (b"[", b"[],", b'{"a":', b'"', b"1", b"1,", b"\\")),
    ],
)
def test_no_body_takes_long_to_read(piece: bytes, content_type: str | None) -> None:
    most = GUARDED_BYTES if content_type == JSON else GUARDED_TEXT_BYTES
    raw = piece * (most // len(piece))
    started = process_time()
    for whole in (raw, b"[" + raw[:-2], b'"' + raw[:-2] + b'"'):
        read(whole, content_type)
    assert process_time() - started < 1


@pytest.mark.parametrize("semicolons", [b"; " * 120, b";a=b" * 60, b" ;" * 120, b'; a="' * 40])
def test_no_content_type_takes_long_to_read(semicolons: bytes) -> None:
    started = process_time()
    read(b"{}", f"application/json{semicolons.decode()}")
    assert process_time() - started < 0.5


def test_reading_is_expected_to_take_longer_the_larger_a_body_may_be() -> None:
    assert longest(size_at_most(b"{}")) < 50 < 1_000 < longest(size_at_most(b"[1]," * 9_000))
