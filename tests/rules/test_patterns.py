"""denyPatterns: what one of them describes is denied, however it is written, and none takes long."""

import json
import random
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.rules.content.bodies import Body, read
from app.rules.content.denials import Denial
from app.rules.content.patterns import (
    LONGEST_PATTERN,
    MOST_INSTRUCTIONS,
    MOST_PATTERNS,
    MOST_WORK,
    compiled,
    judge,
    longest,
    refuse,
)
from app.rules.errors import Code

TYPICAL = (
    r"(?i)\b(drop|delete)\s+table\b",
    r"\d{3}-\d{2}-\d{4}",
    r"(?i)password\s*[:=]",
    r"<script",
    r"\b(?:\d[ -]*?){13,16}\b",
)


def body(raw: bytes | str, content_type: str | None = "application/json") -> Body:
    """A body that is read."""
    found = read(raw.encode() if isinstance(raw, str) else raw, content_type)
    assert isinstance(found, Body), found
    return found


def denies(pattern: str, raw: bytes | str, content_type: str | None = "application/json") -> bool:
    """Whether a pattern that is fine denies a body."""
    assert refuse([pattern]) is None
    denial = judge((pattern,), body(raw, content_type))
    if denial:
        assert denial == Denial(
            Code.PATTERN_DENIED, "The body holds what denyPatterns[0] of the terms denies."
        )
    return denial is not None


@pytest.mark.parametrize(
    "patterns",
    [
        [],
        TYPICAL,
        ["a"] * MOST_PATTERNS,
        ["a" * LONGEST_PATTERN],
        [r"\\A", r"\\Q", r"[(]?-m"],
        ["(?P<n>a)", "(?P<n>b)"],
        ["(?i)a", "(?s:a.b)", "(?im-s:a)"],
        ["^$"],
        ["[^ -~]"],
        [r"\pN"],
    ],
)
def test_good_patterns_pass(patterns: list[str]) -> None:
    assert refuse(patterns) is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "is empty"),
        ("a" * (LONGEST_PATTERN + 1), "501 characters"),
        ("(", 'is no RE2 pattern, RE2 says "missing ): (": see github.com/google/re2/wiki/Syntax'),
        ("a)|(?:b", "unexpected )"),
        ("[a", "missing ]"),
        ("a\\", "trailing \\"),
        ("(?i", "is no RE2 pattern"),
        ("(?=a)", "(?="),
        (r"(a)\1", r"\1"),
        (r"\E", r"\E"),
        ("a{1001}", "{1001}"),
        ("\ud800", "half a character"),
        (r"\Aa", "write ^"),
        (r"a\z", "write $"),
        (r"\Qa", "backslash"),
        (r"\C", "parts of characters"),
        ("(?-m)^a", "(?m) off"),
        ("(?i-sm:^a)", "(?m) off"),
        ("a*", "every body"),
        ("|a", "every body"),
        (r"\pL{90}", "too large"),
    ],
)
def test_a_wrong_pattern_is_named_by_its_path(pattern: str, why: str) -> None:
    refusal = refuse(["fine", pattern])
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.PATTERN_INVALID, ("constraints", "denyPatterns", "1"))
    assert refusal.message.startswith("constraints.denyPatterns[1] ")
    assert why in refusal.message
    assert len(refusal.message) < 400


def test_too_many_patterns_and_too_much_of_them_are_refused() -> None:
    refusal = refuse(["a"] * (MOST_PATTERNS + 1))
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.LIMIT_REACHED, ("constraints", "denyPatterns"))
    for much in (["a[ab]{900}b", "b[ab]{900}c", "c[ab]{900}d"], [rf"\pL{{{each}}}x" for each in range(1, 8)]):
        refusal = refuse(much)
        assert refusal is not None
        assert (refusal.code, refusal.path) == (Code.PATTERN_INVALID, ("constraints", "denyPatterns"))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"q":"drop"}',
        b'{"q":"dr\\u006fp"}',
        b'{"q":"\\u0064\\u0072\\u006f\\u0070"}',
        b'{"q":["a",{"b":"xdropx"}]}',
        b'{"drop":1}',
        b'{"\\u0064rop":1}',
        b'"drop"',
        b'[1,2,"\\ndrop"]',
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
def test_json_hides_nothing(raw: bytes, content_type: str | None) -> None:
    assert denies("drop", raw, content_type)
    assert not denies("prod", raw, content_type)


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (b"drop", None),
        (b"q=drop", "application/x-www-form-urlencoded"),
        (b"q=dr%6fp", "application/x-www-form-urlencoded"),
        (b"q=dr%256Fp", "application/x-www-form-urlencoded"),
        (b"q=%64%72%6f%70", "text/plain"),
        (b'{"q":"%64rop"}', "application/x-www-form-urlencoded"),
        (b"<q>&#100;rop</q>", "application/xml"),
        (rb"q: '\u0064rop'", "application/yaml"),
    ],
)
def test_other_text_hides_no_less(raw: bytes, content_type: str | None) -> None:
    assert denies("drop", raw, content_type)


def test_the_raw_text_is_matched_too() -> None:
    assert denies(r'"role":\s*"admin"', '{"role": "admin"}')
    assert denies(r'"total":1[0-9]{3}', '{"total":1000}')
    assert denies(r"\\u0000", '"\\u0000"')
    assert denies("%6f", b"dr%6fp", "text/plain")


