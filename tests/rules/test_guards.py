"""Guards: the first that denies decides, nothing that fails lets a request through, and none takes long."""

import json
from collections.abc import Callable
from ipaddress import ip_address
from time import process_time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.rules.content.bodies import GUARDED_BYTES, GUARDED_TEXT_BYTES
from app.rules.errors import Code
from app.rules.guards import (
    Denial,
    Guards,
    Seen,
    _closed,
    checks,
    is_heavy,
    refuse_guards,
    refuse_schema,
)
from app.rules.ids import Instant

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
NOW = Instant(1_795_170_120_000_000)

NONE = Guards((), None)
PATTERNS = Guards((r"(?i)\bdrop\b",), None)
CONDITION = Guards((), "request.body.total <= 100")
METHOD = Guards((), 'request.method == "POST"')
ALL = Guards((r"(?i)\bdrop\b",), "request.body.total <= 100")
SCHEMA = json.dumps({"type": "object", "properties": {"total": {"type": "number"}}})


def seen(body: bytes = b"", content_type: str | None = JSON, **changes: Any) -> Seen:
    """A request with this body."""
    return Seen("POST", "/v1/receipts", "", content_type, body, ip_address("192.0.2.7"))._replace(**changes)


def said(guards: Guards, schema: str | None, request: Seen) -> list[tuple[str, Code | None]]:
    """What each guard says, as codes."""
    found = checks(guards, schema, request, scope="receipts:write", delegation_id="dlg_1", now=NOW)
    return [(name, denial.code if denial else None) for name, denial in found]


def judged(guards: Guards, schema: str | None, request: Seen) -> Code | None:
    """The first denial's code."""
    found = checks(guards, schema, request, scope="receipts:write", delegation_id="dlg_1", now=NOW)
    denial = next((denial for _, denial in found if denial), None)
    assert denial is None or denial.detail
    return denial.code if denial else None


@pytest.mark.parametrize(
    ("guards", "schema", "body", "code"),
    [
        (PATTERNS, None, b'{"q":"fine"}', None),
        (PATTERNS, None, b'{"q":"DROP it"}', Code.PATTERN_DENIED),
        (PATTERNS, None, b'{"q":"\\u0064rop"}', Code.PATTERN_DENIED),
        (NONE, SCHEMA, b'{"total":1}', None),
        (NONE, SCHEMA, b'{"total":"1"}', Code.SCHEMA_MISMATCH),
        (NONE, SCHEMA, b"", Code.SCHEMA_MISMATCH),
        (CONDITION, None, b'{"total":100.0}', None),
        (CONDITION, None, b'{"total":100.5}', Code.CONDITION_NOT_MET),
        (CONDITION, None, b"", Code.CONDITION_NOT_MET),
        (METHOD, None, b'{"a":1,"a":2}', None),
        # in this order
        (ALL, SCHEMA, b'{"total":1}', None),
        (ALL, SCHEMA, b'{"total":"drop"}', Code.PATTERN_DENIED),
        (ALL, SCHEMA, b'{"total":"x"}', Code.SCHEMA_MISMATCH),
        (ALL, SCHEMA, b'{"total":101}', Code.CONDITION_NOT_MET),
    ],
)
def test_the_first_guard_that_denies_decides(
    guards: Guards, schema: str | None, body: bytes, code: Code | None
) -> None:
    assert judged(guards, schema, seen(body)) is code


UNREADABLE = [
    (b'{"total":1,"total":500}', JSON),
    (b'{"total":1,"Total":500}', JSON),
    (b'{"total":1,"\\u0074otal":500}', JSON),
    (b'{"total":1,"total":500}', "text/plain"),
    (b'{"total":1,"total":500}', None),
    (b'\xef\xbb\xbf{"total":1}', JSON),
    ('{"total":1}'.encode("utf-16"), JSON),
    ('{"total":1}'.encode("utf-16"), "application/json; charset=utf-16"),
    ('{"total":1}'.encode("utf-16-le"), "text/plain"),
    (b'{"total":NaN}', JSON),
    (b'{"total":-Infinity}', JSON),
    (b'{"total":1e999}', JSON),
    (b'{"total":18446744073709551617}', JSON),
    (b'{"total":1,"x":"\\ud800"}', JSON),
    (b"{'total':1}", JSON),
    (b'{"total":1,"x":' + b"[" * 40 + b"]" * 40 + b"}", JSON),
    (b'{"total":1,"x":[' + b"0," * 10_000 + b"0]}", JSON),
    (b"\x89PNG\0", "image/png"),
]


