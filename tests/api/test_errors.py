"""Every error has a code; only what is meant for a client leaves."""

import traceback

import httpx2
import pytest
from graphql import GraphQLError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from structlog.testing import capture_logs

from app.api.errors import failure, public
from app.api.requests import Operation
from tests.api.test_http import post
from tests.api.toy import SCHEMA, SECRET, Context

INTERNAL = {"code": "INTERNAL", "requestId": "req_1"}


@pytest.mark.parametrize(
    ("how", "message", "extensions"),
    [
        ("bad", "thing: must be right", {"code": "BAD_USER_INPUT"}),
        ("forbidden", "you may not", {"code": "FORBIDDEN"}),
        ("unauthenticated", "your key has ended", {"code": "UNAUTHENTICATED"}),
        ("away", "try again", {"code": "UNAVAILABLE", "retryAfter": 1}),
        ("bug", "Internal error", INTERNAL),
        ("graphql", "Internal error", INTERNAL),
    ],
)
def test_an_error_of_a_field_is_public(
    http: httpx2.Client, how: str, message: str, extensions: dict[str, object]
) -> None:
    with capture_logs() as logs:
        body = post(http, f'{{ hello fails(how: "{how}") }}').json()
    assert body["data"] == {"hello": "world", "fails": None}
    [error] = body["errors"]
    assert (error["message"], error["extensions"], error["path"]) == (message, extensions, ["fails"])
    assert error["locations"] == [{"line": 1, "column": 9}]
    assert SECRET not in str(body)
    assert len(logs) == (extensions is INTERNAL)


def test_what_stays_inside_is_logged_with_its_traceback(http: httpx2.Client) -> None:
    with capture_logs() as logs:
        post(http, '{ fails(how: "bug") }')
    [line] = logs
    assert (line["event"], line["path"]) == ("graphql.internal_error", ["fails"])
    assert "raise FAULTS[how]" in "".join(traceback.format_exception(line["exc_info"]))


@pytest.mark.parametrize("query", ["{ tooBig }", "{ cancelled }", "subscription { __typename }"])
def test_whatever_else_goes_wrong_has_a_code(http: httpx2.Client, query: str) -> None:
    with capture_logs():
        [error] = post(http, query).json()["errors"]
    assert error["extensions"]["code"] in {"INTERNAL", "BAD_USER_INPUT"}


@pytest.mark.parametrize(
    ("query", "variables", "message"),
    [
        (
            "query ($input: EchoInput!) { echo(input: $input) { scope } }",
            {"input": {"limits": {"networks": ["10.0.0.0/8", "10.0.0.1/8"]}}},
            (
                "$input.limits.networks[1]: Cidr: '10.0.0.1/8' is not right; "
                "give a network without host bits: 10.0.0.0/8"
            ),
        ),
        (
            "query ($input: EchoInput!) { echo(input: $input) { scope } }",
            {},
            "$input is missing: give EchoInput",
        ),
        (
            "query ($n: Int = 1) { half(number: $n) }",
            {"n": None},
            "number: $n must not be null: give Int",
        ),
        (
            "query ($n: Int) { leftOut(number: $n) }",
            {"n": None},
            (
                "Expected value of type 'int', found null. Field of type 'Maybe[int]' cannot be explicitly set to "
                "null. Use 'Maybe[int | None]' if you need to allow null values."
            ),
        ),
        ("{ halv(number: 1) }", {}, "Cannot query field 'halv' on type 'Query'. Did you mean 'half'?"),
        ("{ hello", {}, "Syntax Error: Expected Name, found <EOF>."),
        ("{ half(number: true) }", {}, "number must be a whole number from -2147483648 to 2147483647"),
        (
            '{ echo(input: {limits: {networks: ["10.0.0.0/8", "x"]}}) { scope } }',
            {},
            "input.limits.networks[1]: Cidr: 'x' is not right; give a network such as 203.0.113.0/24 or 2001:db8::/32",
        ),
        (
            'query ($s: Scope = "Receipts:Write") { echo(input: {scope: $s}) { scope } }',
            {},
            (
                "$s: Scope: 'Receipts:Write' is not right; give resource:verb in lower case, at most 100 characters, "
                "such as receipts:write"
            ),
        ),
    ],
)
def test_a_fault_in_the_request_is_named(
    http: httpx2.Client, query: str, variables: dict[str, object], message: str
) -> None:
    with capture_logs() as logs:
        [error] = post(http, query, variables=variables).json()["errors"]
    assert (error["message"], error["extensions"]) == (message, {"code": "BAD_USER_INPUT"})
    assert not logs


async def test_the_schema_itself_never_leaks() -> None:
    with capture_logs() as logs:
        result = await SCHEMA.execute('{ fails(how: "bug") }', context_value=Context("alice", 0))
    assert [e.message for e in result.errors or ()] == ["Internal error"]
    assert len(logs) == 1


async def test_an_operation_ends_with_a_result_even_where_graphql_itself_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(SCHEMA, "stream", breaks)
    with capture_logs() as logs:
        found = [one async for one in SCHEMA.results(Operation("{ hello }", {}, None), None)]
    assert [e.message for one in found for e in one.errors or ()] == ["Internal error"]
    assert len(logs) == 1


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("SELECT 1", {}, OSError(SECRET)),
        InterfaceError("SELECT 1", {}, OSError(SECRET)),
        DBAPIError("COMMIT", {}, OSError(SECRET), connection_invalidated=True),
        PoolTimeout(SECRET),
        ConnectionResetError(SECRET),
    ],
)
def test_a_store_that_is_lost_midway_is_unavailable_and_promises_nothing(error: Exception) -> None:
    with capture_logs() as logs:
        shown = public(GraphQLError(SECRET, original_error=error))
    assert shown.extensions == {"code": "UNAVAILABLE", "retryAfter": 5}
    assert "look whether this was done" in shown.message
    assert SECRET not in str(shown.formatted)
    assert [line["exc_info"] for line in logs] == [error]


def test_an_error_repeats_little_of_what_a_client_sent(http: httpx2.Client) -> None:
    long = {"number": "9" * 500_000}
    answered = post(http, "query ($number: Int!) { half(number: $number) }", variables=long)
    assert answered.json()["errors"][0]["extensions"] == {"code": "BAD_USER_INPUT"}
    assert len(answered.content) < 1_500


def test_an_error_is_made_public_and_logged_once() -> None:
    with capture_logs() as logs:
        error = public(GraphQLError(SECRET, original_error=RuntimeError()))
        assert public(error) is error
        assert failure(error).errors == [error]
        assert public(public(GraphQLError(SECRET, path=["a"]))).message == "Internal error"
    assert len(logs) == 2
