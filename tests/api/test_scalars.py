"""The scalars: what is taken, in which form it comes back, and what a refusal says."""

import math
from typing import Any

import httpx2
import pytest
from graphql import GraphQLError, print_schema
from hypothesis import given
from hypothesis import strategies as some

from app.api import scalars
from app.rules.ids import Instant
from app.rules.instants import rfc3339
from tests.api.test_http import post
from tests.api.toy import SCHEMA

YEAR_1000, YEAR_9999 = -30610224000_000_000, 253402300799_999_999


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("2026-12-31T23:59:59Z", "2026-12-31T23:59:59.000000Z"),
        ("2026-12-31t23:59:59.5z", "2026-12-31T23:59:59.500000Z"),
        ("2027-01-01T01:29:59+01:30", "2026-12-31T23:59:59.000000Z"),
        ("2026-12-31T23:59:59.123456789-00:01", "2027-01-01T00:00:59.123456Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_a_date_time_is_an_instant_in_utc(text: str, out: str) -> None:
    assert rfc3339(scalars.parse_date_time(text)) == out


@pytest.mark.parametrize(
    "value",
    [
        *(
            "2026-12-31T23:59:59",
            "2026-12-31",
            "2026-12-31 23:59:59Z",
            "2026-12-31T23:59Z",
            "20261231T235959Z",
        ),
        *(
            "2026-02-30T00:00:00Z",
            "2026-12-31T24:00:00Z",
            "2026-12-31T23:59:60Z",
            "2026-12-31T23:59:59-00:00",
        ),
        *(
            "2026-12-31T23:59:59+24:00",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "2026-W01-1T00:00:00Z",
        ),
        *(
            "9999-12-31T23:59:59-00:01",
            "\uff12026-12-31T23:59:59Z",
            "2026-12-31T23:59:59Z\n",
            "",
            5,
            None,
            True,
            ["x"],
        ),
    ],
)
def test_what_is_no_instant_is_refused(value: object) -> None:
    with pytest.raises(GraphQLError, match=r"^DateTime: .* is not right; give an .*instant"):
        scalars.parse_date_time(value)


@given(some.integers(YEAR_1000, YEAR_9999))
def test_an_instant_comes_back_as_it_went_out(at: int) -> None:
    assert scalars.parse_date_time(rfc3339(Instant(at))) == at


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("203.0.113.7", "203.0.113.7/32"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
    ],
)
def test_a_network_has_one_form(text: str, normal: str) -> None:
    assert scalars.parse_cidr(text) == normal


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("203.0.113.7/24", "give a network without host bits: 203.0.113.0/24"),
        ("2001:db8::1/32", "give a network without host bits: 2001:db8::/32"),
        *(
            (one, "give a network such as 203.0.113.0/24")
            for one in ("x", "", "1.2.3.4/33", "01.2.3.4", 16909060, None)
        ),
    ],
)
def test_what_is_no_network_is_refused(value: object, wanted: str) -> None:
    with pytest.raises(GraphQLError) as refused:
        scalars.parse_cidr(value)
    assert wanted in refused.value.message


@pytest.mark.parametrize("text", ["receipts:write", "a.b-c_d:e", "x" * 94 + ":write"])
def test_a_scope_is_a_resource_and_a_verb(text: str) -> None:
    assert scalars.parse_scope(text) == text


@pytest.mark.parametrize(
    "value", ["receipts", "Receipts:write", "a:b:c", ":b", "a:", "x" * 95 + ":write", "a:b\n", 5]
)
def test_what_is_no_scope_is_refused(value: object) -> None:
    with pytest.raises(GraphQLError, match="give resource:verb in lower case"):
        scalars.parse_scope(value)


@pytest.mark.parametrize(
    ("value", "number"), [(0, 0), (2**53 - 1, 2**53 - 1), (1 - 2**53, 1 - 2**53), (5.0, 5)]
)
def test_an_int53_is_exact(value: object, number: int) -> None:
    assert scalars.parse_int53(value) == number


@pytest.mark.parametrize("value", [2**53, -(2**53), 1.5, True, "5", None, 1e300])
def test_what_is_no_int53_is_refused(value: object) -> None:
    with pytest.raises(GraphQLError, match="give a whole number from -9007199254740991"):
        scalars.parse_int53(value)


def nested(levels: int) -> object:
    value: object = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize(
    "value", [None, True, 1, 2**64 - 1, 1.5, "é", [], {}, {"a": [1, {"b": None}]}, nested(32), "x" * 65_534]
)
def test_json_is_any_value_that_can_be_written_again(value: object) -> None:
    assert scalars.parse_json(value) == value


UNWRITABLE = (
    "^JSON: this value cannot be written as JSON: it holds an integer of over 64 bits, which a string can hold, "
    "or half a character, which is no Unicode$"
)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "NaN and Infinity"),
        ({"a": [math.inf]}, "NaN and Infinity"),
        ("\ud800", UNWRITABLE),
        ({"\ud800": 1}, UNWRITABLE),
        (2**64, UNWRITABLE),
        (nested(33), "nests deeper than 32 levels"),
        (nested(5_000), "nests deeper than 32 levels"),
        ("x" * 65_535, "has 65537 bytes: 65536 at most"),
    ],
)
def test_what_json_cannot_carry_is_refused(value: object, reason: str) -> None:
    with pytest.raises(GraphQLError, match=reason):
        scalars.parse_json(value)


def test_the_schema_calls_them_as_the_contract_does() -> None:
    printed = print_schema(SCHEMA._schema)
    for name in ("Cidr", "Scope", "JSON", "Int53"):
        assert f"\nscalar {name}\n" in printed
    url = "https://scalars.graphql.org/andimarek/date-time"
    assert f'scalar DateTime @specifiedBy(url: "{url}")' in printed


ECHO = "{ scope networks until number json }"
IN: dict[str, Any] = {
    "scope": "receipts:write",
    "limits": {"networks": ["2001:DB8::/32"], "until": "2027-01-01T00:00:00+01:00"},
    "number": 2**53 - 1,
    "json": {"a": [1, 2.5, None, True, "x"], "big": 2**63},
}
OUT = {
    "scope": "receipts:write",
    "networks": ["2001:db8::/32"],
    "until": "2026-12-31T23:00:00.000000Z",
    "number": 2**53 - 1,
    "json": IN["json"],
}


def test_they_travel_in_variables(http: httpx2.Client) -> None:
    query = f"query ($input: EchoInput!) {{ echo(input: $input) {ECHO} }}"
    assert post(http, query, variables={"input": IN}).json() == {"data": {"echo": OUT}}


def test_they_travel_as_literals_with_variables_inside(http: httpx2.Client) -> None:
    query = f"""
      query ($cidr: Cidr!, $x: String) {{
        echo(input: {{
          scope: "receipts:write", number: 9007199254740991
          limits: {{networks: [$cidr], until: "2027-01-01T00:00:00+01:00"}}
          json: {{a: [1, 2.5, null, true, $x], big: 9223372036854775808}}
        }}) {ECHO}
      }}
    """
    found = post(http, query, variables={"cidr": "2001:DB8::/32", "x": "x"})
    assert found.json() == {"data": {"echo": OUT}}


@pytest.mark.parametrize("literal", ["1e999", "{a: 1" + "0" * 5_000 + "}", '"\\uD800"', "[" * 33 + "]" * 33])
def test_a_json_literal_is_held_to_the_same(http: httpx2.Client, literal: str) -> None:
    [error] = post(http, f"{{ echo(input: {{json: {literal}}}) {{ json }} }}").json()["errors"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT"}
