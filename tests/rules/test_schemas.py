"""requestSchema: what it does not allow is denied, and no schema with any body takes long."""

import itertools
import json
from time import process_time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.rules.content.bodies import MOST_NODES, Body, read, size_at_most
from app.rules.content.denials import Denial
from app.rules.content.schema_costs import MOST_REGEXES, work
from app.rules.content.schemas import LARGEST_SCHEMA, MOST_WORK, compiled, judge, longest, refuse
from app.rules.errors import Code

EXPENSE = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "An expense",
    "type": "object",
    "required": ["merchant", "total"],
    "additionalProperties": False,
    "properties": {
        "merchant": {"type": "string", "minLength": 1, "maxLength": 100},
        "total": {"type": "number", "minimum": 0, "maximum": 100, "multipleOf": 0.01},
        "currency": {"enum": ["EUR", "USD"]},
        "email": {"type": "string", "format": "email"},
        "center": {"type": "string", "pattern": r"^[A-Z]-\d+$"},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 5},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "$defs": {"line": {"type": "object", "properties": {"qty": {"type": "integer"}}}},
}


def body(value: Any) -> Body:
    """A JSON body with this value."""
    return as_sent(orjson.dumps(value))


def as_sent(raw: bytes, content_type: str | None = "application/json") -> Body:
    """A body that is read."""
    found = read(raw, content_type)
    assert isinstance(found, Body), found
    return found


def judged(schema: Any, value: Any) -> Denial | None:
    """What a schema that is fine says of a value."""
    assert refuse(schema) is None, refuse(schema)
    return judge(json.dumps(schema), body(value))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({}, None),
        ({"total": 12.5}, None),
        ({"total": 100}, None),
        (
            {
                "currency": "EUR",
                "email": "a@b.example",
                "center": "R-1",
                "tags": ["a", "b"],
                "lines": [{"qty": 1}],
            },
            None,
        ),
        ({"total": 100.01}, "/total (maximum)"),
        ({"total": 0.001}, "/total (multipleOf)"),
        ({"total": "5"}, "/total (type)"),
        ({"total": True}, "/total (type)"),
        ({"merchant": ""}, "/merchant (minLength)"),
        ({"currency": "eur"}, "/currency (enum)"),
        ({"email": "nobody"}, "/email (format)"),
        ({"center": "r-1"}, "/center (pattern)"),
        ({"tags": ["a", "a"]}, "/tags (uniqueItems)"),
        ({"lines": [{"qty": 1}, {"qty": "x"}]}, "/lines/1/qty (type)"),
        ({"Total": 5000}, None),
        ({"extra": 1}, "its root (additionalProperties)"),
    ],
)
def test_a_schema_allows_what_it_says_and_names_the_first_mismatch(
    change: dict[str, Any], where: str | None
) -> None:
    value = {"merchant": "Blue Bottle", "total": 5, **change}
    if "Total" in change:  # some upstream reads it for the other
        assert isinstance(read(orjson.dumps(value), "application/json"), Denial)
        return
    denial = judged(EXPENSE, value)
    if where is None:
        assert denial is None
    else:
        detail = f"The body does not fit the action's requestSchema at {where}."
        assert denial == Denial(Code.SCHEMA_MISMATCH, detail)