@pytest.mark.parametrize(("body", "content_type"), UNREADABLE)
def test_what_cannot_be_read_is_denied_by_each_guard_that_needs_it(
    body: bytes, content_type: str | None
) -> None:
    request, denied = seen(body, content_type), Code.BODY_UNREADABLE
    assert said(ALL, SCHEMA, request) == [
        ("denyPatterns", denied),
        ("requestSchema", denied),
        ("condition", denied),
    ]
    assert said(METHOD, SCHEMA, request) == [("requestSchema", denied), ("condition", None)]
    assert judged(METHOD, None, request) is None
    assert judged(NONE, None, request) is None


def test_other_text_is_judged_by_patterns_alone() -> None:
    request = seen(b"total=1", FORM)
    assert said(ALL, SCHEMA, request) == [
        ("denyPatterns", None),
        ("requestSchema", Code.BODY_UNREADABLE),
        ("condition", Code.BODY_UNREADABLE),
    ]
    assert judged(PATTERNS, None, seen(b"q=dr%256Fp", FORM)) is Code.PATTERN_DENIED


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b'"%b"' % (b"x" * GUARDED_BYTES), JSON), (b"x" * (GUARDED_TEXT_BYTES + 1), "text/plain")],
)
def test_what_is_too_large_is_denied_where_it_is_needed(body: bytes, content_type: str) -> None:
    request = seen(body, content_type)
    assert judged(PATTERNS, None, request) is Code.REQUEST_TOO_LARGE
    assert judged(NONE, SCHEMA, request) is Code.REQUEST_TOO_LARGE
    assert judged(CONDITION, None, request) is Code.REQUEST_TOO_LARGE
    assert judged(METHOD, None, request) is None


def test_without_guards_nothing_is_looked_at() -> None:
    nothing = Seen("POST", "/", "", None, None, None)  # type: ignore[arg-type]
    assert judged(NONE, None, nothing) is None
    assert said(NONE, None, nothing) == []
    assert not is_heavy(NONE, None, nothing)
    assert judged(METHOD, None, seen(b"\xff" * 10, "image/png")) is None


def test_what_comes_after_the_first_denial_is_not_judged() -> None:
    """A generator: what has not been asked for has not been done."""
    found = checks(ALL, SCHEMA, seen(b'{"q":"drop"}'), scope="a:b", delegation_id="dlg_1", now=NOW)
    name, denial = next(found)
    assert (name, denial and denial.code) == ("denyPatterns", Code.PATTERN_DENIED)


def test_a_condition_sees_the_request_and_what_it_is_for() -> None:
    condition = (
        'request.method == "POST" && request.path == "/v1/receipts" && request.query.a == "1" && request.bytes == 2'
        ' && request.ip == "192.0.2.7" && action.scope == "receipts:write" && delegation.id == "dlg_1"'
        ' && now == timestamp("2026-11-20T10:22:00Z") && request.body == {}'
    )
    assert refuse_guards((), condition) is None
    assert judged(Guards((), condition), None, seen(b"{}", query="a=1")) is None
    assert judged(Guards((), "request.ip == null"), None, seen(b"{}", address=None)) is None


@pytest.mark.parametrize(
    ("patterns", "condition", "code", "path"),
    [
        ((), None, None, ()),
        ((), "true", None, ()),
        (("a",), "request.method == 'GET'", None, ()),
        (("a", "("), "(", Code.PATTERN_INVALID, ("constraints", "denyPatterns", "1")),
        (("a",) * 21, None, Code.LIMIT_REACHED, ("constraints", "denyPatterns")),
        (("a",), "(", Code.CONDITION_INVALID, ("constraints", "condition")),
        ((), "", Code.CONDITION_INVALID, ("constraints", "condition")),
    ],
)
def test_guards_that_could_not_judge_are_refused(
    patterns: tuple[str, ...], condition: str | None, code: Code | None, path: tuple[str, ...]
) -> None:
    refusal = refuse_guards(patterns, condition)
    assert (refusal.code if refusal else None) == code
    if refusal:
        assert refusal.path == path
        assert refusal.message.startswith(".".join(path[:2]))


