"""The path that was authorised is the path on the wire: what can be read in two ways is not read at all."""

import posixpath
from urllib.parse import unquote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from app.rules.paths import LONGEST, is_plain, is_query, parse_path, wire_path

PLAIN = {
    b"/a": ("a",),
    b"/v1/receipts/42": ("v1", "receipts", "42"),
    b"/a%20b": ("a b",),
    b"/caf%C3%A9": ("café",),
    b"/caf%c3%a9": ("café",),
    b"/a+b": ("a+b",),
    b"/a%2Bb": ("a+b",),
    b"/~user/@me/a:b,c": ("~user", "@me", "a:b,c"),
    b"/%41": ("A",),
    b"/...": ("...",),
    b"/..a": ("..a",),
    b"/a..": ("a..",),
    b"/.well-known/x": (".well-known", "x"),
    b"/a%3Bb": ("a;b",),
    b"/50%25": ("50%",),
    b"/!$&'()*+,=": ("!$&'()*+,=",),
    b"/%E2%80%A6": ("…",),
}

#: Spellings that some server, proxy or client library is known to read as another path than the rest do.
AMBIGUOUS = {
    "a dot segment": b"/v1/../admin",
    "a dot segment at the end": b"/v1/..",
    "a single dot": b"/v1/./admin",
    "a dot alone": b"/.",
    "encoded dots": b"/v1/%2e%2e/admin",
    "encoded dots in upper case": b"/v1/%2E%2E/admin",
    "a dot and an encoded dot": b"/v1/.%2e/admin",
    "an encoded dot and a dot": b"/v1/%2e./admin",
    "an encoded single dot": b"/v1/%2e/admin",
    "twice encoded dots": b"/v1/%252e%252e/admin",
    "half of them twice encoded": b"/v1/%2e%252e/admin",
    "thrice encoded dots": b"/v1/%25252e%25252e/admin",
    "an escape put together by decoding": b"/v1/%25%32%65",
    "an encoded slash": b"/v1/a%2fb",
    "an encoded slash in upper case": b"/v1/a%2Fb",
    "a twice encoded slash": b"/v1/a%252fb",
    "dots and an encoded slash in one segment": b"/v1/..%2fadmin",
    "a backslash": b"/v1\\..\\admin",
    "an encoded backslash": b"/v1/..%5cadmin",
    "a backslash alone, encoded": b"/v1/a%5Cb",
    "a path parameter": b"/v1/a;b=c/admin",
    "a path parameter behind dots": b"/v1/..;/admin",
    "an encoded path parameter behind dots": b"/v1/..%3b/admin",
    "a path parameter behind one dot": b"/v1/.;x=y/admin",
    "an empty segment": b"/v1//admin",
    "an empty segment at the start": b"//v1/admin",
    "an empty segment at the end": b"/v1/admin/",
    "nothing but a slash": b"/",
    "nothing": b"",
    "no slash at the start": b"v1/admin",
    "another server": b"http://elsewhere/v1",
    "a NUL": b"/v1/a%00",
    "a NUL behind dots": b"/v1/..%00/admin",
    "a line feed": b"/v1/a%0a",
    "a carriage return and a line feed": b"/v1/a%0d%0aHost:%20x",
    "a raw line feed": b"/v1/a\nb",
    "a tab": b"/v1/a%09b",
    "a delete": b"/v1/a%7f",
    "a C1 control": b"/v1/a%c2%85",
    "a raw space": b"/v1/a b",
    "a fragment": b"/v1/a#b",
    "a query": b"/v1/a?b",
    "half an escape": b"/v1/a%2",
    "a percent sign alone": b"/v1/a%",
    "an escape that is none": b"/v1/a%zz",
    "an IIS escape": b"/v1/%u002e%u002e/admin",
    "an overlong dot": b"/v1/%c0%ae%c0%ae/admin",
    "an overlong slash": b"/v1/..%c0%afadmin",
    "a longer overlong slash": b"/v1/..%e0%80%afadmin",
    "a lone continuation byte": b"/v1/%80",
    "half a surrogate pair": b"/v1/%ed%a0%80",
    "raw bytes beyond ASCII": "/v1/é".encode(),
    "fullwidth dots": b"/v1/%ef%bc%8e%ef%bc%8e/admin",
    "a dot and a fullwidth dot": b"/v1/.%ef%bc%8e/admin",
    "a fullwidth slash": b"/v1/..%ef%bc%8fadmin",
    "a fullwidth backslash": b"/v1/..%ef%bc%bcadmin",
    "a fullwidth escape": b"/v1/%ef%bc%852e%ef%bc%852e",
    "small dots": b"/v1/%ef%b9%92%ef%b9%92/admin",
    "a two dot leader": b"/v1/%e2%80%a5/admin",
    "one dot leaders": b"/v1/%e2%80%a4%e2%80%a4/admin",
    "an account-of sign, which holds a slash": b"/v1/a%e2%84%80b",
    "a right-to-left override": b"/v1/%e2%80%aeba",
    "a zero-width space": b"/v1/a%e2%80%8bb",
    "a line separator": b"/v1/a%e2%80%a8b",
    "too long": b"/" + b"a" * LONGEST,
}