def test_a_denial_repeats_no_content_of_the_body() -> None:
    denial = judged({"properties": {"a": {"maxLength": 3}}}, {"a": "secret"})
    assert denial is not None
    assert "secret" not in denial.detail
    denial = judged({"additionalProperties": {"type": "null"}}, {"k" * 5_000: 1})
    assert denial is not None
    assert len(denial.detail) < 300


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        EXPENSE,
        {"x-note": {"anything": 1}},
        {
            "$id": "https://example.com/expense",
            "$comment": "c",
            "default": {"$ref": "x"},
            "examples": [{"not": 1}],
        },
        {"const": {"$ref": "#"}, "enum": [{"unevaluatedItems": 1}]},
        {"definitions": {"a": {"type": "string"}}, "$ref": "#/definitions/a"},
        {"properties": {"$ref": {"type": "string"}, "a/b~c%": {"type": "null"}}},
        {"properties": {"a": {"type": "string"}, "b": {"$ref": "#/properties/a", "maxLength": 3}}},
        {"anyOf": [{"required": ["a"]}, {"required": ["b"]}], "not": {"required": ["c"]}},
        {"if": {"required": ["a"]}, "then": {"minProperties": 2}, "else": False},
        {"prefixItems": [{"type": "string"}], "items": False, "contains": {"const": "a"}, "minContains": 0},
        {"patternProperties": {"^x-": {"type": "string"}}, "propertyNames": {"maxLength": 9}},
        {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"a": {"minProperties": 2}}},
        {
            "properties": {
                f"p{each}": {"type": "string", "pattern": "^[a-z]+$"} for each in range(MOST_REGEXES)
            }
        },
        {"enum": [f"country {each}" for each in range(500)]},
        {"properties": {"mcc": {"enum": list(range(5_000, 5_200))}}},
    ],
)
def test_a_good_schema_passes(schema: Any) -> None:
    assert refuse(schema) is None


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (None, "neither an object nor a boolean"),
        (5, "neither an object nor a boolean"),
        ([], "neither an object nor a boolean"),
        ({1, 2}, "is no JSON"),
        ({"minimum": 2**64}, "is no JSON"),
        ({"minimum": 2**60}, "beyond 2^53-1"),
        ({"minimum": 1e300}, "beyond 1e30"),
        ({"description": "\ud800"}, "is no JSON"),
        ({"description": "x" * LARGEST_SCHEMA}, "bytes as JSON"),
        ({"type": "strin"}, "at /type"),
        ({"required": "a"}, "at /required"),
        ({"properties": {"a": {"minLength": -1}}}, "at /properties/a/minLength"),
        ({"definitions": {"a": {"minimum": "x"}}}, "at /definitions/a/minimum"),
        ({"requird": ["a"]}, "the keyword requird"),
        ({"properties": {"a": {"nullable": True}}}, '["string", "null"]'),
        ({"unevaluatedProperties": False}, "additionalProperties"),
        ({"items": {"unevaluatedItems": False}}, "say items"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema"),
        ({"$ref": "https://example.com/schema"}, "no schema within it"),
        ({"$ref": "http://127.0.0.1:1/"}, "no schema within it"),
        ({"$ref": "file:///etc/passwd"}, "no schema within it"),
        ({"$ref": "other.json"}, "other.json"),
        ({"$id": "http://127.0.0.1:1/a", "$ref": "b"}, "no schema within it"),
        ({"$id": "http://127.0.0.1:1/a", "$ref": "a"}, "$ref"),
        ({"$ref": "#/$defs/none"}, "$defs/none"),
        ({"examples": [{"type": "null"}], "$ref": "#/examples/0"}, "no schema within it"),
        ({"x-a": {"type": "null"}, "$ref": "#/x-a"}, "no schema within it"),
        ({"$ref": "#"}, "$ref"),
        ({"properties": {"a": {"$ref": "#"}}}, "$ref"),
        (
            {
                "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"items": {"$ref": "#/$defs/a"}}},
                "$ref": "#/$defs/a",
            },
            "itself",
        ),
        ({"properties": {"a": {"$id": "x", "type": "null"}}}, "only the root"),
        ({"$defs": {"a": {"$anchor": "a"}}, "$ref": "#a"}, "$anchor"),
        ({"$dynamicAnchor": "a"}, "$dynamicAnchor"),
        ({"$dynamicRef": "#"}, "$dynamicRef"),
        ({"$recursiveRef": "#"}, "$recursiveRef"),
        ({"pattern": "(?=a)"}, "at /pattern"),
        ({"pattern": r"(a)\1"}, "at /pattern"),
        ({"pattern": "["}, "at /pattern"),
        ({"pattern": "[ab]{1000}{1000}"}, "/pattern"),
        ({"pattern": r"\p{L}{300}"}, "/pattern"),
        ({"patternProperties": {"(?!a)": True}}, "/patternProperties"),
        ({"format": "regex"}, "not checked here"),
        ({"format": "idn-hostname"}, "not checked here"),
        ({"format": "made-up"}, "not checked here"),
        (
            {"properties": {f"p{each}": {"pattern": f"{each}"} for each in range(MOST_REGEXES + 1)}},
            "over 20 patterns",
        ),
        ({"contentEncoding": "base64"}, "contentEncoding"),
    ],
)
def test_a_schema_that_cannot_be_judged_by_is_refused(schema: Any, why: str) -> None:
    refusal = refuse(schema)
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.SCHEMA_INVALID, ("requestSchema",))
    assert refusal.message.startswith("requestSchema ")
    assert why in refusal.message
    assert len(refusal.message) < 600


