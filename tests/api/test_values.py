"""Values that are of no type are told by their place, with what would be right, and nothing of what they are."""

import re
from typing import Any

import pytest

from app.api.schema import make_schema

OFFER = "mutation ($input: OfferDelegationInput!) { offerDelegation(input: $input) { offerToken } }"
RIGHT: dict[str, Any] = {
    "fromAgentId": "agt_1",
    "toTenantId": "ten_1",
    "scopes": ["receipts:read"],
    "constraints": {"expiresAt": "2027-01-31T00:00:00Z"},
}
ID = "an id, a string"
INT = "a whole number from -2147483648 to 2147483647"

#: What is wrong of an offer, as GraphQL writes it too, and what is said.
WRONG = [
    ({"scopes": None}, "scopes: null", "input.scopes must not be null: give [Scope!]"),
    ({"scopes": [None]}, "scopes: [null]", "input.scopes[0] must not be null: give Scope"),
    (
        {"scopes": ["Receipts"]},
        'scopes: ["Receipts"]',
        "input.scopes[0]: Scope: 'Receipts' is not right; give resource:verb in lower case, at most 100 characters, such as receipts:write",
    ),
    ({"scopes": [True]}, "scopes: [true]", "input.scopes[0]: Scope: true is not right; give resource:verb in"),
    ({"scopes": [{"a": 1}]}, "scopes: [{a: 1}]", "input.scopes[0]: Scope: an object is not right; give resource"),
    ({"fromAgentId": True}, "fromAgentId: true", f"input.fromAgentId must be {ID}"),
    ({"fromAgentId": {"a": "s3cret"}}, 'fromAgentId: {a: "s3cret"}', f"input.fromAgentId must be {ID}"),
    ({"constraints": "s3cret"}, 'constraints: "s3cret"', "input.constraints must be an object, ConstraintsInput"),
    ({"constraints": {}}, "constraints: {}", "input.constraints.expiresAt is missing: give DateTime"),
    (
        {"constraints": {"expiresAt": 5}},
        "constraints: {expiresAt: 5}",
        "input.constraints.expiresAt: DateTime: 5 is not right; give an RFC 3339 instant with an offset, such as 2026-12-31T23:59:59Z",
    ),
    (
        {"constraints": {"expiresAt": "2027-02-30T00:00:00Z"}},
        'constraints: {expiresAt: "2027-02-30T00:00:00Z"}',
        "input.constraints.expiresAt: DateTime: '2027-02-30T00:00:00Z' is not right; give an instant of the calendar, which has no such day, hour, minute, second or offset",
    ),
    ({"scope": "s3cret"}, 'scope: "s3cret"', "input.scope is no field of OfferDelegationInput. Did you mean 'scopes'?"),
    ({"x": "s3cret"}, 'x: "s3cret"', "input.x is no field of OfferDelegationInput. Leave it out."),
    ({"acceptance": "MAIL"}, "acceptance: MAIL", "input.acceptance must be one of TOKEN, ADDRESSED"),
    ({"acceptance": 5}, "acceptance: 5", "input.acceptance must be one of TOKEN, ADDRESSED"),
    ({"acceptance": None}, "acceptance: null", "input.acceptance must not be null: give AcceptanceMode"),
    ({"idempotencyKey": 5}, "idempotencyKey: 5", "input.idempotencyKey must be a string"),
    ({"metadata": 2**64}, f"metadata: {2**64}", "input.metadata: JSON: this value cannot be written as JSON: it holds"),
]  # fmt: skip

LEAKS = re.compile(r"None|True|False|Expected|[Ff]ound|cannot represent|Variable|sys\\.|s3cret")


def literal(value: Any) -> str:
    """As a GraphQL document writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {literal(each)}" for name, each in value.items()) + "}"
    return "[" + ", ".join(map(literal, value)) + "]" if isinstance(value, list) else f'"{value}"'


async def said(query: str, variables: dict[str, Any] | None = None) -> list[str]:
    """The messages of a request of which nothing runs."""
    result = await make_schema().execute(query, variables)
    assert {(error.extensions or {})["code"] for error in result.errors or ()} == {"BAD_USER_INPUT"}
    return [error.message for error in result.errors or ()]


@pytest.mark.parametrize(("wrong", "written", "message"), WRONG)
async def test_a_wrong_value_is_told_alike_in_a_variable_and_in_a_document(
    wrong: dict[str, Any], written: str, message: str
) -> None:
    [of_variable] = await said(OFFER, {"input": {**RIGHT, **wrong}})
    assert of_variable.startswith(f"${message}")
    assert not LEAKS.search(of_variable)
    rest = literal({name: value for name, value in RIGHT.items() if name not in wrong})[1:-1]
    document = f"mutation {{ offerDelegation(input: {{{rest}, {written}}}) {{ offerToken }} }}"
    [of_literal] = await said(document)
    assert of_literal.startswith(message)
    assert not LEAKS.search(of_literal)


async def test_every_missing_field_is_told_with_its_type() -> None:
    missing = {
        "fromAgentId": "ID",
        "toTenantId": "ID",
        "scopes": "[Scope!]",
        "constraints": "ConstraintsInput",
    }
    wanted = [f"input.{name} is missing: give {kind}" for name, kind in missing.items()]
    assert await said("mutation { offerDelegation(input: {}) { offerToken } }") == wanted
    assert await said(OFFER, {"input": {}}) == [f"${each}" for each in wanted]


@pytest.mark.parametrize(
    ("query", "variables", "message"),
    [
        (OFFER, {}, "$input is missing: give OfferDelegationInput"),
        (OFFER, {"input": None}, "$input must not be null: give OfferDelegationInput"),
        (OFFER, {"input": [1]}, "$input must be an object, OfferDelegationInput"),
        ("query ($n: Int) { agents(first: $n) { nodes { id } } }", {"n": "9"}, f"$n must be {INT}"),
        ('mutation { defineAction(input: {upstreamId: "u", scope: "a:b", costUnits: 1099511627776}) { action { id } } }', {}, f"input.costUnits must be {INT}"),
        ('{ agents(first: "9") { nodes { id } } }', {}, f"first must be {INT}"),
        ('{ delegations(direction: "INCOMING") { totalCount } }', {}, "direction must be one of OUTGOING, INCOMING, without quotes"),
        ("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ["a", {}]}, f"$ids[1] must be {ID}"),
        (
            "mutation ($i: ID!) { acceptDelegation(input: {delegationId: $i, acceptingAgentId: 1, acknowledgeConstraints: 1}) { scopedToken } }",
            {"i": "x"},
            "input.acknowledgeConstraints must be true or false",
        ),
        ("query ($id: ID! = null) { agent(id: $id) { id } }", {}, "$id must not be null: give ID"),
        ("query ($id: ID = 1) { agent(id: $id) { id } }", {"id": None}, "id: $id must not be null: give ID"),
    ],
)  # fmt: skip
async def test_a_wrong_argument_is_told_by_its_name(
    query: str, variables: dict[str, Any], message: str
) -> None:
    assert await said(query, variables) == [message]
