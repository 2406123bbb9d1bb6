"""A page of any size costs the same number of SQL statements."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any, cast

import pytest_asyncio
from sqlalchemy import select

from app.api.context import Context, Gateway
from app.api.requests import Operation
from app.api.schema import make_schema
from app.delegations.acceptance import Accepted, OfferRef, accept
from app.delegations.amending import Amendment, amend_delegation
from app.delegations.bindings import create_binding
from app.delegations.offers import OfferDraft, offer
from app.delivery.webhooks.again import missed, recover
from app.delivery.webhooks.endpoints import EndpointChanges, Secret, create_endpoint
from app.delivery.webhooks.parts import Sender
from app.egress.origins import Reach
from app.identity.callers import Caller, find_caller
from app.identity.tenants import create_tenant
from app.inventory.actions import define_action
from app.inventory.agents import AgentDraft, register_agent
from app.inventory.upstreams import register_upstream
from app.ledger.wake import Wake
from app.proxy.judging import Judges
from app.proxy.perform import Performer
from app.rules.amendments import Changes
from app.rules.errors import Refusal
from app.rules.ids import DAY, HOUR, BootId, Instant
from app.rules.terms import Constraints
from app.rules.tokens import TokenKind
from app.rules.windows import WindowKind, windows_at
from app.settings import Settings
from app.store.engine import Store, Tx
from app.store.installation import make_store
from app.store.keys import Keys, new_id
from app.store.tables import Agent, Delegation, UsageWindow
from tests.conftest import HEAVY_ON_POSTGRES
from tests.counting import counting
from tests.world import PLANS

pytestmark = HEAVY_ON_POSTGRES

SCHEMA = make_schema()
KEYS = Keys(b"x" * 40)
SPARE = "spare:read"  # what agents hold and delegations only propose

QUERY = """
query ($direction: Direction!, $first: Int!) {
  delegations(direction: $direction, first: $first) {
    totalCount
    pageInfo { hasNextPage endCursor }
    nodes { %s }
  }
}
"""

#: What a list of delegations shows; one query of all of it would be too dear for a page of a hundred.
PARTIES = """
  id status scopes constraints { expiresAt } metadata
  terms { version hash scopes constraints { ipAllowlist } }
  delegator { slug } delegate { slug }
  agent { id scopes trustScore tenant { slug } }
  bindingCount
  bindings(first: 3) { totalCount nodes { id usable agent { id name scopes tenant { slug } } } }
  audit(last: 3) { nodes { seq event actor actingTenant { slug } actingAgent { name } } }
"""
PARTS = """
  id
  termsHistory { version }
  actions { id upstreamName url }
  bindings(first: 3) { nodes { id tokens { id } } }
  audit(first: 3, events: ["binding.*"]) { nodes { seq delegation { id } } }
"""
GOVERNED = """
  id
  proposedTerms { version scopes }
  usage { kind used remaining }
  hours: usageHistory(kind: HOUR) { used }
  months: usageHistory(kind: MONTH) { limit }
  advice { code }
"""
#: As deep as a document may be: what one level finds, the next asks for.
DEEP = """
  id
  bindings(first: 2) { edges { node { delegation { agent { tenant { slug } } bindings(first: 1) { nodes {
    agent { name }
  } } } } } }
  audit(last: 2) { edges { node { delegation { terms { hash } } actingAgent { tenant { name } } } } }
