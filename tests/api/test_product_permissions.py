"""What each role may do, and that a key is never above its maker's."""

import pytest

from app.rules.permissions import Role
from tests.api.product import ACCEPT, ERRORS, OFFER, REGISTER, REVOKE, Tenant, World, later

ALL = frozenset(Role)
READERS = ALL - {Role.TRUST_AUTHORITY, Role.PLATFORM}
ADMINS = frozenset({Role.OWNER, Role.ADMIN})
NOBODY = "00000000-0000-0000-0000-000000000000"
CREATE_KEY = (
    "mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) {"
    f" apiKey {{ id name subject prefix role expiresAt revokedAt }} secret {ERRORS} }} }}"
)

QUERIES = {
    "{ viewer { subject tenant { slug } plan { name } } }": ALL,
    "{ agents { totalCount } }": READERS,
    "{ upstreams { id } }": READERS,
    "{ delegations(direction: INCOMING) { totalCount } }": READERS,
    "{ dispatches { nodes { id } } }": READERS,
    f'{{ node(id: "dlg_{NOBODY}") {{ id }} }}': READERS,
    '{ nodes(ids: ["x"]) { id } }': READERS,
    f'{{ delegation(id: "dlg_{NOBODY}") {{ id }} }}': READERS,
    '{ agent(id: "x") { id } }': READERS,
    '{ binding(id: "x") { id } }': READERS,
    '{ dispatch(id: "x") { id } }': READERS,
    "{ auditLog { nodes { id } } }": ADMINS | {Role.AUDITOR},
    f'{{ node(id: "aud_{NOBODY}") {{ id }} }}': ADMINS | {Role.AUDITOR},
    "{ apiKeys { id } }": ADMINS,
    f'{{ node(id: "key_{NOBODY}") {{ id }} }}': ADMINS,
    "{ webhookEndpoints { id } }": ADMINS,
    f'{{ node(id: "whk_{NOBODY}") {{ id }} }}': ADMINS,
    f'{{ node(id: "whd_{NOBODY}") {{ id }} }}': ADMINS,
    "{ sharedAgents { totalCount } }": READERS,
    '{ offerPreview(offerToken: "x") { id } }': frozenset({Role.OWNER}),
}

OPERATORS = ADMINS | {Role.OPERATOR}
OWNER = frozenset({Role.OWNER})
X = f"dlg_{NOBODY}"
MUTATIONS: dict[str, tuple[dict[str, object], frozenset[Role]]] = {
    OFFER: (
        {
            "input": {
                "fromAgentId": "x",
                "toTenantId": "x",
                "scopes": ["a:b"],
                "constraints": {"expiresAt": later(1), "condition": "x"},
            }
        },
        OWNER,
    ),
    ACCEPT: ({"input": {"acceptingAgentId": "x", "acknowledgeConstraints": True}}, OWNER),
    "mutation { declineDelegation(input: {}) { userErrors { code } } }": ({}, OWNER),
    REVOKE: ({"id": "x", "reason": "x"}, ADMINS),
    'mutation { acknowledgeTerms(input: {delegationId: "x", termsHash: "x"}) { userErrors { code } } }': (
        {},
        OWNER,
    ),
    'mutation { amendDelegation(input: {delegationId: "x", expectedVersion: 1}) { userErrors { code } } }': (
        {},
        ADMINS,
    ),
    'mutation { suspendDelegation(input: {delegationId: "x", reason: "x"}) { userErrors { code } } }': (
        {},
        ADMINS,
    ),
    'mutation { resumeDelegation(input: {delegationId: "x"}) { userErrors { code } } }': ({}, ADMINS),
    'mutation { reportTrustScore(input: {agentId: "x", score: 1, reason: "x"}) { userErrors { code } } }': (
        {},
        frozenset({Role.TRUST_AUTHORITY}),
    ),
    'mutation { createBinding(input: {delegationId: "x", agentId: "x"}) { userErrors { code } } }': (
        {},
        OPERATORS,
    ),
    'mutation { rotateToken(input: {bindingId: "x"}) { userErrors { code } } }': ({}, OPERATORS),
    'mutation { dispatchAction(input: {bindingId: "x", scope: "a:b", query: 1}) { userErrors { code } } }': (
        {},
        OPERATORS,
    ),
    REGISTER: ({"input": {"name": "x", "scopes": []}}, ADMINS),
    'mutation { updateAgent(input: {agentId: "x"}) { userErrors { code } } }': ({}, ADMINS),
    'mutation { registerUpstream(input: {name: "x", kind: REST, baseUrl: "x"}) { userErrors { code } } }': (
        {},
        ADMINS,
    ),
    'mutation { updateUpstream(input: {upstreamId: "x"}) { userErrors { code } } }': ({}, ADMINS),
    'mutation { defineAction(input: {upstreamId: "x", scope: "a:b"}) { userErrors { code } } }': ({}, ADMINS),
    'mutation { removeAction(actionId: "x") { userErrors { code } } }': ({}, ADMINS),
    CREATE_KEY: ({"input": {"name": "x", "role": "VIEWER"}}, OWNER),
    'mutation { revokeApiKey(apiKeyId: "x") { userErrors { code } } }': ({}, OWNER),
    'mutation { createWebhookEndpoint(input: {url: "x", events: []}) { userErrors { code } } }': ({}, ADMINS),
    'mutation { updateWebhookEndpoint(input: {endpointId: "x"}) { userErrors { code } } }': ({}, ADMINS),
    'mutation { deleteWebhookEndpoint(endpointId: "x") { userErrors { code } } }': ({}, ADMINS),
    'mutation { rotateWebhookSecret(input: {endpointId: "x"}) { userErrors { code } } }': ({}, ADMINS),
    'mutation { testWebhook(endpointId: "x") { userErrors { code } } }': ({}, ADMINS),
    'mutation { redeliver(input: {deliveryId: "x"}) { userErrors { code } } }': ({}, ADMINS),
    f'mutation {{ recoverDeliveries(input: {{endpointId: "x", since: "{later(0)}"}}) {{ userErrors {{ code }} }} }}': (
        {},
        ADMINS,
    ),
}