def test_a_schema_that_could_not_judge_is_refused() -> None:
    refusal = refuse_schema({"$ref": "#"})
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.SCHEMA_INVALID, ("requestSchema",))
    assert refuse_schema(json.loads(SCHEMA)) is None


@pytest.mark.parametrize(
    ("guards", "schema", "code"),
    [
        (Guards(("(",), None), None, Code.PATTERN_DENIED),
        (Guards(("\ud800",), None), None, Code.PATTERN_DENIED),
        (NONE, "{", Code.SCHEMA_MISMATCH),
        (NONE, '{"$ref": "#"}', Code.SCHEMA_MISMATCH),
        (Guards((), "request.body.map(x, x)"), None, Code.CONDITION_NOT_MET),
        (Guards((), ""), None, Code.CONDITION_NOT_MET),
    ],
)
def test_stored_guards_that_are_none_deny(guards: Guards, schema: str | None, code: Code) -> None:
    for _ in range(2):
        assert judged(guards, schema, seen(b"{}")) is code
        assert is_heavy(guards, schema, seen(b"{}"))


class PanicException(BaseException):
    """As pyo3 raises it where Rust panics."""


@pytest.mark.parametrize("error", [ValueError, RecursionError, MemoryError, PanicException])
def test_a_guard_that_fails_denies(error: type[BaseException]) -> None:
    denial = _closed(Code.SCHEMA_MISMATCH, _raising(error))
    assert denial is not None
    assert denial.code is Code.SCHEMA_MISMATCH


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_end_of_the_process_is_no_denial(error: type[BaseException]) -> None:
    with pytest.raises(error):
        _closed(Code.SCHEMA_MISMATCH, _raising(error))


def _raising(error: type[BaseException]) -> Callable[[], Denial | None]:
    def judged() -> Denial | None:
        raise error

    return judged


some_guards = some.builds(
    Guards,
    some.lists(some.sampled_from([r"(?i)drop", "^a$", r"\d+", "[^a]", r"\pL", "(a|b)*c"]), max_size=3).map(
        tuple
    ),
    some.none()
    | some.sampled_from(
        [
            "request.body.total <= 100",
            "request.body.all(x, x == 1)",
            'request.query.a == "1"',
            "request.body == null || size(request.body) < 3",
            "double(request.body.a[0]) > 1.0 || request.path.matches('a+')",
        ]
    ),
)
some_schemas = some.none() | some.sampled_from([SCHEMA, "true", "false", '{"items": {"type": "number"}}'])
some_bodies = (
    some.binary(max_size=40)
    | some.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | some.sampled_from([body for body, _ in UNREADABLE])
    | some.recursive(
        some.none() | some.floats() | some.integers(-(2**60), 2**60) | some.text(max_size=5), some.lists
    ).map(lambda value: json.dumps(value).encode())
)
some_types = (
    some.none() | some.text(max_size=30) | some.sampled_from([JSON, FORM, "text/plain", "a/b;charset=x"])
)


@given(some_guards, some_schemas, some_bodies, some_types, some.text(max_size=20), some.text(max_size=20))
def test_judging_never_raises_and_is_the_same_each_time(
    guards: Guards, schema: str | None, body: bytes, content_type: str | None, path: str, query: str
) -> None:
    request = seen(body, content_type, path=path, query=query)
    first = said(guards, schema, request)
    assert first == said(guards, schema, request)
    assert [name for name, _ in first] == [
        *(["denyPatterns"] if guards.deny_patterns else []),
        *(["requestSchema"] if schema is not None else []),
        *(["condition"] if guards.condition is not None else []),
    ]
    judged(guards, schema, request)
    is_heavy(guards, schema, request)