SIMPLE_TYPES = "one of array, boolean, integer, null, number, object and string, or a list of several of them, none twice"
REFER = "which leads to no schema within it: refer to #/$defs/… by names of letters, digits, _, . and -"
STAND = "where a schema should stand: give an object or a boolean"
SYNTAX = "see github.com/google/re2/wiki/Syntax"


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "strin"}, f'has "strin" at /type, but type takes {SIMPLE_TYPES}'),
        ({"type": []}, f"has [] at /type, but type takes {SIMPLE_TYPES}"),
        ({"required": "a"}, 'has "a" at /required, but required takes a list of names, none twice'),
        ({"required": [1]}, "has 1 at /required/0, but required takes a list of names, none twice"),
        (
            {"properties": {"type": {"minLength": -1}}},
            "has -1 at /properties/type/minLength, but minLength takes a whole number, 0 or more",
        ),
        ({"multipleOf": 0}, "has 0 at /multipleOf, but multipleOf takes a number above 0"),
        ({"maximum": True}, "has true at /maximum, but maximum takes a number"),
        ({"allOf": []}, "has [] at /allOf, but allOf takes a list of schemas, one or more"),
        ({"properties": {"a": 5}}, f"has 5 at /properties/a, {STAND}"),
        ({"items": [{}]}, f"has [{{}}] at /items, {STAND}"),
        ({"properties": 5}, "has 5 at /properties, but properties takes an object of schemas"),
        ({"$id": "a b"}, 'has "a b" at /$id, but $id takes an address without a fragment, as in https://example.com/schema'),
        ({"$anchor": 5}, "has the keyword $anchor, which is not supported: refer to #/$defs/… by $ref"),
        ({"": 5}, "has the keyword (empty), which is not supported: leave it out, or begin its name with x-"),
        ({"$ref": {"a": 1}}, f'has the $ref {{"a":1}}, {REFER}'),
        ({"$ref": "https://e.example/s"}, f'has the $ref "https://e.example/s", {REFER}'),
        ({"items": {"$ref": "#/$defs/none"}}, f'has the $ref "#/$defs/none" at /items, {REFER}'),
        ({"$ref": "#/x-a", "x-a": {"type": "strin"}}, f'has the $ref "#/x-a", {REFER}'),
        ({"pattern": "a)"}, f'has the pattern a) at /pattern, which is no RE2 pattern, RE2 says "unexpected ): a)": {SYNTAX}'),
        (
            {"patternProperties": {"(?=a)": True}},
            f'has the pattern (?=a) at /patternProperties/(?=a), which is no RE2 pattern, RE2 says "invalid perl operator: (?=": {SYNTAX}',
        ),
        ({"pattern": "[ab]{1000}"}, "has the pattern [ab]{1000} at /pattern, which is not understood, or too large: use smaller counts and classes"),
        ({"items": {"format": "regex"}}, "has the format regex at /items, which is not checked here: use date, date-time, "),
        ({"minimum": 2**60}, "cannot be read: an integer in it is beyond 2^53-1: send it as a string"),
        (5, "is neither an object nor a boolean: give a JSON Schema of draft 2020-12"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_stands_where_and_what_would_be_right(schema: Any, said: str) -> None:
    refusal = refuse(schema)
    assert refusal is not None
    assert refusal.message.startswith(f"requestSchema {said}")


def nested(keyword: str, depth: int) -> Any:
    """A schema within a schema."""
    schema: Any = {"type": "null"}
    for _ in range(depth):
        schema = {keyword: schema}
    return schema


@pytest.mark.parametrize("keyword", ["not", "items", "additionalProperties", "contains", "if"])
def test_a_schema_nested_too_deep_is_refused(keyword: str) -> None:
    assert refuse(nested(keyword, 25)) is None
    assert refuse(nested(keyword, 40)) is not None


def doubling(depth: int, keyword: str = "allOf") -> Any:
    """A chain of references, each of which is followed twice."""
    defs: dict[str, Any] = {"d0": {"type": "integer"}}
    for each in range(depth):
        defs[f"d{each + 1}"] = {keyword: [{"$ref": f"#/$defs/d{each}"}] * 2}
    return {"$defs": defs, "$ref": f"#/$defs/d{depth}"}


#: All are alike but for their brackets, so that the library's hash does not tell them apart.
LISTS = [
    [[1] * size for size in (*sizes, 12 - sum(sizes)) if size]
    for sizes in itertools.product([1, 2], repeat=7)
    if sum(sizes) <= 12
]


@pytest.mark.parametrize(
    "schema",
    [
        doubling(26),
        doubling(100, "anyOf"),
        {"$defs": {"a": {"enum": list(range(500))}}, "allOf": [{"$ref": "#/$defs/a"}] * 300},
        {"allOf": [{"pattern": f"[ab]*a[ab]{{200}}{each}"} for each in range(20)]},
    ],
)
def test_a_schema_that_multiplies_is_refused(schema: Any) -> None:
    started = process_time()
    refusal = refuse(schema)
    assert process_time() - started < 1
    assert refusal is not None
    assert "too long" in refusal.message


NUMBERS = list(range(MOST_NODES - 1))


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (doubling(9), 5),
        ({"items": {"allOf": [{"minimum": -each} for each in range(600)]}}, NUMBERS),
        ({"items": {"anyOf": [*({"minimum": 10_000 + each} for each in range(500)), True]}}, NUMBERS),
        ({"items": {"oneOf": [*({"minimum": 10_000 + each} for each in range(500)), True]}}, NUMBERS),
        ({"items": {"minimum": 0.1, "maximum": 1e30}}, NUMBERS),
        ({"items": {"minimum": 1e-30}}, [each + 0.5 for each in NUMBERS]),
        ({"items": {"not": {"enum": list(range(-200, 0))}}}, [1e-30 * each for each in range(1, 5_000)]),
        ({"items": {"not": {"enum": [each + 0.1 for each in range(99)]}}}, NUMBERS),
        ({"items": {"not": {"const": 0.5}}}, [each + 0.5 for each in range(1, 9_000)]),
        ({"items": {"not": {"enum": [{"a": each} for each in range(200)]}}}, [{"a": -each} for each in range(1, 3_300)]),
        ({"items": {"multipleOf": 1e-9}}, NUMBERS),
        ({"items": {"multipleOf": 7}}, [each * 1e26 for each in range(9_000)]),
        ({"uniqueItems": True}, NUMBERS),
        ({"uniqueItems": True}, [2**53 - each for each in range(1, 7_000)]),
        ({"uniqueItems": True}, [each * 1e26 for each in range(9_000)]),
        ({"uniqueItems": True}, LISTS),
        ({"items": {"uniqueItems": True}, "uniqueItems": True}, [LISTS, LISTS[1:]]),
        ({"items": {"uniqueItems": True}, "uniqueItems": True}, [[each, [each]] for each in range(2_400)]),
        ({"allOf": [{"uniqueItems": True}] * 300}, NUMBERS),
        ({"anyOf": [{"contains": {"minimum": 10_000 + each}} for each in range(300)]}, NUMBERS),
        ({"patternProperties": {f"^k[0-9]*{each}$": True for each in range(20)}}, {f"k{each}": 1 for each in range(4_900)}),
        ({"propertyNames": {"allOf": [{"maxLength": 9 + each} for each in range(500)]}}, {f"k{each}": 1 for each in range(4_900)}),
        ({"required": [f"k{each}" for each in range(1_000)]}, {f"k{each}": 1 for each in range(4_900)}),
        ({"items": {"properties": {f"k{each}": True for each in range(900)}}}, [{} for _ in range(9_000)]),
        ({"pattern": "[ab]*a[ab]{60}c"}, "ab" * 60_000),
        ({"pattern": "(?:(?:[ab]+){100})+c"}, "a" * 120_000),
        ({"allOf": [{"pattern": f"a[ab]{{9}}{each}"} for each in range(9)]}, "a" * 120_000),
        *(({"format": name}, "a." * 60_000) for name in ("email", "hostname", "uri", "uri-reference", "date-time")),
        *(({"format": name}, "1:" * 60_000) for name in ("ipv6", "ipv4", "uuid", "time", "duration", "json-pointer")),
    ],
)  # fmt: skip
def test_no_body_takes_long_to_judge(schema: Any, value: Any) -> None:
    """By each schema, with as large a body as it judges and with a larger one."""
    assert refuse(schema) is None
    text = json.dumps(schema)
    compiled(text)
    started = process_time()
    judge(text, body(value))
    while (
        isinstance(value, list | dict | str)
        and len(value) > 1
        and work(compiled(text).cost, body(value).size) > MOST_WORK
    ):
        value = (
            dict(list(value.items())[: len(value) // 2])
            if isinstance(value, dict)
            else value[: len(value) // 2]
        )
    denial = judge(text, body(value))
    assert process_time() - started < 1
    assert denial is None or denial.code is Code.SCHEMA_MISMATCH


def test_a_body_too_large_for_the_schema_is_denied_unjudged() -> None:
    schema = {"items": {"allOf": [{"minimum": -each} for each in range(600)]}}
    started = process_time()
    denial = judged(schema, NUMBERS)
    assert process_time() - started < 0.5
    assert denial is not None
    assert denial.code is Code.REQUEST_TOO_LARGE
    few, many = (
        longest(json.dumps(schema), size_at_most(raw)) for raw in (b"[1]", b"[1" + b",1" * 9_000 + b"]")
    )
    assert few < many <= MOST_WORK * 0.01


def test_an_ordinary_schema_judges_bodies_of_thousands_of_values() -> None:
    lines = [{"qty": each} for each in range(1_500)]
    assert judged(EXPENSE, {"merchant": "a", "total": 5, "lines": lines}) is None
    assert judged(EXPENSE, {"merchant": "a", "total": 5, "lines": [*lines, {"qty": "x"}]}) is not None


def test_an_empty_body_is_null_and_other_text_is_unreadable() -> None:
    assert judge('{"type": "null"}', as_sent(b"")) is None
    mismatch = judge('{"type": "object"}', as_sent(b""))
    assert mismatch is not None
    assert mismatch.code is Code.SCHEMA_MISMATCH
    unreadable = judge("true", as_sent(b"a=1", "application/x-www-form-urlencoded"))
    assert unreadable is not None
    assert unreadable.code is Code.BODY_UNREADABLE


@given(some.text(max_size=30) | some.just('{"$ref": "#"}'))
def test_a_stored_text_that_is_no_schema_raises_one_kind_of_error(text: str) -> None:
    try:
        judge(text, body({}))
    except ValueError:
        pass
