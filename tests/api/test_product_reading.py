"""Who sees what: each side its own, the counterparty the shared part, and nobody else anything (promise 7)."""

from typing import Any

import pytest
from sqlalchemy import select

from app.delegations import lists
from app.delegations.read import status_at
from app.rules.ids import DAY, Instant, TenantId
from app.rules.lifecycle import Party, Status
from app.rules.permissions import Role
from app.store.engine import wall_clock
from app.store.tables import Delegation
from tests.api.product import ERRORS, REGISTER, REVOKE, SCOPES, Tenant, World, later

LIST = """
query ($direction: Direction!, $filter: DelegationFilter, $first: Int, $after: String, $last: Int, $before: String) {
  delegations(
    direction: $direction, filter: $filter, first: $first, after: $after, last: $last, before: $before
  ) {
    totalCount
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    edges { cursor node { id } }
    nodes { id }
  }
}
"""
NODE = "query ($id: ID!) { node(id: $id) { __typename id } }"
UPSTREAM = (
    "mutation ($input: RegisterUpstreamInput!) { registerUpstream(input: $input) {"
    f" upstream {{ id name kind baseUrl hasCredential actions {{ id }} }} {ERRORS} }} }}"
)
ACTION = (
    "mutation ($input: DefineActionInput!) { defineAction(input: $input) {"
    " action { id scope upstreamName method path url costUnits responseMode idempotent }"
    f" {ERRORS} }} }}"
)


async def listed(world: World, key: str, direction: str, **more: object) -> list[str]:
    page = await world.ask(key, LIST, direction=direction, **more)
    return [node["id"] for node in page["nodes"]]


async def upstream_of(world: World, of: Tenant, name: str = "receipts-api") -> dict[str, Any]:
    credential = {"header": "Authorization", "value": "Bearer secret"}
    given = {"name": name, "kind": "REST", "baseUrl": "http://127.0.0.1:9", "credential": credential}
    made: dict[str, Any] = (await world.ask(of.key, UPSTREAM, input=given))["upstream"]
    return made


async def action_of(world: World, of: Tenant, upstream: str, scope: str, path: str) -> dict[str, Any]:
    given = {"upstreamId": upstream, "scope": scope, "method": "GET", "path": path}
    made: dict[str, Any] = (await world.ask(of.key, ACTION, input=given))["action"]
    return made