async def keys(world: World) -> tuple[Tenant, dict[Role, str]]:
    acme = await world.tenant("acme")
    return acme, {role: await world.key(acme, role) for role in Role}


async def test_each_field_asks_for_its_permission(world: World) -> None:
    _, by_role = await keys(world)
    for query, allowed in QUERIES.items():
        await _allowed(world, by_role, query, {}, allowed)


async def test_whoever_reads_may_have_a_dispatch_explained(world: World) -> None:
    acme, by_role = await keys(world)
    id = (await world.delegated(acme, await world.tenant("globex")))["delegation"]["id"]
    query = (
        'query ($id: ID!) { explainDispatch(input: {delegationId: $id, scope: "receipts:read"}) { allowed } }'
    )
    await _allowed(world, by_role, query, {"id": id}, READERS)


async def test_each_mutation_asks_for_its_permission(world: World) -> None:
    _, by_role = await keys(world)
    for query, (variables, allowed) in MUTATIONS.items():
        await _allowed(world, by_role, query, variables, allowed)


async def _allowed(
    world: World, by_role: dict[Role, str], query: str, variables: dict[str, object], allowed: frozenset[Role]
) -> None:
    for role, key in by_role.items():
        whole = await world.answer(key, query, **variables)
        codes = [error["extensions"]["code"] for error in whole.get("errors", ())]
        assert codes == ([] if role in allowed else ["FORBIDDEN"]), (role, query, whole)


async def test_a_delegations_audit_asks_for_it_too(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    await world.delegated(acme, globex)
    query = "{ delegations(direction: OUTGOING) { nodes { audit(last: 1) { nodes { id } } } } }"
    assert (await world.ask(await world.key(acme, Role.AUDITOR), query))["nodes"]
    assert await world.code(await world.key(acme, Role.VIEWER), query) == "FORBIDDEN"


async def test_revoking_a_binding_is_the_operators_of_its_delegate(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    id = (await world.delegated(acme, globex))["binding"]["id"]
    query = "mutation ($id: ID!) { revokeBinding(input: {bindingId: $id}) { binding { id } } }"
    assert await world.code(await world.key(acme, Role.OPERATOR), query, id=id) == "FORBIDDEN"
    assert (await world.ask(await world.key(globex, Role.OPERATOR), query, id=id))["binding"] == {"id": id}


async def test_a_key_is_made_shown_once_used_and_revoked(world: World) -> None:
    acme = await world.tenant("acme")
    made = await world.ask(acme.key, CREATE_KEY, input={"name": "ci", "subject": "robot", "role": "VIEWER"})
    secret, key = made["secret"], made["apiKey"]
    assert secret.startswith(key["prefix"])
    assert (await world.ask(secret, "{ viewer { subject } }"))["subject"] == "robot"
    revoke = (
        "mutation ($id: ID!) { revokeApiKey(apiKeyId: $id) { apiKey { revokedAt } userErrors { code } } }"
    )
    ended = await world.ask(acme.key, revoke, id=key["id"])
    assert ended["apiKey"]["revokedAt"] is not None
    assert await world.ask(acme.key, revoke, id=key["id"]) == ended
    assert await world.code(secret, "{ viewer { subject } }") == "UNAUTHENTICATED"
    listed = await world.ask(acme.key, "{ apiKeys { name prefix revokedAt } }")
    assert [one["name"] for one in listed] == ["owner", "ci"]
    other = await world.tenant("other")
    assert (await world.ask(other.key, revoke, id=key["id"]))["userErrors"] == [{"code": "NOT_FOUND"}]


@pytest.mark.parametrize("role", ["TRUST_AUTHORITY", "PLATFORM"])
async def test_the_command_lines_roles_are_not_given(world: World, role: str) -> None:
    acme = await world.tenant("acme")
    refused = await world.ask(acme.key, CREATE_KEY, input={"name": "x", "role": role})
    assert [error["code"] for error in refused["userErrors"]] == ["ROLE_TOO_HIGH"]


@pytest.mark.parametrize("key", ["", "cgk_x", "cgt_live_x"])
async def test_what_is_no_api_key_opens_nothing(world: World, key: str) -> None:
    assert await world.code(key, "{ viewer { subject } }") == "UNAUTHENTICATED"


async def test_a_scoped_token_opens_nothing_here(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    accepted = await world.delegated(acme, globex)
    assert await world.code(accepted["scopedToken"], "{ viewer { subject } }") == "UNAUTHENTICATED"


async def test_the_last_use_of_a_key_is_remembered(world: World) -> None:
    acme = await world.tenant("acme")
    caller = await world.caller(acme.key)
    await world.ask(acme.key, "{ viewer { subject } }")
    assert caller.key_id in world.gateway.used_keys