@pytest.mark.parametrize(
    ("pattern", "raw", "denied"),
    [
        ("^admin$", '{"role":"admin"}', True),
        ("^admin$", '{"role":"\\u0061dmin"}', True),
        ("^admin$", '{"admin":1}', True),
        ("^admin$", '{"role":"administrator","x":"the admin"}', False),
        ("^admin$", '{"role":"a\\nadmin\\nb"}', True),
        (r"\badmin\b", '{"role":"admin"}', True),
        (r"\badmin\b", '{"role":"xadmin"}', False),
        ("^$", '{"a":""}', True),
        # two strings never stand together
        ("ab", '["a","b"]', False),
        (r"a\s+b", '["a","b"]', False),
        ("a.b", '["a","b"]', False),
        # case is the pattern's own business
        ("admin", '"Admin"', False),
        ("(?i)admin", '"Admin"', True),
    ],
)
def test_anchors_stand_for_the_ends_of_strings(pattern: str, raw: str, denied: bool) -> None:
    assert denies(pattern, raw) is denied


@pytest.mark.parametrize("at", range(3))
def test_each_of_several_patterns_denies_and_is_named(at: int) -> None:
    patterns = ("(?i)one|uno", "^two$", "three")
    denial = judge(patterns, body(json.dumps({"x": ("ONE", "two", "three")[at]})))
    assert denial == Denial(
        Code.PATTERN_DENIED, f"The body holds what denyPatterns[{at}] of the terms denies."
    )
    assert judge(patterns, body('"four"')) is None


def test_an_empty_body_holds_nothing() -> None:
    assert not denies("a", b"")
    assert not denies("[^a]", b"")


texts = some.text(some.characters(exclude_categories=["Cs"]), max_size=6)
words = some.text("abcdefXYZ0é😀", min_size=1, max_size=6)


def spelled(text: str, escaped: list[bool]) -> str:
    """A JSON string literal in which some characters are escaped."""
    units = text.encode("utf-16-be")
    codes = [units[at : at + 2] for at in range(0, len(units), 2)]
    written = []
    for at, code in enumerate(codes):
        number = int.from_bytes(code)
        plain = number < 0x80 and chr(number).isalnum() and not escaped[at % len(escaped)]
        written.append(chr(number) if plain else f"\\u{number:04x}")
    return f'"{"".join(written)}"'


@given(
    words, texts, texts, some.lists(some.booleans(), min_size=1), some.sampled_from(["value", "key", "deep"])
)
def test_a_denied_word_is_denied_however_it_is_escaped(
    word: str, before: str, after: str, escaped: list[bool], place: str
) -> None:
    literal = spelled(before + word + after, escaped)
    raw = {"value": literal, "key": f"{{{literal}:1}}", "deep": f'[1,{{"a":[{literal}]}}]'}[place]
    assert denies(word, raw)


@given(words, some.integers(0, 2))
def test_a_denied_word_is_denied_however_often_it_is_percent_encoded(word: str, rounds: int) -> None:
    raw = "".join(f"%{each:02x}" for each in word.encode())
    for _ in range(rounds):
        raw = raw.replace("%", "%25")
    assert denies(word, f"q={raw}", "application/x-www-form-urlencoded")


random.seed(7)
RANDOM = "".join(random.choice("ab") for _ in range(60_000))


@pytest.mark.parametrize(
    "pattern",
    [
        "[ab]*a[ab]{60}c",
        "a[ab]{400}c",
        "a[ab]{990}c",
        "(?:[ab]?){900}c",
        "(a|b|ab)*c",
        "(x+x+)+y",
        ".*.*.*.*.*=c",
        "(?:(?:(?:a?){9}){9}){9}c",
        "(?i)" + "|".join(f"[ab]{{{each}}}c" for each in range(1, 40)),
    ],
)
def test_no_pattern_takes_long_or_forgets_to_match(pattern: str) -> None:
    assert refuse([pattern]) is None
    size = compiled((pattern,)).size
    fits = min(len(RANDOM), MOST_WORK // size // 2 - 1_000)
    started = process_time()
    assert judge((pattern,), body(RANDOM[:fits], None)) is None
    assert process_time() - started < 1
    # where the automaton has run out of memory, it still matches
    if pattern != "(x+x+)+y":
        assert (
            judge((pattern,), body(RANDOM[:fits] + "=" + "a" * 995 + "=c" + "a" * 995 + "c", None))
            is not None
        )


def test_a_body_too_large_for_the_patterns_is_denied_unjudged() -> None:
    patterns = ("a[ab]{990}c",)
    started = process_time()
    denial = judge(patterns, body(RANDOM, None))
    assert process_time() - started < 0.1
    assert denial is not None
    assert denial.code is Code.REQUEST_TOO_LARGE
    assert str(MOST_WORK // compiled(patterns).size) in denial.detail
    assert longest(patterns, 100) < longest(patterns, len(RANDOM)) <= MOST_WORK * 0.005


def test_typical_patterns_judge_bodies_of_some_forty_kilobytes() -> None:
    assert compiled(TYPICAL).size * 80_000 < MOST_WORK
    assert compiled(TYPICAL).size < MOST_INSTRUCTIONS // 10
    text = json.dumps({"note": "words and words, " * 2_500})
    assert judge(TYPICAL, body(text)) is None
    assert judge(TYPICAL, body(text.replace("words and", "Drop  Table", 1))) is not None
