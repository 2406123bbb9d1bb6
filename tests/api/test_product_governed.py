"""Governed terms over GraphQL: what each side asks for, is told, and sees."""

from typing import Any

import pytest

from app.rules.permissions import Role
from tests.api.product import ERRORS, Json, Tenant, World, later

GOVERNED = (
    "id status scopes metadata terms { version hash inForceAt constraints { maxActionsPerHour condition } } "
    "proposedTerms { version hash scopes inForceAt } termsHistory { version }"
)
AMEND = (
    "mutation ($input: AmendDelegationInput!) { amendDelegation(input: $input) {"
    f" delegation {{ {GOVERNED} }} {ERRORS} }} }}"
)
ACKNOWLEDGE = (
    "mutation ($input: AcknowledgeTermsInput!) { acknowledgeTerms(input: $input) {"
    f" delegation {{ {GOVERNED} }} {ERRORS} }} }}"
)
SUSPEND = (
    'mutation ($id: ID!) { suspendDelegation(input: {delegationId: $id, reason: "a doubt"}) {'
    f" delegation {{ status }} {ERRORS} }} }}"
)
RESUME = f"mutation ($id: ID!) {{ resumeDelegation(input: {{delegationId: $id}}) {{ delegation {{ status }} {ERRORS} }} }}"
TRUST = (
    "mutation ($id: ID!, $score: Int!) {"
    ' reportTrustScore(input: {agentId: $id, score: $score, reason: "an audit"}) {'
    f" agent {{ id trustScore configuration }} {ERRORS} }} }}"
)
SHOW = f"query ($id: ID!) {{ delegation(id: $id) {{ {GOVERNED} }} }}"


async def pair(world: World) -> tuple[Tenant, Tenant]:
    return await world.tenant("acme"), await world.tenant("globex")


async def lent(world: World, by: Tenant, to: Tenant, **more: Any) -> str:
    """The id of an accepted delegation."""
    accepted = await world.delegated(by, to, **more)
    id: str = accepted["delegation"]["id"]
    return id


async def amended(world: World, by: Tenant, id: str, version: int = 1, **changes: Any) -> Json:
    """An amendment's payload."""
    asked = {"delegationId": id, "expectedVersion": version, **changes}
    payload: Json = await world.ask(by.key, AMEND, input=asked)
    return payload


async def test_an_amendment_is_the_next_version_and_both_sides_see_it(world: World) -> None:
    acme, globex = await pair(world)
    id = await lent(world, acme, globex, constraints={"maxActionsPerHour": 9})
    payload = await amended(world, acme, id, maxActionsPerHour=3, metadata={"purpose": "books"})
    assert payload["userErrors"] == []
    shown = payload["delegation"]
    assert shown["terms"]["version"] == 2
    assert shown["terms"]["constraints"]["maxActionsPerHour"] == 3
    assert shown["metadata"] == {"purpose": "books"}
    assert [each["version"] for each in shown["termsHistory"]] == [1, 2]
    assert await world.ask(globex.key, SHOW, id=id) == shown


async def test_added_scopes_wait_for_the_delegate_and_the_rest_is_in_force(world: World) -> None:
    acme = await world.tenant("acme", ["a:r", "a:w", "b:r"])
    globex = await world.tenant("globex")
    id = await lent(world, acme, globex, scopes=["a:r", "a:w"])
    shown = (await amended(world, acme, id, scopes=["a:r", "b:r"], maxActionsPerHour=5))["delegation"]
    assert (shown["terms"]["version"], shown["scopes"]) == (2, ["a:r"])
    proposed = shown["proposedTerms"]
    assert (proposed["version"], proposed["scopes"], proposed["inForceAt"]) == (3, ["a:r", "b:r"], None)
    wrong = await world.ask(globex.key, ACKNOWLEDGE, input={"delegationId": id, "termsHash": "x"})
    assert [error["code"] for error in wrong["userErrors"]] == ["TERMS_CHANGED"]
    given = {"delegationId": id, "termsHash": proposed["hash"]}
    by_delegator = await world.ask(acme.key, ACKNOWLEDGE, input=given)
    assert [error["code"] for error in by_delegator["userErrors"]] == ["WRONG_STATE"]
    agreed = (await world.ask(globex.key, ACKNOWLEDGE, input=given))["delegation"]
    assert (agreed["terms"]["version"], agreed["scopes"], agreed["proposedTerms"]) == (
        3,
        ["a:r", "b:r"],
        None,
    )


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"maxActionsPerHour": 0}, "CAP_INVALID", ["maxActionsPerHour"]),
        ({"maxCostUnitsPerMonth": -1}, "CAP_INVALID", ["maxCostUnitsPerMonth"]),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "EXPIRY_INVALID", ["expiresAt"]),
        ({"scopes": ["nobody:knows"]}, "SCOPE_NOT_HELD", ["scopes"]),
        ({"scopes": []}, "INVALID", ["scopes"]),
        ({"condition": "request."}, "CONDITION_INVALID", ["condition"]),
        ({"denyPatterns": ["fine", "("]}, "PATTERN_INVALID", ["denyPatterns", "1"]),
        ({"requireTrustScoreAbove": 100}, "INVALID", ["requireTrustScoreAbove"]),
        ({"clear": ["expiresAt"]}, "INVALID", ["clear", "0"]),
        ({"clear": ["maxActionsPerHour"], "maxActionsPerHour": 4}, "INVALID", ["clear", "0"]),
        (
            {"ipAllowlist": [f"10.{n // 256}.{n % 256}.0/24" for n in range(10_000)]},
            "LIMIT_REACHED",
            ["ipAllowlist"],
        ),
        ({"expectedVersion": 7, "maxActionsPerHour": 4}, "VERSION_CONFLICT", ["expectedVersion"]),
        ({}, "INVALID", None),
    ],
)
async def test_a_wrong_amendment_names_its_field_and_changes_nothing(
    world: World, changes: Json, code: str, path: list[str] | None
) -> None:
    acme, globex = await pair(world)
    id = await lent(world, acme, globex)
    before = await world.ask(acme.key, SHOW, id=id)
    payload = await amended(world, acme, id, **changes)
    assert [(error["code"], error["path"]) for error in payload["userErrors"]] == [(code, path)]
    assert payload["delegation"] is None
    assert await world.ask(acme.key, SHOW, id=id) == before