TYPICAL = Guards(
    (
        r"(?i)\b(drop|delete)\s+table\b",
        r"\d{3}-\d{2}-\d{4}",
        r"(?i)password\s*[:=]",
        "<script",
        r"\b\d{13,16}\b",
    ),
    'request.body.total <= 100 && request.body.currency in ["EUR", "USD"] && request.method == "POST"',
)
TYPICAL_SCHEMA = json.dumps(
    {
        "type": "object",
        "required": ["merchant", "total"],
        "additionalProperties": False,
        "properties": {
            "merchant": {"type": "string", "maxLength": 100},
            "total": {"type": "number", "minimum": 0, "maximum": 100},
            "currency": {"enum": ["EUR", "USD"]},
            "lines": {"type": "array", "maxItems": 20, "items": {"type": "object"}},
            "center": {"type": "string", "pattern": r"^[A-Z]-\d+$"},
            **{name: {"type": "string"} for name in ("note", "category", "customer", "ref", "city")},
        },
    }
)
TYPICAL_BODY = orjson.dumps(
    {
        "merchant": "Blue Bottle Coffee",
        "total": 12.5,
        "currency": "EUR",
        "lines": [
            {"name": "Espresso", "qty": 2, "price": 3.5},
            {"name": "Croissant", "qty": 1, "price": 4.0},
        ],
        "center": "R-42",
        "note": "team breakfast",
        "city": "Zürich",
    }
)


def test_typical_guards_are_light_once_they_have_judged() -> None:
    request = seen(TYPICAL_BODY)
    guards = TYPICAL._replace(deny_patterns=(*TYPICAL.deny_patterns, "never judged before"))
    assert is_heavy(guards, TYPICAL_SCHEMA, request)
    assert judged(guards, TYPICAL_SCHEMA, request) is None
    assert not is_heavy(guards, TYPICAL_SCHEMA, request)
    started = process_time()
    for _ in range(200):
        judged(guards, TYPICAL_SCHEMA, request)
    assert (process_time() - started) / 200 < 0.001  # some 30 µs, on a machine that does nothing else


@pytest.mark.parametrize(
    ("guards", "schema", "body"),
    [
        (Guards(("a[ab]{900}c",), None), None, b'"ababab"' * 500),
        (PATTERNS, None, b"[" + b"1," * 9_000 + b"1]"),
        (CONDITION, None, b"[" + b"1," * 9_000 + b"1]"),
        (NONE, '{"items": {"multipleOf": 0.1}}', b"[" + b"1.5," * 900 + b"1]"),
        (Guards((), "request.body.all(x, x in request.body)"), None, b"[" + b"1," * 900 + b"1]"),
    ],
)
def test_what_may_take_long_is_heavy(guards: Guards, schema: str | None, body: bytes) -> None:
    judged(guards, schema, seen(b"1"))
    assert not is_heavy(guards, schema, seen(b"1"))
    assert is_heavy(guards, schema, seen(body))


@pytest.mark.parametrize(
    ("piece", "content_type"),
    [
        *((piece, JSON) for piece in (b"1", b"1.5", b'"ab"', b"{}", b"[]", b'{"a":1}', b'"\\u0061b"')),
        *((piece, FORM) for piece in (b'"ab"', b'"%2561"', b'"&a%41\\u0041"')),
    ],
)
def test_guards_in_league_with_the_body_take_no_second(piece: bytes, content_type: str) -> None:
    guards = Guards(
        ("[ab]*a[ab]{60}c", "(?:[ab]?){100}c", r"\d{90}x"),
        "request.body.exists(x, x == 'a' || x == 1.5 || x in ['b', 2.5] || size(string(x)) > 30)",
    )
    schema = json.dumps(
        {
            "items": {"enum": ["z", 0.1, 7], "pattern": "a[ab]{30}c"},
            "uniqueItems": True,
            "contains": {"multipleOf": 0.01},
        }
    )
    assert refuse_guards(*guards) is None
    assert refuse_schema(json.loads(schema)) is None
    judged(guards, schema, seen(b"[]"))
    for count in (100, 1_000, 4_000):
        body = b"[" + b",".join([piece] * count) + b"]"
        started = process_time()
        found = said(guards, schema, seen(body[:GUARDED_TEXT_BYTES], content_type))
        assert process_time() - started < 1
        assert found
