"""What one document may have us say: tens of megabytes at most, whatever a tenant has stored and however it asks."""

import orjson
import pytest
from graphql import GraphQLObjectType, get_named_type
from strawberry.types import ExecutionResult

from app.api.answers import MOST_BYTES, encoded
from app.api.context import MOST_ANSWERED
from app.api.schema import make_schema
from app.api.sizes import _WEIGHTS
from tests.api.product import World

REGISTER = 'registerAgent(input: {name: "x", scopes: [], configuration: $given}) { userErrors { code } }'
DISPATCH = 'dispatchAction(input: {bindingId: "x", scope: "a:b"})'


def times(number: int, field: str) -> str:
    return " ".join(f"a{n}: {field}" for n in range(number))


@pytest.mark.parametrize(
    "document",
    [
        "{ " + times(20, "agents(first: 100) { nodes { configuration } }") + " }",
        "{ agents(first: 100) { nodes { " + times(9, "configuration") + " } } }",
        "{ " + times(20, "agents(first: 100) { nodes { " + times(4, "scopes") + " } }") + " }",
        "{ "
        + times(9, "delegations(first: 100, direction: OUTGOING) { nodes { ...M ...M ...M } }")
        + " } fragment M on Delegation { metadata terms { metadata } proposedTerms { metadata } }",
        "{ " + times(20, "auditLog(first: 100) { nodes { ...D } }") + " } fragment D on AuditEntry {"
        " details again: details }",
        "mutation { " + DISPATCH + " { response { " + times(5, "body") + " } } }",
        "mutation { " + DISPATCH + " { " + times(5, "response { text }") + " } }",
    ],
    ids=["pages", "aliases", "lists", "fragments", "log", "answers", "responses"],
)
async def test_a_document_that_repeats_what_is_large_is_too_complex(world: World, document: str) -> None:
    acme = await world.tenant("acme")
    [error] = (await world.answer(acme.key, document))["errors"]
    assert error["extensions"] == {"code": "QUERY_TOO_COMPLEX"}
    assert "bytes of text and JSON where each is at its largest: 33,554,432 at most" in error["message"]


@pytest.mark.parametrize(
    "document",
    [
        "{ delegations(first: 100, direction: OUTGOING) { nodes { scopes metadata agent { description } } } }",
        "{ agents(first: 100) { nodes { id name description scopes tags configuration } } }",
        "{ auditLog(first: 100) { nodes { event details delegation { metadata endReason } } } }",
        "{ " + times(20, "auditLog { nodes { details } }") + " }",
        "mutation { " + times(20, DISPATCH + " { response { status body text } userErrors { code } }") + " }",
        "mutation { "
        + DISPATCH
        + " { response { ...A ...A } } } fragment A on UpstreamResponse { body text }",
    ],
    ids=["delegations", "agents", "log", "logs", "answers", "fragments"],
)
async def test_what_a_page_shows_is_not_too_complex(world: World, document: str) -> None:
    acme = await world.tenant("acme")
    assert "errors" not in await world.answer(acme.key, document)


async def test_a_page_of_agents_is_told_with_the_largest_configuration(world: World) -> None:
    acme = await world.tenant("acme")
    largest = {"a": "z" * (64 * 1024 - 10)}
    register = "mutation ($given: JSON) { " + times(17, REGISTER) + " }"
    for _ in range(3):
        assert "errors" not in await world.answer(acme.key, register, given=largest)
    page = await world.ask(acme.key, "{ agents(first: 100) { nodes { configuration } } }")
    assert [node["configuration"] for node in page["nodes"]].count(largest) == 51


def test_an_answer_over_the_limit_is_refused_with_what_became_of_it() -> None:
    document = orjson.loads(encoded(ExecutionResult({"a": "x" * MOST_BYTES}, None)))
    assert document["data"] is None
    [error] = document["errors"]
    assert error["extensions"] == {"code": "QUERY_TOO_COMPLEX"}
    assert "what the operation did is done" in error["message"]


def test_the_largest_answer_of_an_upstream_is_within_the_limit() -> None:
    fragment = orjson.Fragment(b'"%b"' % (b"x" * MOST_ANSWERED))
    document = encoded(ExecutionResult({"a": {"response": {"body": fragment}}}, None))
    assert len(document) > MOST_ANSWERED


def test_every_field_of_json_has_a_weight() -> None:
    shown = [
        name
        for kind in make_schema()._schema.type_map.values()
        if isinstance(kind, GraphQLObjectType)
        for name, field in kind.fields.items()
        if get_named_type(field.type).name == "JSON"
    ]
    assert shown
    assert set(shown) <= set(_WEIGHTS)