async def test_suspension_is_the_delegators_and_comes_back(world: World) -> None:
    acme, globex = await pair(world)
    id = await lent(world, acme, globex)
    refused = await world.ask(globex.key, SUSPEND, id=id)
    assert [error["code"] for error in refused["userErrors"]] == ["WRONG_STATE"]
    assert (await world.ask(acme.key, SUSPEND, id=id))["delegation"] == {"status": "SUSPENDED"}
    again = await world.ask(acme.key, SUSPEND, id=id)
    assert [error["code"] for error in again["userErrors"]] == ["WRONG_STATE"]
    assert (await world.ask(acme.key, RESUME, id=id))["delegation"] == {"status": "ACTIVE"}


async def test_trust_is_reported_from_outside_and_shown_to_the_agents_own_tenant_alone(world: World) -> None:
    acme, globex = await pair(world)
    authority = await world.key(acme, Role.TRUST_AUTHORITY)
    id = await lent(world, acme, globex, constraints={"requireTrustScoreAbove": 70})
    usable = "query ($id: ID!) { delegation(id: $id) { bindings { nodes { usable agent { trustScore } } } } }"
    seen = []
    for score in (70, 71):
        reported = await world.ask(authority, TRUST, id=globex.agent, score=score)
        assert reported["agent"] == {"id": globex.agent, "trustScore": score, "configuration": None}
        for key in (acme.key, globex.key):
            seen += (await world.ask(key, usable, id=id))["bindings"]["nodes"]
    assert [(each["usable"], each["agent"]["trustScore"]) for each in seen] == [
        (False, None),
        (False, 70),
        (True, None),
        (True, 71),
    ]


async def test_advice_names_what_is_no_good_practice(world: World) -> None:
    acme, globex = await pair(world)
    offered = await world.offer(acme, globex, {"expiresAt": later(200)})
    advice = "query ($id: ID!) { delegation(id: $id) { advice { code message } } }"
    found = (await world.ask(acme.key, advice, id=offered["delegation"]["id"]))["advice"]
    assert [each["code"] for each in found] == ["EXPIRES_LATE", "TRUST_FLOOR_LOW", "NO_IP_ALLOWLIST"]
    good = {"expiresAt": later(80), "requireTrustScoreAbove": 70, "ipAllowlist": ["192.0.2.0/24"]}
    offered = await world.offer(acme, globex, good)
    assert (await world.ask(acme.key, advice, id=offered["delegation"]["id"]))["advice"] == []


# -- idempotencyKey of whatever creates


async def test_a_repeated_creation_is_the_same_object_and_shows_no_secret_again(world: World) -> None:
    acme, globex = await pair(world)
    first = await world.offer(acme, globex, idempotencyKey="o")
    again = await world.offer(acme, globex, idempotencyKey="o", constraints=None)
    assert first["offerToken"]
    # The constraints' expiresAt moved with the clock: another request under the same key.
    assert [error["code"] for error in again["userErrors"]] == ["IDEMPOTENCY_KEY_REUSED"]
    end = {"expiresAt": later(2)}
    first = await world.offer(acme, globex, end, idempotencyKey="p")
    again = await world.offer(acme, globex, end, idempotencyKey="p")
    assert again["delegation"] == first["delegation"]
    assert again["offerToken"] is None
    assert [error["code"] for error in again["userErrors"]] == ["TOKEN_ALREADY_ISSUED"]
    count = "{ delegations(direction: OUTGOING) { totalCount } }"
    assert await world.ask(acme.key, count) == {"totalCount": 2}


