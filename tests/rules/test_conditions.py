"""Conditions: CEL that must be true of a request; what takes long cannot be said, what fails denies."""

from datetime import UTC, datetime, timedelta
from time import process_time
from typing import Any

import cel
import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from app.rules.content.bodies import EMPTY, Body, read
from app.rules.content.condition_facts import Request
from app.rules.content.condition_lexemes import LONGEST, quoted
from app.rules.content.condition_syntax import DEEPEST, Fact, parse
from app.rules.content.conditions import MOST_NODES, asks_for_body, compiled, judge, longest, refuse
from app.rules.content.denials import Denial
from app.rules.errors import Code
from app.rules.ids import Instant

#: 2026-11-20T10:22:00Z
NOW = Instant(1_795_170_120_000_000)
EXPENSE = {
    "total": 12.5,
    "whole": 12,
    "currency": "EUR",
    "approved": True,
    "note": None,
    "email": "ada@acme.example",
    "when": "2026-11-20T10:00:00Z",
    "lines": [{"qty": 1, "name": "tea"}, {"qty": 2, "name": "cake"}],
    "tags": ["travel", "food"],
    "odd key": {"in": 1},
}


def request(value: Any = EXPENSE, **changes: Any) -> Request:
    """A request with this JSON body."""
    body = value if isinstance(value, Body) else as_sent(orjson.dumps(value))
    common = Request(
        "POST", "/v1/receipts/7", "a=1&b=x%20y", len(body.raw), "192.0.2.7", body, "receipts:write", "dlg_1", NOW
    )  # fmt: skip
    return common._replace(**changes)


def as_sent(raw: bytes, content_type: str | None = "application/json") -> Body:
    """A body that is read."""
    found = read(raw, content_type)
    assert isinstance(found, Body), found
    return found


def met(condition: str, value: Any = EXPENSE, **changes: Any) -> bool:
    """Whether a condition that is fine is met."""
    assert refuse(condition) is None, refuse(condition)
    denial = judge(condition, request(value, **changes))
    assert denial is None or denial.code is Code.CONDITION_NOT_MET, denial
    return denial is None


