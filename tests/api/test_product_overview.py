"""The overview of shares costs the same few SQL statements whatever it shows."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest_asyncio

from app.api.context import Context, Gateway
from app.api.requests import Operation
from app.api.schema import make_schema
from app.delegations.acceptance import Accepted, OfferRef, accept
from app.delegations.offers import offer
from app.identity.callers import find_caller
from app.inventory.agents import AgentDraft, register_agent
from app.ledger.wake import Wake
from app.proxy.judging import Judges
from app.proxy.perform import Performer
from app.rules.ids import AgentId
from app.rules.tokens import TokenKind
from app.settings import Settings
from app.store.engine import Tx
from app.store.tables import Agent, Delegation
from tests.bench.overview import OVERVIEW
from tests.counting import counting
from tests.world import PLANS, SCOPES, Member, World, opened

SCHEMA = make_schema()
PAGE = 50

#: Authentication; then twice that the key still is one: the page with its terms, and, together, what is used of the
#: limits, the agents, the tenants and the entries.
MOST = 8

LIMITS: dict[str, Any] = {
    "max_actions_per_hour": 10,
    "max_actions_per_day": 100,
    "max_actions_per_month": 1_000,
    "max_cost_units_per_month": 10_000,
    "ip_allowlist": ("203.0.113.0/24",),
    "require_trust_score_above": 10,
    "max_request_bytes": 4_096,
    "deny_patterns": ("secret",),
}


@pytest_asyncio.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    async with opened(settings) as world:
        yield world


async def test_the_overview_of_fifty_costs_the_statements_of_two_and_at_most_eight(world: World) -> None:
    by, to = await world.tenant(), await world.tenant()
    actor = await world.agent(to, [], "actor")
    await world.write(_lend, world, by, to, actor.id)
    for member, direction in ((by, "OUTGOING"), (to, "INCOMING")):
        counts = {}
        for first in (2, PAGE):
            with counting() as statements:
                nodes = await _overview(world, member, direction, first)
            assert len(nodes) == first
            assert all(len(node["usage"]) == 4 and len(node["audit"]["nodes"]) == 3 for node in nodes)
            counts[first] = statements
        assert len(counts[2]) == len(counts[PAGE]) <= MOST, counts


def _lend(tx: Tx, world: World, by: Member, to: Member, actor: AgentId) -> None:
    for number in range(PAGE):
        agent = register_agent(tx, by.owner, AgentDraft(f"agent {number}", "", list(SCOPES), None, []))
        assert isinstance(agent, Agent)
        minted = world.keys.mint(TokenKind.OFFER)
        draft = world.draft(agent.id, to.id, **LIMITS)
        assert isinstance(offer(tx, by.owner, draft, minted, PLANS), Delegation)
        ref = OfferRef(minted.hash, None)
        accepted = accept(
            tx, to.owner, ref, actor, world.keys, acknowledged=True, expected_hash=None, accept_key=None
        )
        assert isinstance(accepted, Accepted)


async def _overview(world: World, member: Member, direction: str, first: int) -> list[dict[str, Any]]:
    """The page, and what its caller costs as well."""
    caller = await world.read(find_caller, world.keys.hash(member.key))
    assert caller is not None
    none = cast(Performer, None), cast(Judges, None)
    wake = Wake(world.store)
    gateway = Gateway(world.settings, world.store, world.keys, wake, *none, "http://gateway.test", PLANS, {})
    operation = Operation(OVERVIEW, {"direction": direction, "first": first}, None)
    async for result in SCHEMA.results(operation, Context(gateway, caller, None)):
        assert result.data, result.errors
        nodes: list[dict[str, Any]] = result.data["delegations"]["nodes"]
        return nodes
    raise AssertionError("a query has one result")
