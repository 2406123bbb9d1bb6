"""A tenant's log: in pages, by filters, and live, with cursors that go from one to the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import orjson
import pytest
import rfc8785
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from app.rules.permissions import Role
from tests.api.product import REVOKE, World, later

LOG = """
query ($filter: AuditFilter, $first: Int, $after: String, $last: Int, $before: String) {
  auditLog(filter: $filter, first: $first, after: $after, last: $last, before: $before) {
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    edges { cursor }
    nodes {
      id seq pairId event occurredAt delegation { id } dispatchId actingTenant { slug } targetTenant { slug }
      actingAgent { id } actor action outcome code details leafHash
    }
  }
}
"""
FOLLOW = """
subscription ($after: String, $events: [String!], $id: ID) {
  delegationEvents(after: $after, events: $events, delegationId: $id) {
    cursor node { seq event actor delegation { status } actingTenant { slug } }
  }
}
"""


WHOLE = """
{
  viewer { tenant { id } }
  auditLog {
    nodes {
      id seq pairId event occurredAt delegation { id } dispatchId actingTenant { id } targetTenant { id }
      actingAgent { id } actor action outcome code details leafHash
    }
  }
}
"""


LINKS = ("delegation", "actingTenant", "targetTenant", "actingAgent")


async def log(world: World, key: str, **more: object) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = (await world.ask(key, LOG, **more))["nodes"]
    return nodes


class Stream:
    """A subscription over a WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def message(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            message: dict[str, Any] = orjson.loads(await self._socket.recv())
        return message

    async def event(self) -> Any:
        message = await self.message()
        assert message["type"] == "next", message
        return message["payload"]["data"]["delegationEvents"]


@asynccontextmanager
async def following(world: World, key: str, **variables: object) -> AsyncIterator[Stream]:
    """A stream over a connection of its own."""
    subprotocol = Subprotocol("graphql-transport-ws")
    async with connect(f"ws://127.0.0.1:{world.port}/graphql", subprotocols=[subprotocol]) as socket:
        subscribe = {"query": FOLLOW, "variables": variables}
        for message in (
            {"type": "connection_init", "payload": {"apiKey": key}},
            {"type": "subscribe", "id": "1", "payload": subscribe},
        ):
            await socket.send(orjson.dumps(message).decode())
        stream = Stream(socket)
        assert (await stream.message())["type"] == "connection_ack"
        yield stream


async def test_a_fact_between_two_stands_in_both_logs_under_one_pair(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    accepted = await world.delegated(acme, globex)
    mine = await log(world, acme.key, filter={"events": ["delegation.*"]})
    theirs = await log(world, globex.key, filter={"events": ["delegation.*"]})
    assert [entry["event"] for entry in mine] == ["delegation.offered", "delegation.accepted"]
    [entry] = theirs
    assert entry["pairId"] == mine[1]["pairId"]
    assert (entry["actor"], mine[1]["actor"], mine[0]["actor"]) == ("owner", None, "owner")
    assert entry["actingAgent"] == {"id": globex.agent}
    assert entry["delegation"] == {"id": accepted["delegation"]["id"]}
    assert (entry["actingTenant"], entry["targetTenant"]) == ({"slug": "globex"}, {"slug": "acme"})
    assert await log(world, acme.key, filter={"pairId": entry["pairId"]}) == mine[1:]


async def test_a_reader_can_compute_every_leaf_hash_from_the_entry_alone(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    await world.delegated(acme, globex)
    for key in (acme.key, globex.key):
        data = (await world.answer(key, WHOLE))["data"]
        tenant_id = data["viewer"]["tenant"]["id"]
        assert data["auditLog"]["nodes"]
        for node in data["auditLog"]["nodes"]:
            assert sha256(b"\0" + rfc8785.dumps(as_hashed(node, tenant_id))).hexdigest() == node["leafHash"]


def as_hashed(node: dict[str, Any], tenant_id: str) -> dict[str, Any]:
    """What the schema's description of leafHash says is hashed."""
    kept = {name: value for name, value in node.items() if name not in {"leafHash", *LINKS}}
    links = {f"{name}Id": (node[name] or {}).get("id") for name in LINKS}
    return {**kept, **links, "tenantId": tenant_id}


async def test_the_log_ascends_and_is_read_from_both_ends(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    for _ in range(5):
        await world.offer(acme, globex)
    page = await world.ask(acme.key, LOG, first=2)
    assert [node["seq"] for node in page["nodes"]] == [1, 2]
    assert (page["pageInfo"]["hasNextPage"], page["pageInfo"]["hasPreviousPage"]) == (True, False)
    more = await log(world, acme.key, first=2, after=page["pageInfo"]["endCursor"])
    assert [node["seq"] for node in more] == [3, 4]
    back = await world.ask(acme.key, LOG, last=2)
    assert [node["seq"] for node in back["nodes"]] == [5, 6]
    earlier = await log(world, acme.key, last=3, before=back["pageInfo"]["startCursor"])
    assert [node["seq"] for node in earlier] == [2, 3, 4]


async def test_filters_find_entries(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    first, second = [await world.delegated(acme, globex) for _ in range(2)]
    id = first["delegation"]["id"]
    whole = await log(world, acme.key)
    about = [entry["seq"] for entry in whole if (entry["delegation"] or {}).get("id") == id]
    assert [entry["seq"] for entry in await log(world, acme.key, filter={"delegationId": id})] == about
    for filter, wanted in (
        ({"events": ["*.accepted", "agent.registered"]}, ["agent.registered"] + ["delegation.accepted"] * 2),
        ({"events": []}, [entry["event"] for entry in whole]),
        ({"events": ["DELEGATION.*"]}, []),
        ({"delegationId": "\x00"}, []),
        ({"dispatchId": second["delegation"]["id"]}, []),
        ({"pairId": "x"}, []),
        ({"since": later(1)}, []),
        ({"until": later(-1)}, []),
        ({"since": later(-1), "until": later(1)}, [entry["event"] for entry in whole]),
        ({"outcome": "COMPLETED"}, []),
    ):
        found = await log(world, acme.key, filter=filter)
        assert [entry["event"] for entry in found] == wanted, filter
    for events in (["x"] * 51, ["x" * 101]):
        assert await world.code(acme.key, LOG, filter={"events": events}) == "BAD_USER_INPUT"


@pytest.mark.parametrize("many", [1, 3])
async def test_a_delegations_audit_is_its_part_of_the_log(world: World, many: int) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    for _ in range(many):
        await world.delegated(acme, globex)
    query = """
    query ($first: Int, $after: String, $last: Int, $before: String, $events: [String!]) {
      delegations(direction: INCOMING) { nodes { id audit(
        first: $first, after: $after, last: $last, before: $before, events: $events
      ) { pageInfo { hasNextPage hasPreviousPage startCursor endCursor } nodes { seq event } } } }
    }
    """
    whole = await log(world, globex.key)
    for node in (await world.ask(globex.key, query))["nodes"]:
        mine = [entry["seq"] for entry in whole if (entry["delegation"] or {}).get("id") == node["id"]]
        assert [entry["seq"] for entry in node["audit"]["nodes"]] == mine
        assert not node["audit"]["pageInfo"]["hasNextPage"]
    events = ["delegation.accepted", "binding.created", "token.issued"]
    for more, wanted, next_, previous in (
        ({"first": 2}, events[:2], True, False),
        ({"last": 2}, events[1:], False, True),
        ({"first": 2, "events": ["*.created", "token.*"]}, events[1:], False, False),
        ({"last": 1, "events": ["delegation.*", "binding.*"]}, events[1:2], False, True),
        ({"first": 0}, [], True, False),
    ):
        for node in (await world.ask(globex.key, query, **more))["nodes"]:
            audit = node["audit"]
            assert [entry["event"] for entry in audit["nodes"]] == wanted
            assert (audit["pageInfo"]["hasNextPage"], audit["pageInfo"]["hasPreviousPage"]) == (
                next_,
                previous,
            )
    page = (await world.ask(globex.key, query, first=2))["nodes"][-1]["audit"]["pageInfo"]
    rest = (await world.ask(globex.key, query, first=2, after=page["endCursor"]))["nodes"][-1]["audit"]
    assert [entry["event"] for entry in rest["nodes"]] == events[2:]
    back = (await world.ask(globex.key, query, last=9, before=page["endCursor"]))["nodes"][-1]["audit"]
    assert [entry["event"] for entry in back["nodes"]] == events[:1]
    assert await world.code(globex.key, query, events=["x"] * 51) == "BAD_USER_INPUT"


async def test_the_log_is_followed_from_any_cursor_and_back(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    start = (await world.ask(acme.key, LOG, last=1))["pageInfo"]["endCursor"]
    id = (await world.delegated(acme, globex))["delegation"]["id"]
    async with following(world, acme.key, after=start, events=["delegation.*"]) as stream:
        offered, accepted = await stream.event(), await stream.event()
        assert offered["node"]["event"] == "delegation.offered"
        assert accepted["node"] == {
            "seq": 3,
            "event": "delegation.accepted",
            "actor": None,
            "delegation": {"status": "ACTIVE"},
            "actingTenant": {"slug": "globex"},
        }
        await world.ask(globex.key, REVOKE, id=id, reason="over")
        revoked = await stream.event()
        assert (revoked["node"]["event"], revoked["node"]["delegation"]["status"]) == (
            "delegation.revoked",
            "REVOKED",
        )
    before = await log(world, acme.key, last=9, before=accepted["cursor"])
    assert [entry["seq"] for entry in before] == [1, 2]
    async with following(world, acme.key, after=accepted["cursor"], id=id) as stream:
        assert [(await stream.event())["node"]["seq"] for _ in range(2)] == [4, 5]


async def test_a_stream_ends_with_its_key(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    auditor = await world.key(acme, Role.AUDITOR)
    key_id = (await world.caller(auditor)).key_id
    start = (await world.ask(acme.key, LOG, last=1))["pageInfo"]["endCursor"]
    async with following(world, auditor, after=start) as stream:
        await world.offer(acme, globex)
        assert (await stream.event())["node"]["event"] == "delegation.offered"
        revoke = "mutation ($id: ID!) { revokeApiKey(apiKeyId: $id) { userErrors { code } } }"
        assert (await world.ask(acme.key, revoke, id=key_id))["userErrors"] == []
        message = await stream.message()
        errors = message["payload"]["errors"] if message["type"] == "next" else message["payload"]
        assert errors[0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_following_asks_for_the_permission_and_for_a_cursor_of_the_log(world: World) -> None:
    acme = await world.tenant("acme")
    for key, variables, code in (
        (await world.key(acme, Role.VIEWER), {}, "FORBIDDEN"),
        (acme.key, {"after": "x"}, "BAD_USER_INPUT"),
        (acme.key, {"events": ["x"] * 51}, "BAD_USER_INPUT"),
        (acme.key, {"events": ["delegation.*", "delegation.revokd"]}, "BAD_USER_INPUT"),
    ):
        async with following(world, key, **variables) as stream:
            message = await stream.message()
            errors = message["payload"]["errors"] if message["type"] == "next" else message["payload"]
            assert errors[0]["extensions"]["code"] == code