TRUE = [
    "true",
    'request.method == "POST"',
    'request.method in ["POST", "PUT"]',
    'request.path.startsWith("/v1/") && request.path.endsWith("/7")',
    r'request.path.matches("^/v1/receipts/[0-9]+$")',
    'request.query.a == "1" && request.query["b"] == "x y"',
    '"a" in request.query && !("c" in request.query)',
    "has(request.query.a) && !has(request.query.c)",
    "size(request.query) == 2",
    'request.query.all(name, name in ["a", "b"])',
    "request.bytes < 10000",
    'request.ip == "192.0.2.7" && request.ip.startsWith("192.0.2.")',
    'action.scope == "receipts:write"',
    'delegation.id == "dlg_1"',
    'now > timestamp("2026-11-20T00:00:00Z") && now < timestamp("2026-11-21T00:00:00+02:00")',
    "now.getHours() >= 8 && now.getHours() < 18 && now.getDayOfWeek() in [1, 2, 3, 4, 5]",
    'now - timestamp(request.body.when) < duration("24h")',
    'now + duration("1h") == timestamp("2026-11-20T11:22:00Z")',
    # numbers compare by value
    "request.body.total <= 100 && request.body.total <= 100.0",
    "request.body.whole <= 100 && request.body.whole <= 100.5",
    "request.body.total == 12.5 && request.body.whole == 12.0 && request.body.whole == 12",
    "request.body.whole in [1.0, 12.0]",
    "double(request.body.whole) * 1.5 <= 18.0 && int(request.body.total) == 12",
    "-request.bytes < -1 && 7 % 4 == 3 && 7 / 2 == 3",
    "0x0c == request.body.whole && .5 < request.body.total && 1e2 > request.body.total",
    # bodies
    'request.body.currency in ["EUR", "USD"]',
    'request.body.total <= {"EUR": 100, "USD": 120}[request.body.currency]',
    "request.body.approved",
    "request.body.approved == true",
    "request.body.note == null",
    "has(request.body.note) && !has(request.body.nothing)",
    'request.body["odd key"]["in"] == 1',
    "request.body.lines[1].qty == 2",
    "request.body.lines[request.body.lines[0].qty].qty == 2",
    "size(request.body.lines) == 2 && request.body.lines.size() == 2",
    'request.body.lines.all(line, line.qty > 0 && has(line.name) && line["name"] != "")',
    "request.body.lines.exists(line, line.qty == 2)",
    "request.body.lines.exists_one(line, line.qty == 2)",
    'request.body.tags.all(tag, tag in ["travel", "food"])',
    '"food" in request.body.tags',
    '["/v1/", "/v2/"].exists(prefix, request.path.startsWith(prefix))',
    "request.body.lines.all(line, line.qty <= request.body.whole)",
    'request.body.all(key, key != "admin")',
    r'request.body.email.matches("@acme\\.example$")',
    "request.body.email.matches(r'@acme\\.example$')",
    'request.body.email.contains("@") && "ada@".startsWith("ada")',
    "request.body.total > 100 ? request.body.approved : true",
    # an error beside what decides does not count, as CEL has it
    "request.body.nothing == 1 || true",
    "request.method == 'POST' || request.body.nothing.at.all",
    "!has(request.body.nothing) || request.body.nothing == 1",
    # spelling
    "request . body\n.whole == 12 // twelve",
    "((((request.body.whole)) == (12)))",
    '"\\u00e9\\x41\\101\\n" == "éAA\\n" || false',
    "'\\'' == \"'\"",
]
FALSE = [
    "false",
    'request.method == "GET"',
    "request.body.total > 100",
    'request.body.whole == "12"',
    "request.body.note == 0",
    "request.body.approved == 1",
    # errors deny
    "request.body.nothing == 1",
    "request.body.nothing.at.all == 1",
    "!(request.body.nothing == 1)",
    "has(request.body.nothing.at)",
    "!has(request.body.nothing.at)",
    "request.body.currency <= 100",
    "!(request.body.currency <= 100)",
    "request.body.approved <= 100",
    "request.body.note <= 100",
    "request.body.lines <= 100",
    "request.body.lines[2].qty == 1",
    "request.body.lines[-1].qty == 2",
    "request.body.lines.all(line, line.price > 0)",
    "request.body.total.all(each, true)",
    "request.body.note.all(each, true)",
    "int(request.body.whole) / 0 == 1",
    "int(request.body.currency) == 1",
    "9223372036854775807 + request.bytes > 0",
    "request.body.currency",
    "request.body",
    "request.body.total",
    "request.body.whole",
    "!request.body.whole",
    "request.body.total && true",
    "timestamp(request.body.currency) < now",
    "timestamp(request.body.whole) < now",
    'request.query.c == "1"',
    'request.body.total.matches("1")',
    'request.body.total.startsWith("1")',
]


@pytest.mark.parametrize("condition", TRUE)
def test_a_condition_that_is_true_is_met(condition: str) -> None:
    assert met(condition)


@pytest.mark.parametrize("condition", FALSE)
def test_all_that_is_not_exactly_true_denies(condition: str) -> None:
    assert not met(condition)


@pytest.mark.parametrize(
    ("condition", "value", "is_met"),
    [
        ("request.body == null", EMPTY, True),
        ("request.body.total <= 100", EMPTY, False),
        ("request.body <= 100", 100, True),
        ("request.body <= 100", 100.0, True),
        ("request.body <= 100", 100.5, False),
        ("request.body == 9007199254740991", 2**53 - 1, True),
        ("request.body < 9007199254740991", 2**53 - 1, False),
        ("request.body < 0.1", 0.1, False),
        ("request.body == -0.0", 0, True),
        ('request.body == "12"', 12, False),
        ("request.body == [1, [2.0], {'a': null}]", [1.0, [2], {"a": None}], True),
        ("request.body.size() <= 2", [1, 2], True),
        ("request.body.size() <= 2", "äöü", False),
        ("request.body.size == 3", {"size": 3}, True),
        ("request.body.all(x, x > 0)", [1, "a"], False),
        ("request.body.all(x, x > 0)", [], True),
        ("request.body.exists(x, x > 1)", [1, 2], True),
        ("request.body.all(x, x in request.body)", [1, 2], True),
    ],
)
def test_a_condition_sees_what_json_says(condition: str, value: Any, is_met: bool) -> None:
    assert met(condition, value) is is_met


def test_what_is_not_known_is_null() -> None:
    assert met("request.ip == null", ip=None)
    assert not met('request.ip.startsWith("192")', ip=None)


