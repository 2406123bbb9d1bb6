"""A document that is known is answered as one that is new; how many are known has its limits."""

from contextlib import aclosing

import pytest
import strawberry
from graphql import DocumentNode, OperationDefinitionNode, parse
from strawberry.types import Info
from strawberry.types.graphql import OperationType

from app.api.documents import Documents
from app.api.guarded import EVERY_TYPE, GuardedSchema
from app.api.requests import Operation
from tests.api.toy import SCHEMA

DOCUMENT: DocumentNode = parse("{ a }")


def test_the_documents_used_last_are_kept_within_their_room() -> None:
    documents = Documents(longest=4, room=10)
    for text in ("aaaa", "bbbb"):
        documents.keep(text, DOCUMENT)
    assert documents.find("aaaa") is DOCUMENT
    documents.keep("cccc", DOCUMENT)
    assert [text for text in ("aaaa", "bbbb", "cccc") if documents.find(text)] == ["aaaa", "cccc"]


def test_a_document_that_is_kept_takes_its_room_once() -> None:
    documents = Documents(longest=4, room=8)
    for text in ("aaaa", "bbbb", "bbbb", "bbbb"):
        documents.keep(text, DOCUMENT)
    assert documents.find("aaaa")
    assert documents.find("bbbb")


def test_a_document_that_is_too_long_takes_nobodys_room() -> None:
    documents = Documents(longest=4, room=8)
    documents.keep("aaaa", DOCUMENT)
    documents.keep("bbbbb", DOCUMENT)
    assert documents.find("aaaa")
    assert documents.find("bbbbb") is None


ran: list[OperationDefinitionNode] = []


@strawberry.type(name="Query")
class Noting:
    @strawberry.field
    def hello(self, info: Info) -> str:
        ran.append(info._raw_info.operation)
        return "hi"


async def test_what_was_valid_is_not_parsed_again() -> None:
    schema = GuardedSchema(Noting)
    for text in ("{ hello }", "{ hello }", "{hello}"):
        assert await _answer(text, schema=schema) == ({"hello": "hi"}, [])
    first, second, other = ran
    assert first is second
    assert first is not other


#: Each is refused, or answered in part.
TWICE = (
    "{ hello",
    "{ nothing }",
    '{ echo(text: "a", text: "b") }',
    "query ($n: Int!) { things(first: $n) { nodes { __typename } } }",
    "query A { __typename } query B { __typename }",
    "{ " + " ".join(f"f{n}: __typename" for n in range(600)) + " }",
    "mutation { nothing }",
    "fragment F on Query { __typename }",
    "",
)


@pytest.mark.parametrize("text", TWICE)
async def test_what_is_refused_is_refused_alike_each_time(text: str) -> None:
    first = await _answer(text)
    assert first[1]
    assert [await _answer(text) for _ in range(2)] == [first, first]


async def test_a_document_that_is_known_is_measured_by_the_variables_of_each_request() -> None:
    text = "query ($n: Int!) { things(first: $n) { nodes { __typename } } }"
    small = await _answer(text, n=2)
    assert small[1] == []
    _, errors = await _answer(text, n=100_000)
    assert "estimated cost" in errors[0]
    assert await _answer(text, n=2) == small


async def test_a_document_that_is_known_has_its_operation_chosen_by_each_request() -> None:
    text = "query A { a: __typename } query B { b: __typename }"
    assert await _answer(text, name="A") == ({"a": "Query"}, [])
    assert await _answer(text, name="B") == ({"b": "Query"}, [])
    assert "say which one" in (await _answer(text))[1][0]
    assert (await _answer(text, name="C"))[1]


async def test_a_document_that_is_known_runs_only_where_its_type_is_allowed() -> None:
    text = "{ __typename }"
    assert await _answer(text) == ({"__typename": "Query"}, [])
    assert (await _answer(text, allowed=OperationType.SUBSCRIPTION))[1]


async def _answer(
    text: str,
    *,
    schema: GuardedSchema = SCHEMA,
    name: str | None = None,
    allowed: OperationType | None = None,
    **variables: object,
) -> tuple[object, list[str]]:
    """The data, and what the errors say, with their places."""
    operation = Operation(text, variables, name)
    async with aclosing(schema.results(operation, None, [allowed] if allowed else EVERY_TYPE)) as results:
        result = await anext(results)
    return result.data, [str(error.formatted) for error in result.errors or ()]