async def test_the_viewer_is_whoever_calls(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    await world.offer(acme, globex)
    query = (
        "{ viewer { subject role permissions tenant { id } plan { name maxActiveOutgoing activeOutgoing } } }"
    )
    seen = await world.ask(acme.key, query)
    assert (seen["subject"], seen["role"], seen["tenant"]) == ("owner", "OWNER", {"id": acme.id})
    assert seen["plan"] == {"name": "standard", "maxActiveOutgoing": 1000, "activeOutgoing": 1}
    assert "delegation:offer" in seen["permissions"]


async def test_pages_go_both_ways_and_their_cursors_are_of_one_list(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    ids = [(await world.offer(acme, globex))["delegation"]["id"] for _ in range(5)]
    page = await world.ask(acme.key, LIST, direction="OUTGOING", first=2)
    assert [node["id"] for node in page["nodes"]] == ids[:2]
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (5, True)
    middle = await listed(world, acme.key, "OUTGOING", first=2, after=page["pageInfo"]["endCursor"])
    assert middle == ids[2:4]
    back = await world.ask(acme.key, LIST, direction="OUTGOING", last=2)
    assert [node["id"] for node in back["nodes"]] == ids[3:]
    assert back["pageInfo"]["hasPreviousPage"]
    earlier = await listed(world, acme.key, "OUTGOING", last=2, before=back["pageInfo"]["startCursor"])
    assert earlier == ids[1:3]
    agents = "query ($after: String) { agents(after: $after) { nodes { id } } }"
    assert await world.code(acme.key, agents, after=page["pageInfo"]["endCursor"]) == "BAD_USER_INPUT"
    for wrong in ({"first": 101}, {"first": -1}, {"first": 1, "last": 1}, {"after": "x"}):
        assert await world.code(acme.key, LIST, direction="OUTGOING", **wrong) == "BAD_USER_INPUT"


async def test_filters_narrow_and_count_by_the_clock(world: World) -> None:
    acme, globex, other = [await world.tenant(slug) for slug in ("acme", "globex", "other")]
    active = (await world.delegated(acme, globex, constraints={"expiresAt": later(9)}))["delegation"]["id"]
    pending = (await world.offer(acme, other, scopes=SCOPES[:1]))["delegation"]["id"]
    gone = (await world.delegated(acme, globex))["delegation"]["id"]
    await world.ask(acme.key, REVOKE, id=gone, reason="over")
    second = await world.ask(acme.key, REGISTER, input={"name": "second", "scopes": SCOPES})
    third = (await world.offer(acme, globex, fromAgentId=second["agent"]["id"]))["delegation"]["id"]
    for filter, wanted in (
        ({"statuses": ["ACTIVE"]}, [active]),
        ({"statuses": ["ACTIVE", "REVOKED"]}, [active, gone]),
        ({"statuses": ["EXPIRED"]}, []),
        ({"statuses": []}, []),
        ({"counterpartyTenantId": other.id}, [pending]),
        ({"counterpartyTenantId": "\x00"}, []),
        ({"agentId": second["agent"]["id"]}, [third]),
        ({"scope": "receipts:write"}, [active, gone, third]),
        ({"scope": "receipts:"[:-1] + ":w"}, []),
        ({"expiresBefore": later(5)}, [pending, gone, third]),
    ):
        page = await world.ask(acme.key, LIST, direction="OUTGOING", filter=filter)
        assert [node["id"] for node in page["nodes"]] == wanted, filter
        assert page["totalCount"] == len(wanted)


async def test_an_offer_by_token_is_the_delegates_only_once_it_is_used(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    offered = await world.offer(acme, globex)
    id = offered["delegation"]["id"]
    assert await listed(world, globex.key, "INCOMING") == []
    assert await world.ask(globex.key, NODE, id=id) is None
    assert (await world.ask(acme.key, NODE, id=id))["id"] == id
    await world.accept(globex, offerToken=offered["offerToken"])
    assert await listed(world, globex.key, "INCOMING") == [id]
    assert await listed(world, globex.key, "OUTGOING") == []
    assert await listed(world, acme.key, "INCOMING") == []


async def test_nobody_sees_what_is_between_two_others(world: World) -> None:
    acme, globex, other = [await world.tenant(slug) for slug in ("acme", "globex", "other")]
    upstream = await upstream_of(world, acme)
    action = await action_of(world, acme, upstream["id"], "receipts:read", "/v1/receipts/{id}")
    accepted = await world.delegated(acme, globex)
    tokens = "query ($id: ID!) { binding(id: $id) { tokens { id } } }"
    binding_id = accepted["binding"]["id"]
    [token] = (await world.ask(globex.key, tokens, id=binding_id))["tokens"]
    entry = (await world.ask(acme.key, "{ auditLog(last: 1) { nodes { id } } }"))["nodes"][0]["id"]
    api_key = (await world.ask(acme.key, "{ apiKeys { id } }"))[0]["id"]
    delegation_id = accepted["delegation"]["id"]
    both, acmes, globexs = {acme.key, globex.key}, {acme.key}, {globex.key}
    for id, seers in (
        (delegation_id, both),
        (binding_id, both),
        (acme.agent, both),
        (globex.agent, both),
        (action["id"], both),
        (token["id"], globexs),
        (upstream["id"], acmes),
        (entry, acmes),
        (api_key, acmes),
    ):
        for tenant in (acme, globex, other):
            seen = await world.post(tenant.key, NODE, id=id)
            assert (seen != b'{"data":{"node":null}}') == (tenant.key in seers), (id, seen)
    for tenant in (acme, globex, other):
        assert (await world.ask(tenant.key, NODE, id=acme.id))["__typename"] == "Tenant"
    for id in (
        "",
        "\x00",
        "dlg_",
        "dlg_x",
        "zzz_00000000-0000-0000-0000-000000000000",
        delegation_id.upper(),
    ):
        assert await world.post(acme.key, NODE, id=id) == b'{"data":{"node":null}}'
    for field, id in (("delegation", delegation_id), ("binding", binding_id), ("agent", acme.agent)):
        query = f"query ($id: ID!) {{ {field}(id: $id) {{ id }} }}"
        assert (await world.ask(globex.key, query, id=id))["id"] == id
        assert await world.ask(other.key, query, id=id) is None
        assert await world.ask(globex.key, query, id=acme.id) is None


async def test_nodes_answer_in_order_and_each_for_itself(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    key = (await world.ask(acme.key, "{ apiKeys { id } }"))[0]["id"]
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    found = await world.ask(acme.key, query, ids=[acme.agent, "x", globex.agent, key, acme.agent])
    assert found == [{"id": acme.agent}, None, None, {"id": key}, {"id": acme.agent}]
    viewer = await world.key(acme, Role.VIEWER)
    whole = await world.answer(viewer, query, ids=[acme.agent, key])
    assert whole["data"]["nodes"] == [{"id": acme.agent}, None]
    assert [error["path"] for error in whole["errors"]] == [["nodes", 1]]
    assert await world.code(acme.key, query, ids=["x"] * 101) == "BAD_USER_INPUT"


async def test_an_agent_shows_another_tenant_only_its_face(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    update = (
        "mutation ($input: UpdateAgentInput!) { updateAgent(input: $input) {"
        f" agent {{ scopes configuration tags }} {ERRORS} }} }}"
    )
    mine = await world.ask(
        acme.key, update, input={"agentId": acme.agent, "configuration": {"model": "m"}, "tags": ["a", "b"]}
    )
    assert mine["agent"] == {"scopes": SCOPES, "configuration": {"model": "m"}, "tags": ["a", "b"]}
    query = (
        "query ($id: ID!) { agent(id: $id) { name scopes configuration trustScore tags tenant { slug } } }"
    )
    assert await world.ask(globex.key, query, id=acme.agent) is None
    accepted = await world.delegated(acme, globex, scopes=SCOPES[:1])
    face = {"name": "acme-agent", "configuration": None, "trustScore": None, "tags": None}
    seen = await world.ask(globex.key, query, id=acme.agent)
    assert seen == {**face, "scopes": SCOPES[:1], "tenant": {"slug": "acme"}}
    await world.ask(acme.key, REVOKE, id=accepted["delegation"]["id"], reason="over")
    assert (await world.ask(globex.key, query, id=acme.agent))["scopes"] == []
    assert await world.ask(globex.key, update, input={"agentId": acme.agent, "name": "mine"}) == {
        "agent": None,
        "userErrors": [
            {"code": "NOT_FOUND", "message": "agentId names no agent of your tenant", "path": ["agentId"]}
        ],
    }


async def test_actions_are_those_that_a_delegation_allows_now(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    upstream = await upstream_of(world, acme)
    read = await action_of(world, acme, upstream["id"], "receipts:read", "/v1/receipts/{id}")
    await action_of(world, acme, upstream["id"], "receipts:write", "/v1/receipts")
    assert read == {
        "id": read["id"],
        "scope": "receipts:read",
        "upstreamName": "receipts-api",
        "method": "GET",
        "path": "/v1/receipts/{id}",
        "url": "http://gateway.test/proxy/receipts-api/v1/receipts/{id}",
        "costUnits": 1,
        "responseMode": "BUFFERED",
        "idempotent": False,
    }
    query = "query ($id: ID!) { delegation(id: $id) { actions { id } } }"
    id = (await world.delegated(acme, globex, scopes=["receipts:read"]))["delegation"]["id"]
    for tenant in (acme, globex):
        assert (await world.ask(tenant.key, query, id=id))["actions"] == [{"id": read["id"]}]
    without = "mutation ($id: ID!) { updateAgent(input: {agentId: $id, scopes: []}) { agent { id } } }"
    await world.ask(acme.key, without, id=acme.agent)
    assert (await world.ask(globex.key, query, id=id))["actions"] == []
    assert await world.ask(globex.key, NODE, id=read["id"]) is None
    remove = "mutation ($id: ID!) { removeAction(actionId: $id) { deletedId userErrors { code } } }"
    assert (await world.ask(globex.key, remove, id=read["id"]))["userErrors"] == [{"code": "NOT_FOUND"}]
    assert (await world.ask(acme.key, remove, id=read["id"]))["deletedId"] == read["id"]


async def test_an_upstream_is_its_tenants_alone_and_its_credential_nobodys(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    made = await upstream_of(world, acme)
    assert made["hasCredential"]
    query = "{ upstreams { id name baseUrl hasCredential actions { path } } }"
    assert [one["id"] for one in await world.ask(acme.key, query)] == [made["id"]]
    assert await world.ask(globex.key, query) == []
    move = "mutation ($id: ID!, $url: String!) { updateUpstream(input: {upstreamId: $id, baseUrl: $url}) {"
    move += " upstream { baseUrl hasCredential } userErrors { code path } } }"
    moved = await world.ask(acme.key, move, id=made["id"], url="http://127.0.0.2:9")
    assert moved["upstream"] == {"baseUrl": "http://127.0.0.2:9", "hasCredential": False}
    assert (await world.ask(globex.key, move, id=made["id"], url="http://127.0.0.2:9"))["upstream"] is None
    private = await world.ask(acme.key, move, id=made["id"], url="http://10.0.0.1")
    assert private["userErrors"] == [{"code": "INVALID", "path": ["baseUrl"]}]


@pytest.mark.parametrize("direction", ["OUTGOING", "INCOMING"])
async def test_a_page_of_bindings_goes_on_from_its_cursor(world: World, direction: str) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    ids = [(await world.delegated(acme, globex))["delegation"]["id"] for _ in range(2)]
    bind = "mutation ($input: CreateBindingInput!) { createBinding(input: $input) { binding { id } } }"
    for id in ids:
        for _ in range(3):
            await world.ask(globex.key, bind, input={"delegationId": id, "agentId": globex.agent})
    query = (
        "query ($direction: Direction!, $after: String) { delegations(direction: $direction) { nodes {"
        " bindings(first: 3, after: $after) {"
        " totalCount pageInfo { hasNextPage endCursor } nodes { id tokens { id } } } } } }"
    )
    key = acme.key if direction == "OUTGOING" else globex.key
    pages = [node["bindings"] for node in (await world.ask(key, query, direction=direction))["nodes"]]
    assert [(len(page["nodes"]), page["totalCount"]) for page in pages] == [(3, 4), (3, 4)]
    assert all(len(node["tokens"]) == (direction == "INCOMING") for page in pages for node in page["nodes"])
    rest = await world.ask(key, query, direction=direction, after=pages[1]["pageInfo"]["endCursor"])
    assert [len(node["bindings"]["nodes"]) for node in rest["nodes"]][1] == 1
    assert not rest["nodes"][1]["bindings"]["pageInfo"]["hasNextPage"]


async def test_a_field_that_fails_takes_nothing_from_its_neighbours(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    id = (await world.delegated(acme, globex))["delegation"]["id"]
    query = (
        "query ($id: ID!) {"
        " failing: delegation(id: $id) { terms { hash } agent { name } audit { nodes { id } } }"
        " whole: delegation(id: $id) { terms { hash } agent { name } } }"
    )
    viewer = await world.key(acme, Role.VIEWER)
    answer = await world.answer(viewer, query, id=id)
    assert [error["path"] for error in answer["errors"]] == [["failing", "audit"]]
    assert answer["data"]["failing"] is None
    assert answer["data"]["whole"]["agent"] == {"name": "acme-agent"}


async def test_a_filter_by_status_agrees_with_the_status_shown(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    await world.offer(acme, globex, {"expiresAt": later(30)})
    await world.delegated(acme, globex, constraints={"expiresAt": later(20)})
    gone = (await world.delegated(acme, globex))["delegation"]["id"]
    await world.ask(acme.key, REVOKE, id=gone, reason="over")
    store, tenant_id = world.gateway.store, TenantId(acme.id)
    rows = await store.read(lambda tx: list(tx.scalars(select(Delegation))))
    for days in (0, 8, 25, 40):
        now = Instant(wall_clock() + days * DAY)
        for status in Status:
            wanted = lists.Filter(Party.DELEGATOR, [status])
            found = await store.read(lists.count, tenant_id, wanted, now)
            assert found == sum(status_at(row, now) is status for row in rows), (days, status)