@pytest.mark.parametrize(
    "query",
    [
        "a=1&a=2",
        "a=1&A=2",
        "a=1&a[]=2",
        "a=1&%61=2",
        "a[x]=1&a[y]=2",
        "a=1;b=2",
        "a=%ff",
        "%ff=1",
        "a=%c0%af",
    ],
)
def test_a_query_that_two_read_differently_denies_where_it_is_looked_at(query: str) -> None:
    for condition in (
        'request.query.a == "1" || true',
        "true || has(request.query.a)",
        "size(request.query) >= 0",
    ):
        assert not met(condition, query=query)
    assert met("true", query=query)


def test_a_query_without_anything_is_empty() -> None:
    assert met("size(request.query) == 0", query="")
    assert met('request.query == {"a": "", "b": "="}', query="&a&&b==&")


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("", "condition is empty: leave it out, or give a condition"),
        ("  ", "is empty"),
        ("// nothing", "is empty"),
        ("true ||", "a name"),
        ("(true", "should stand"),
        ("true)", "an operator, or the end"),
        ("request.body.x == 1 2", "an operator, or the end"),
        ("1", "must be true or false"),
        ('"true"', "must be true or false"),
        ("[true]", "must be true or false"),
        ("size(request.body)", "must be true or false"),
        ("null", "must be true or false"),
        # names
        ("foo == 1", "which is not known"),
        ("request.headers == 1", "which is not known"),
        ("request == 1", "where . should stand"),
        ("tenant.id == '1'", "which is not known"),
        ("_0 == 1", "which is not known"),
        ("each == 1", "which is not known"),
        ("request.method.x == 1", "no such thing"),
        ("request.query.a.b == '1'", "no such thing"),
        ("now.x == 1", "no such thing"),
        ("request.body.in == 1", "a name"),
        # what would take long
        ("request.body.map(x, x) == []", "all, exists or exists_one"),
        ("request.body.filter(x, x > 0).size() == 0", "exists or exists_one"),
        ("request.body.all(x, x.all(y, y > 0))", "nested"),
        ("request.body.all(x, [1].exists(y, y == x))", "nested"),
        ("(true ? request.body : request.body).all(x, x > 0)", "no part of request.body"),
        ("request.path.all(x, true)", "no part of request.body"),
        ("{1: 2}.all(x, true)", "no part of request.body"),
        ("request.body.x + request.body.y == 'ab'", "no number by its form"),
        ("request.body + request.body == []", "no number by its form"),
        ("'a' + 'b' == 'ab'", "no number by its form"),
        ("[1] + [2] == []", "no number by its form"),
        ("request.body.x.matches(request.body.y)", "a pattern written out"),
        ("request.body.all(x, x.matches('a'))", "of what a request holds"),
        (f"request.body.x.matches('{'a' * 201}')", "200 at most"),
        ("request.body.x.matches('(')", "no RE2"),
        ("request.body.x.matches('(?=a)')", "no RE2"),
        (r"request.body.x.matches('\\pL{5}')", "too much"),
        ("request.body.x == '" + "a" * LONGEST + "'", "1000 at most"),
        ("(" * (DEEPEST + 1) + "true" + ")" * (DEEPEST + 1), "nested over"),
        ("!" * (DEEPEST + 1) + "true", "nested over"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1) + " == []", "nested over"),
        ("1" + " + 1" * 30 + " > 0", "over 20 terms"),
        ("(" * 300, "nested over"),
        # what says nothing, or would fail for every request
        ("request.body.x.foo() == 1", "calls foo"),
        ("foo(request.body.x)", "calls foo"),
        ("matches(request.path, 'a')", "calls matches"),
        ("type(request.body) == 1", "calls type"),
        ("request.path.contains('a', 'b')", "calls contains"),
        ("has(request.body)", "otherwise than as in"),
        ("has(request.method)", "otherwise than as in"),
        ("has(request.body.x[0])", "otherwise than as in"),
        ("now > '2026-01-01'", "timestamp with string"),
        ("request.method < 5", "string with int"),
        ("request.bytes == 'a'", "int with string"),
        ("'a' in request.path", "in with string"),
        ("request.bytes && true", "int at &&"),
        ("!request.path", "string at !"),
        ("request.path ? true : false", "string at ?"),
        ("1 < 2 < 3", "an operator"),
        ("1 + 1.5 > 2.0", "double"),
        ("request.body.x * 2 > 1", "int(…)"),
        ("-request.body.x > 1", "int(…)"),
        ("double(request.body.x) * 2 > 1.0", "write 2.0 for 2"),
        ("request.body.x.getHours() > 1", "no timestamp"),
        ("timestamp('tomorrow') > now", "has no value"),
        ("duration('1d') > now - now", "has no value"),
        ("int('x') == request.body.x", "has no value"),
        ("request.body.all(now, now == 1)", "something else already"),
        # CEL that is not of this language
        ("request.body.x == 1u", "goes on with 'u'"),
        ("request.body.x == b'a'", "which is not known"),
        ('request.body.x == """a"""', "begins nothing"),
        ("request.?body", "a name"),
        ("`a` == 1", "begins nothing"),
        ("request.body.x == 1e999", "too large"),
        ("request.body.x == 9223372036854775808", "too large"),
        (r"request.body.x == '\q'", "which CEL does not have"),
        (r"request.body.x == '\ud800'", "half a character"),
        ("request.body.x == '\n'", "begins nothing"),
        ("Msg{a: 1} == 1", "which is not known"),
        ("request.body.x = 1", "has '=' at character 16, which begins nothing that is known: use =="),
        ("true & true", "known: use &&"),
        ("true | true", "known: use ||"),
        (
            "request.body.x and true",
            "has and at character 16, where an operator, or the end should stand: use &&",
        ),
        ("true OR true", "should stand: use ||"),
        ("(true or true)", "should stand: use ||"),
        ("not request.body.x", "asks for not, which is not known: use !"),
        ("not(request.body.x)", "calls not in a way that is not known: use !"),
        ("true && not true", "use !"),
    ],
)
def test_a_condition_that_could_not_be_judged_is_refused(condition: str, why: str) -> None:
    started = process_time()
    refusal = refuse(condition)
    assert process_time() - started < 0.5
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.CONDITION_INVALID, ("constraints", "condition"))
    assert refusal.message.startswith("constraints.condition ")
    assert why in refusal.message
    assert len(refusal.message) < 600


