"""A key that ends while its document runs ends the document: every field asks for it anew, in the snapshot it reads."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from app.api.context import Context
from app.api.requests import Operation
from app.api.schema import make_schema
from app.rules.ids import ApiKeyId, Instant
from app.rules.permissions import Role
from app.store.engine import Tx, wall_clock
from app.store.tables import ApiKey
from tests.api.product import Tenant, World
from tests.upstreams import Hang, Upstream, upstream

SCHEMA = make_schema()

READING = [
    "{ viewer { tenant { slug } } }",
    "{ viewer { plan { activeOutgoing } } }",
    "{ agents { totalCount } }",
    "{ upstreams { id } }",
    "{ apiKeys { id } }",
    "{ delegations(direction: INCOMING) { totalCount } }",
    "{ dispatches { nodes { id } } }",
    "{ auditLog { nodes { id } } }",
    '{ node(id: "%s") { id } }',
    '{ agent(id: "%s") { id } }',
    '{ offerPreview(offerToken: "x") { id } }',
]
REVOKE_KEY = "mutation ($id: ID!) { revokeApiKey(apiKeyId: $id) { apiKey { id } } }"
UPSTREAM = "mutation ($input: RegisterUpstreamInput!) { registerUpstream(input: $input) { upstream { id } } }"
ACTION = "mutation ($input: DefineActionInput!) { defineAction(input: $input) { action { id } } }"
WRITING = [
    'mutation { registerAgent(input: {name: "x", scopes: []}) { agent { id } } }',
    'mutation { updateAgent(input: {agentId: "%s", name: "y"}) { agent { id } } }',
    'mutation { revokeDelegation(input: {delegationId: "x", reason: "x"}) { userErrors { code } } }',
    'mutation { dispatchAction(input: {bindingId: "x", scope: "a:b"}) { userErrors { code } } }',
]


@pytest.mark.parametrize("ends", ["revoked_at", "expires_at"])
async def test_no_field_answers_a_key_that_has_ended_since_its_document_began(
    world: World, ends: str
) -> None:
    acme = await world.tenant("acme")
    caller = await world.caller(await world.key(acme, Role.OWNER))
    await world.gateway.store.write(_end, caller.key_id, ends, wall_clock())
    for query in (*READING, *WRITING):
        operation = Operation(query.replace("%s", acme.agent), {}, None)
        async for result in SCHEMA.results(operation, Context(world.gateway, caller, None)):
            assert [(error.extensions or {})["code"] for error in result.errors or ()] == ["UNAUTHENTICATED"]
    agents = await world.ask(acme.key, "{ agents { nodes { name } } }")
    assert agents["nodes"] == [{"name": "acme-agent"}]


def _end(tx: Tx, key_id: ApiKeyId, column: str, at: Instant) -> None:
    setattr(tx.get_one(ApiKey, key_id), column, at)


@dataclass
class Lent:
    """A binding of Globex's to a service of Acme's that hangs, and an operator's key."""

    world: World
    globex: Tenant
    key: str
    binding: str
    service: Upstream
    play: Hang

    async def revoke_key(self) -> None:
        caller = await self.world.caller(self.key)
        await self.world.ask(self.globex.key, REVOKE_KEY, id=caller.key_id)


@pytest_asyncio.fixture
async def lent(world: World) -> AsyncIterator[Lent]:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    async with upstream() as service:
        given = {"name": "api", "kind": "REST", "baseUrl": service.url}
        made = await world.ask(acme.key, UPSTREAM, input=given)
        action = {"upstreamId": made["upstream"]["id"], "scope": "receipts:read", "method": "GET"}
        await world.ask(acme.key, ACTION, input={**action, "path": "/v1/receipts"})
        binding = (await world.delegated(acme, globex))["binding"]["id"]
        play = service.on("/v1/receipts", Hang())
        yield Lent(world, globex, await world.key(globex, Role.OPERATOR), binding, service, play)


async def test_a_key_revoked_during_the_first_action_of_a_document_performs_no_other(lent: Lent) -> None:
    action = f'dispatchAction(input: {{bindingId: "{lent.binding}", scope: "receipts:read"}})'
    fields = " ".join(f"a{n}: {action} {{ response {{ text body }} }}" for n in range(5))
    asking = asyncio.ensure_future(lent.world.answer(lent.key, f"mutation {{ {fields} }}"))
    await lent.play.reached.wait()
    await lent.revoke_key()
    lent.play.release()
    whole = await asking
    assert whole["data"] is None
    assert [error["extensions"]["code"] for error in whole["errors"]] == ["UNAUTHENTICATED"]
    assert len(lent.service.seen) == 1