segments = some.lists(some.text(min_size=1, max_size=8).filter(is_plain), min_size=1, max_size=4).map(tuple)
#: Bytes that look like paths, with what attackers put in them.
raw_paths = some.lists(
    some.sampled_from(
        [
            b"/",
            b"/",
            b".",
            b"%2e",
            b"%2E",
            b"%25",
            b"2e",
            b"%2f",
            b"%5c",
            b";",
            b"%3b",
            b"a",
            b"%00",
            b"%c0%ae",
        ]
    ),
    max_size=12,
).map(b"".join)


@pytest.mark.parametrize(("raw", "read"), PLAIN.items())
def test_a_plain_path_is_read(raw: bytes, read: tuple[str, ...]) -> None:
    assert parse_path(raw) == read


@pytest.mark.parametrize("raw", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_path_that_can_be_read_in_two_ways_is_not_read_at_all(raw: bytes) -> None:
    assert parse_path(raw) is None


@given(segments)
@example(("%", ";", "&", "+", "~", "é", "\U0001f600"))
def test_what_goes_on_the_wire_reads_as_what_was_authorised(path: tuple[str, ...]) -> None:
    assert parse_path(wire_path(path).encode("ascii")) == path


@given(raw_paths)
@example(b"/a/%2e%2e/b")
@example(b"/a/%252e%252e/b")
def test_a_path_that_is_read_holds_no_dot_segment_however_often_the_other_side_decodes(raw: bytes) -> None:
    read = parse_path(raw)
    if read is None:
        return
    once = unquote_to_bytes(raw)
    for decoded in (raw, once, unquote_to_bytes(once)):
        text = decoded.decode("latin-1")
        assert not {".", ".."} & {part.partition(";")[0] for part in text.replace("\\", "/").split("/")}
        assert posixpath.normpath(text) == text, "nobody can shorten it"


@given(raw_paths)
def test_reading_and_writing_again_changes_nothing_more(raw: bytes) -> None:
    read = parse_path(raw)
    if read is not None:
        wire = wire_path(read)
        assert wire.isascii()
        assert wire_path(parse_path(wire.encode()) or ()) == wire
        assert unquote(wire) == unquote(raw.decode())


@given(some.text(max_size=8))
def test_a_plain_segment_has_no_slash_no_control_and_is_no_dot_segment(segment: str) -> None:
    if is_plain(segment):
        assert segment not in ("", ".", "..")
        assert not set("/\\\0\r\n") & set(segment)


@pytest.mark.parametrize(
    "raw", [b"", b"a=b", b"a=b&c=%20", b"a[]=1&b|c", b"q=/x?y", b"%E2%82%AC", b"a;b", b"x" * LONGEST]
)
def test_a_query_of_rfc_3986_and_what_browsers_send_passes(raw: bytes) -> None:
    assert is_query(raw)


@pytest.mark.parametrize(
    "raw",
    [b"a b", b"a#b", b"%2", b"%zz", b'"', b"<", b"\\", b"\r\n", b"\x00", "é".encode(), b"x" * (LONGEST + 1)],
)
def test_a_query_with_anything_else_does_not(raw: bytes) -> None:
    assert not is_query(raw)