INSTANT = 'an RFC 3339 instant with an offset, as in timestamp("2026-12-31T00:00:00Z")'
SYNTAX = "see github.com/google/re2/wiki/Syntax"


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("timestamp('tomorrow') > now", f'has timestamp("tomorrow"), which has no value: give {INSTANT}'),
        ("timestamp('2026-02-30T00:00:00Z') > now", f'has timestamp("2026-02-30T00:00:00Z"), which has no value: give {INSTANT}'),
        ("duration('1d') > now - now", 'has duration("1d"), which has no value: give numbers with h, m, s, ms, us or ns, as in duration("1h30m")'),
        ("int('x') == request.body.x", 'has int("x"), which has no value: give an integer of 64 bits, as in int("42")'),
        ("double('') == request.body.x", 'has double(""), which has no value: give a number, as in double("1.5")'),
        ("request.path.matches('[')", f'has the pattern [, which is no RE2 pattern, RE2 says "missing ]: [": {SYNTAX}'),
        ("request.path.matches('a{3,1}')", f'has the pattern a{{3,1}}, which is no RE2 pattern, RE2 says "invalid repetition size: {{3,1}}": {SYNTAX}'),
    ],
)  # fmt: skip
def test_what_the_libraries_find_is_said_in_our_words(condition: str, said: str) -> None:
    refusal = refuse(condition)
    assert refusal is not None
    assert refusal.message == f"constraints.condition {said}"


def test_a_denial_names_what_is_missing_and_no_content() -> None:
    denial = judge("request.body.total <= request.body.limit", request({"total": "secret"}))
    assert denial == Denial(
        Code.CONDITION_NOT_MET,
        "The terms' condition asks for request.body.limit, which this request does not have in a fitting form.",
    )
    denial = judge("request.body.total <= 100", request({"total": "secret"}))
    assert denial is not None
    assert "secret" not in denial.detail


def test_a_body_that_is_no_json_is_unreadable_only_to_who_asks_for_it() -> None:
    text = as_sent(b"a=1", "application/x-www-form-urlencoded")
    assert not asks_for_body('request.method == "POST" && request.bytes < 100')
    assert met('request.method == "POST" && request.bytes < 100', text)
    for condition in ("request.body.a == 1", "request.body == null", "true || has(request.body.a)"):
        assert asks_for_body(condition)
        denial = judge(condition, request(text))
        assert denial is not None
        assert denial.code is Code.BODY_UNREADABLE