"""


@pytest_asyncio.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    store = make_store(settings, BootId(new_id("bot")), serves=True)
    yield store
    await store.close()


async def test_a_page_of_a_hundred_costs_the_statements_of_a_page_of_two(store: Store) -> None:
    by, to = await store.write(_seed, 100)
    for direction, tenant in (("OUTGOING", by), ("INCOMING", to)):
        context = _context(store, tenant)
        for fields in (PARTIES, PARTS, GOVERNED, DEEP):
            counts = {}
            for first in (2, 100):
                with counting() as statements:
                    shown = await _run(context(), QUERY % fields, direction=direction, first=first)
                assert len(shown["delegations"]["nodes"]) == first
                counts[first] = statements
            assert len(counts[2]) == len(counts[100]), counts


async def test_a_page_shows_as_much_of_each_as_of_one(store: Store) -> None:
    by, _ = await store.write(_seed, 30)
    shown = await _run(_context(store, by)(), QUERY % PARTS, direction="OUTGOING", first=30)
    for node in shown["delegations"]["nodes"]:
        assert len(node["bindings"]["nodes"]) == len(node["audit"]["nodes"]) == 3
        assert (len(node["actions"]), len(node["termsHistory"])) == (1, 2)


async def test_a_page_shows_as_much_of_what_governs_each_as_of_one(store: Store) -> None:
    by, _ = await store.write(_seed, 30)
    await store.write(_used)
    shown = await _run(_context(store, by)(), QUERY % GOVERNED, direction="OUTGOING", first=30)
    for node in shown["delegations"]["nodes"]:
        assert node["proposedTerms"]["version"] == 3
        assert [(each["kind"], each["used"], each["remaining"]) for each in node["usage"]] == [("HOUR", 2, 3)]
        assert (len(node["hours"]), len(node["months"])) == (3, 0)
        assert {each["code"] for each in node["advice"]} == {"TRUST_FLOOR_LOW", "NO_IP_ALLOWLIST"}


WEBHOOKS = """
query ($first: Int) { webhookEndpoints { url deliveries(first: $first) { nodes {
  status endpoint { id } attempts { at } entry { seq event actingTenant { slug } }
} } } }
"""


async def test_many_endpoints_with_long_pages_cost_the_statements_of_short_ones(store: Store) -> None:
    caller = await store.write(_hooked, 5, 100)
    context, counts = _context(store, caller), {}
    for first in (2, 100):
        with counting() as statements:
            shown = await _run(context(), WEBHOOKS, first=first)
        lengths = {len(each["deliveries"]["nodes"]) for each in shown["webhookEndpoints"]}
        assert (len(shown["webhookEndpoints"]), lengths) == (5, {first})
        counts[first] = statements
    assert len(counts[2]) == len(counts[100]), counts


def _hooked(tx: Tx, endpoints: int, entries: int) -> Caller:
    """A tenant with so many endpoints, and a delivery to each of so many entries."""
    caller = _tenant(tx, "acme")
    asked = EndpointChanges("https://hooks.example.com/", ["agent.*"])
    for _ in range(entries):
        _agent(tx, caller, "agent", [])
    for _ in range(endpoints):
        made = create_endpoint(tx, caller, KEYS, Reach((), require_https=False), asked)
        assert isinstance(made, Secret)
        sender = Sender(KEYS, "http://gateway.test", (0.0,))
        found = missed(tx, caller, made.endpoint.id, Instant(0))
        assert recover(tx, caller, sender, made.endpoint.id, Instant(0), found) == entries
    return caller


def _context(store: Store, caller: Caller) -> Any:
    settings = Settings()
    performer, judges = cast(Performer, None), cast(Judges, None)
    gateway = Gateway(
        settings,
        store,
        KEYS,
        Wake(store),
        performer,
        judges,
        "http://gateway.test",
        PLANS,
        {},
    )
    return lambda: Context(gateway, caller, None)


async def _run(context: Context, query: str, **variables: object) -> Any:
    async for result in SCHEMA.results(Operation(query, variables, None), context):
        assert not result.errors, result.errors
        return result.data
    raise AssertionError("a query has one result")


def _seed(tx: Tx, many: int) -> tuple[Caller, Caller]:
    by, to = _tenant(tx, "acme"), _tenant(tx, "globex")
    actors = [_agent(tx, to, f"actor-{n}", []) for n in range(4)]
    upstream = register_upstream(
        tx,
        by,
        KEYS,
        [ip_network("127.0.0.0/8")],
        name="api",
        kind="REST",
        base_url="http://127.0.0.1:9",
        credential=None,
    )
    assert not isinstance(upstream, Refusal)
    for n in range(many):
        scope = f"thing-{n}:read"
        define_action(
            tx,
            by,
            upstream.id,
            scope=scope,
            method="GET",
            path=f"/things/{n}",
            cost_units=1,
            response_mode="BUFFERED",
            idempotent=True,
        )
        _delegate(tx, by, to, _agent(tx, by, f"agent-{n}", [scope, SPARE]), actors)
    return by, to


def _used(tx: Tx) -> None:
    """Two actions in this hour and in each of the three before, under each delegation."""
    hour = windows_at(tx.now())[0].start
    for id in tx.scalars(select(Delegation.id)):
        for ago in range(4):
            starts_at = Instant(hour - ago * HOUR)
            tx.add(UsageWindow(delegation_id=id, kind=WindowKind.HOUR, starts_at=starts_at, used=2))


def _tenant(tx: Tx, slug: str) -> Caller:
    minted = KEYS.mint(TokenKind.API_KEY)
    create_tenant(tx, slug, slug, "standard", minted, PLANS)
    tx.flush()
    caller = find_caller(tx, minted.hash)
    assert caller is not None
    return caller


def _agent(tx: Tx, of: Caller, name: str, scopes: list[str]) -> Agent:
    agent = register_agent(tx, of, AgentDraft(name, "", scopes, None, []))
    assert isinstance(agent, Agent)
    return agent


def _delegate(tx: Tx, by: Caller, to: Caller, agent: Agent, actors: list[Agent]) -> None:
    lent = [scope for scope in agent.scopes if scope != SPARE]
    constraints = Constraints(Instant(tx.now() + DAY))
    draft = OfferDraft(agent.id, to.tenant_id, lent, constraints, "TOKEN", "LIVE", None, {})
    minted = KEYS.mint(TokenKind.OFFER)
    assert not isinstance(offer(tx, by, draft, minted, PLANS), Refusal)
    ref = OfferRef(minted.hash, None)
    accepted = accept(tx, to, ref, actors[0].id, KEYS, acknowledged=True, expected_hash=None, accept_key=None)
    assert isinstance(accepted, Accepted)
    for actor in actors[1:]:
        issued = create_binding(tx, to, accepted.delegation.id, actor.id, KEYS)
        assert not isinstance(issued, Refusal)
    changes = Changes(list(agent.scopes), {"max_actions_per_hour": 5})
    amended = amend_delegation(tx, by, Amendment(accepted.delegation.id, 1, changes))
    assert not isinstance(amended, Refusal)