@pytest.mark.parametrize(
    ("mutation", "kind", "made", "secret"),
    [
        ("registerAgent", "RegisterAgentInput", "agent", None),
        ("createApiKey", "CreateApiKeyInput", "apiKey", "secret"),
        ("createBinding", "CreateBindingInput", "binding", "scopedToken"),
        ("rotateToken", "RotateTokenInput", "binding", "scopedToken"),
    ],
)
async def test_each_mutation_that_creates_knows_its_key(
    world: World, mutation: str, kind: str, made: str, secret: str | None
) -> None:
    acme, globex = await pair(world)
    accepted = await world.delegated(acme, globex)
    inputs: Json = {
        "registerAgent": {"name": "x", "scopes": []},
        "createApiKey": {"name": "x", "role": "VIEWER"},
        "createBinding": {"delegationId": accepted["delegation"]["id"], "agentId": globex.agent},
        "rotateToken": {"bindingId": accepted["binding"]["id"]},
    }
    query = (
        f"mutation ($input: {kind}!) {{ {mutation}(input: $input) {{"
        f" {made} {{ id }} {secret or ''} {ERRORS} }} }}"
    )
    given = {**inputs[mutation], "idempotencyKey": "once"}
    first = await world.ask(globex.key, query, input=given)
    again = await world.ask(globex.key, query, input=given)
    assert first["userErrors"] == []
    assert again[made] == first[made]
    if secret:
        assert first[secret]
        assert again[secret] is None
        assert [error["code"] for error in again["userErrors"]] == ["TOKEN_ALREADY_ISSUED"]
    else:
        assert again["userErrors"] == []


async def test_a_refused_creation_leaves_its_key_free(world: World) -> None:
    acme, globex = await pair(world)
    refused = await world.offer(
        acme, globex, {"maxActionsPerHour": 0, "expiresAt": later(2)}, idempotencyKey="k"
    )
    assert [error["code"] for error in refused["userErrors"]] == ["CAP_INVALID"]
    offered = await world.offer(acme, globex, {"expiresAt": later(2)}, idempotencyKey="k")
    assert offered["userErrors"] == []


async def test_a_key_is_one_tenants_and_one_mutations(world: World) -> None:
    acme, globex = await pair(world)
    register = "mutation ($input: RegisterAgentInput!) { registerAgent(input: $input) { agent { id } } }"
    given = {"name": "x", "scopes": [], "idempotencyKey": "k"}
    ids = [(await world.ask(key, register, input=given))["agent"]["id"] for key in (acme.key, globex.key)]
    assert len(set(ids)) == 2


# -- what each side may see


async def test_shared_agents_are_those_that_could_be_bound_now(world: World) -> None:
    acme, globex = await pair(world)
    shared = "{ sharedAgents { totalCount nodes { id scopes configuration trustScore tags } } }"
    nothing = {"totalCount": 0, "nodes": []}
    offered = await world.offer(acme, globex)
    assert await world.ask(globex.key, shared) == nothing
    accepted = await world.accept(globex, offerToken=offered["offerToken"])
    found = await world.ask(globex.key, shared)
    assert found["totalCount"] == 1
    assert [each["id"] for each in found["nodes"]] == [acme.agent]
    assert found["nodes"][0]["configuration"] is found["nodes"][0]["trustScore"] is None
    assert await world.ask(acme.key, shared) == nothing
    await world.ask(acme.key, SUSPEND, id=accepted["delegation"]["id"])
    assert await world.ask(globex.key, shared) == nothing
    await world.ask(acme.key, RESUME, id=accepted["delegation"]["id"])
    assert (await world.ask(globex.key, shared))["totalCount"] == 1


EXPLAIN = (
    "query ($input: ExplainDispatchInput!) { explainDispatch(input: $input) {"
    " allowed code termsVersion checks { name passed code detail } } }"
)


async def test_an_explanation_is_whole_for_the_delegator_and_coarse_for_the_delegate(world: World) -> None:
    acme, globex = await pair(world)
    id = await lent(world, acme, globex, constraints={"requireTrustScoreAbove": 70})
    asked = {"delegationId": id, "scope": "receipts:read", "agentId": globex.agent}
    whole = await world.ask(acme.key, EXPLAIN, input=asked)
    assert (whole["allowed"], whole["code"], whole["termsVersion"]) == (False, "TRUST_TOO_LOW", 1)
    names = [check["name"] for check in whole["checks"]]
    assert names[:5] == ["status", "binding", "requireTrustScoreAbove", "ipAllowlist", "action"]
    assert [check["passed"] for check in whole["checks"][:5]] == [True, True, False, True, False]
    coarse = await world.ask(globex.key, EXPLAIN, input=asked)
    assert coarse["code"] == "TRUST_TOO_LOW"
    assert [check["name"] for check in coarse["checks"]] == ["requireTrustScoreAbove"]


async def test_what_cannot_be_explained_says_which_field_is_wrong(world: World) -> None:
    acme, globex = await pair(world)
    id = await lent(world, acme, globex)
    for wrong in ({"delegationId": "dlg_x"}, {"sourceIp": "nowhere"}, {"pathParameters": 1}):
        asked = {"delegationId": id, "scope": "a:b", **wrong}
        whole = await world.answer(acme.key, EXPLAIN, input=asked)
        assert whole["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
        assert next(iter(wrong)) in whole["errors"][0]["message"]