def test_only_what_is_named_is_converted() -> None:
    facts = parse("request.body.a.b == 1 && request.body.a.b < 2 && request.body['c'][0] == 'x'").facts
    assert facts == (Fact("request.body", ("a", "b")), Fact("request.body", ("c", 0)))
    large = {"a": {"b": 1}, "rest": list(range(9_000))}
    assert met("request.body.a.b == 1", large)


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("request.body == []", list(range(MOST_NODES))),
        ("request.body.a == request.body.b", {"a": [0] * 600, "b": [0] * 600}),
        ("request.body == ''", "x" * 20_000),
        ("request.body.all(x, x in request.body)", list(range(900))),
        ("request.body.all(x, request.body == request.body)", list(range(900))),
        (
            "request.body.a.all(x, x == request.body.b && x != request.body.b)",
            {"a": [0] * 900, "b": "x" * 15_000},
        ),
        (f"request.body.exists(x, {' || '.join(['x < 0'] * 90)})", list(range(998))),
        (r"request.body.matches('[ab]*a[ab]{60}c')", "ab" * 8_000),
    ],
)
def test_a_condition_that_looks_at_too_much_denies_unjudged(condition: str, value: Any) -> None:
    assert refuse(condition) is None
    started = process_time()
    denial = judge(condition, request(value))
    assert process_time() - started < 0.5
    assert denial is not None
    assert denial.code is Code.REQUEST_TOO_LARGE


def repeated(unit: str, by: str, before: str = "", after: str = "", length: int = LONGEST) -> str:
    """As often as it goes into a condition of this length."""
    times = (length - len(before) - len(after) + len(by)) // (len(unit) + len(by))
    return before + by.join([unit] * times) + after


NUMBERS = list(range(MOST_NODES - 2))
EXISTS = "request.body.exists(x, "


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        (repeated("x < 0", " || ", EXISTS, ")", 280), NUMBERS),
        (repeated("request.body.exists(x, x < 0)", " || "), NUMBERS),
        ("request.body.all(x, x in request.body)", NUMBERS[:600]),
        (repeated("request.body.all(x, x in request.body)", " && "), NUMBERS[:140]),
        (repeated("request.body == request.body", " && "), [{"a": each} for each in range(300)]),
        (repeated("1.5", ", ", EXISTS + "x in [", "])", 400), NUMBERS),
        (repeated("{}", ", ", EXISTS + "x in [", "])", 330), [{"a": each} for each in range(300)]),
        (repeated("{'a': 1}", ", ", EXISTS + "x in [", "])", 400), NUMBERS),
        (repeated("x.contains('ab')", " || ", EXISTS, ")", 330), ["a" * 16] * 900),
        (repeated("request.path.contains(x)", " || ", EXISTS, ")", 100), ["b" * 8] * 900),
        (repeated("request.body.contains('aaaaaaaaaaab')", " || "), "a" * 16_000),
        (repeated("duration('" + "1h" * 30 + "') < duration('1s')", " || ", EXISTS, ")", 400), NUMBERS),
        (repeated("timestamp('2026-01-01T00:00:00Z') > now", " || ", EXISTS, ")", 400), NUMBERS),
        (repeated("duration(request.body) < duration('1s')", " || "), "1h" * 8_000),
        (repeated("string(x) == 'a'", " || ", EXISTS, ")", 330), [each + 0.5 for each in NUMBERS]),
        (repeated("double(x) < 0.0", " || ", EXISTS, ")", 330), ["1" * 15] * 900),
        (repeated("size(x) < 0", " || ", EXISTS, ")", 330), ["é" * 15] * 900),
        (repeated("1", ", ", "[", "].exists(x, x == 2 || x == 3 || x == 4)"), None),
        ("request.body == 1", [{} for _ in NUMBERS]),
        (repeated("request.body[request.body[0]] == 1", " || "), NUMBERS),
        (r"request.body.matches('[ab]*a[ab]{60}c')", "ab" * 6_000),
        ("request.body.a.a.a == 1", {"a": {"a": {"a": 1}}}),
    ],
)
def test_no_condition_takes_long(condition: str, value: Any) -> None:
    assert refuse(condition) is None
    seen = request(value, path="/" + "a" * 4_000)
    compiled(condition)
    started = process_time()
    denial = judge(condition, seen)
    assert process_time() - started < 0.5
    assert denial is None or denial.code is Code.CONDITION_NOT_MET
    assert longest(condition, seen.body.size.nodes, 16_000) < 25_000


