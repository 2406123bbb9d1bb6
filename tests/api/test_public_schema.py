"""Introspection without a key: as tools ask for it, for little, however many ask."""

import httpx2
import pytest
from graphql import get_introspection_query
from strawberry.types import ExecutionResult

from app.api.answers import encoded
from app.api.errors import code_of
from app.api.introspection import KEPT, LONGEST, PublicSchema
from app.api.requests import Operation
from app.rules.errors import Code, RateLimited, Unauthenticated
from tests.api.conftest import KEY
from tests.api.test_http import code, post
from tests.api.toy import SCHEMA

WHOLE = get_introspection_query()
NAMES = "{ __schema { types { name } } }"
#: The variant that a limit of the cost alone lets pass: 5 KB that were answered with 2 MB.
MANY = "{ __schema { types { fields { " + " ".join(f"a{n}: name" for n in range(300)) + " } } } }"


def asked(query: str, name: str | None = None, **variables: object) -> Operation:
    return Operation(query, variables, name)


@pytest.mark.parametrize(
    "query",
    [
        MANY,
        "{ a: __schema { types { name } } b: __schema { types { name } } }",
        "{ __schema { ...F } } fragment F on __Schema { types { ... on __Type { n: name } } }",
    ],
)
def test_without_a_key_no_field_is_shown_twice(http: httpx2.Client, query: str) -> None:
    refused = post(http, query, headers={})
    assert code(refused) == "QUERY_TOO_COMPLEX"
    assert len(refused.content) < 500
    assert "data" in post(http, query).json()


@pytest.mark.parametrize("headers", [{}, KEY])
def test_tools_read_the_whole_schema_with_and_without_a_key(
    http: httpx2.Client, headers: dict[str, str]
) -> None:
    first, second = [post(http, WHOLE, headers=headers).json()["data"] for _ in range(2)]
    assert first == second
    assert first["__schema"]["queryType"] == {"name": "Query", "kind": "OBJECT"}


def test_a_stream_of_the_schema_is_one_event(http: httpx2.Client) -> None:
    streamed = post(http, "{ __typename }", accept="text/event-stream", headers={})
    assert streamed.text == (
        'event: next\ndata: {"data":{"__typename":"Query"}}\n\nevent: complete\ndata:\n\n'
    )


async def test_what_is_not_kept_is_refused_once_the_time_for_it_is_used_up_and_what_is_kept_is_not() -> None:
    public = PublicSchema(SCHEMA, burst=0.01)
    kept = await public.result(asked(NAMES))

    async def ask_for_more() -> None:
        for n in range(1_000):
            await public.result(asked(WHOLE + " " * n))
            assert await public.result(asked(NAMES)) is kept

    with pytest.raises(RateLimited):
        await ask_for_more()
    assert await public.result(asked(NAMES)) is kept


async def test_only_so_many_answers_are_kept() -> None:
    public = PublicSchema(SCHEMA)
    first = await public.result(asked(NAMES))
    for n in range(KEPT - 1):
        await public.result(asked(NAMES + " " * (n + 1)))
    assert await public.result(asked(NAMES)) is first
    for n in range(KEPT):
        await public.result(asked(NAMES + "," * (n + 1)))
    assert await public.result(asked(NAMES)) is not first


async def test_answers_to_variables_and_failures_are_not_mistaken_for_each_other() -> None:
    public = PublicSchema(SCHEMA)
    query = 'query ($has: Boolean = false) { __type(name: "Thing") @include(if: $has) { name } }'
    assert b"Thing" not in _bytes(await public.result(asked(query)))
    assert b"Thing" in _bytes(await public.result(asked(query, has=True)))
    wrong = "{ __schema { nothing } }"
    for _ in range(2):
        assert code_of(await public.result(asked(wrong))) is Code.BAD_USER_INPUT


async def test_a_long_document_is_not_even_read() -> None:
    with pytest.raises(Unauthenticated):
        await PublicSchema(SCHEMA).result(asked("{ __typename }" + " " * LONGEST))


def _bytes(result: ExecutionResult) -> bytes:
    return encoded(result)