def test_a_condition_is_expected_to_take_longer_the_more_it_may_look_at() -> None:
    assert longest("request.method == 'GET'", 10_000, 100_000) < 50
    assert longest("request.body == 1", 10, 100) < 50 < 1_000 < longest("request.body == 1", 10_000, 100_000)


@given(some.text(some.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_text_is_written_as_cel_reads_it(text: str) -> None:
    assert cel.evaluate(quoted(text)) == text
    assert cel.evaluate(f"{quoted(text)} == x", {"x": text}) is True


PIECES = [
    "request",
    ".",
    "body",
    "query",
    "x",
    "[",
    "]",
    "(",
    ")",
    "1",
    "1.5",
    "'a'",
    "all",
    "exists",
    "has",
    "each",
]
PIECES += [",", "&&", "||", "!", "==", "in", "+", "-", "now", "timestamp", "?", ":", "{", "}", "//", "\n"]


@given(some.text(max_size=60) | some.lists(some.sampled_from(PIECES), max_size=25).map(" ".join))
def test_any_text_is_read_or_refused_in_the_same_way_each_time(text: str) -> None:
    first = refuse(text)
    assert first == refuse(text)
    if first is None:
        assert judge(text, request()) == judge(text, request())


# --- what is written anew means the same

leaves = some.sampled_from(
    [
        *("request.body.i", "request.body.d", "request.body.s", "request.body.l", "request.body.o", "request.body.none"),
        *("request.body.o.i", "request.body.l[0]", "request.body.l[7]", "request.body", "request.bytes", "request.method"),
        *("request.query.a", "request.query.none", "request.ip", "now", "action.scope", "delegation.id"),
        *("1", "0", "2.5", "-3", "true", "false", "null", "'a'", "'é'", "[1, 2]", "[]", "{'a': 1}"),
        *("timestamp('2026-11-20T10:00:00Z')", "has(request.body.i)", "has(request.body.none)", "has(request.query.a)"),
    ]
)  # fmt: skip


def larger(below: some.SearchStrategy[str]) -> some.SearchStrategy[str]:
    """Conditions made of smaller ones."""
    signs = some.sampled_from(["&&", "||", "==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%"])
    calls = some.sampled_from(["size({})", "int({})", "double({})", "string({})", "!{}", "({})", "{}.size()"])
    methods = some.sampled_from(["({}).contains({})", "({}).startsWith({})", "request.body.o[{}] == {}"])
    macros = some.sampled_from(["request.body.l", "request.body.o", "[1, 2.0, 'a']", "request.query"])
    names = some.sampled_from(["all", "exists", "exists_one"])
    tests = some.sampled_from(["v > 1", "v == {}", "{} == v", "v in [{}]", "v.a == {} || true", "has(v.a)"])
    return (
        some.builds("({} {} {})".format, below, signs, below)
        | some.builds(str.format, calls, below)
        | some.builds(str.format, methods, below, below)
        | some.builds("({} ? {} : {})".format, below, below, below)
        | some.builds(
            lambda over, name, test, leaf: f"{over}.{name}(v, {test.format(leaf)})",
            macros,
            names,
            tests,
            leaves,
        )
    )


SAMPLE = {"i": 3, "d": 2.5, "s": "aéb", "l": [1, 2.0, "a", None, {"a": 1}], "o": {"i": 3, "a": "b"}}
WHOLE = {
    "request": {
        "method": "POST",
        "path": "/x",
        "query": {"a": "1"},
        "body": SAMPLE,
        "bytes": 90,
        "ip": None,
    },
    "action": {"scope": "a:b"},
    "delegation": {"id": "dlg_1"},
    "now": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=NOW),
}


@given(some.recursive(leaves, larger, max_leaves=6))
def test_what_is_written_anew_means_what_was_written(condition: str) -> None:
    assume(refuse(condition) is None)
    try:
        expected = cel.evaluate(condition, WHOLE) is True
    except Exception:  # noqa: BLE001  # the library names none
        expected = False
    seen = request(SAMPLE, path="/x", query="a=1", bytes=90, ip=None, scope="a:b")
    assert (judge(condition, seen) is None) is expected
