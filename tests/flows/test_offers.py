"""Offering: what is wrong is named and leaves nothing behind, what is right stands in whose ledgers it should."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app.delegations import offers
from app.delegations.endings import revoke
from app.delegations.offers import MOST_ADDRESSED, OfferDraft, offer, outgoing
from app.rules.entries import Event
from app.rules.errors import Code, Forbidden, Refusal
from app.rules.ids import AgentId, TenantId
from app.rules.lifecycle import Status
from app.rules.limits import LARGEST_METADATA, LONGEST_DELEGATION, LONGEST_OFFER, OFFER_LIVES
from app.rules.permissions import Role
from app.rules.tokens import TokenKind
from app.store.keys import new_id
from app.store.tables import Agent, Delegation, TermsVersion
from tests.world import Member, World

DAYS = 86_400.0  # seconds


@pytest.fixture
def plan_of_three(world: World) -> int:
    """A plan so small that a test can fill it."""
    world.plans["standard"] = 3
    return 3


async def refused(world: World, by: Member, draft: OfferDraft) -> Refusal:
    """Why an offer is refused."""
    minted = world.keys.mint(TokenKind.OFFER)
    refusal = await world.write(offer, by.owner, draft, minted, world.plans)
    assert isinstance(refusal, Refusal)
    return refusal


async def test_an_offer_is_pending_with_the_first_version_of_its_terms(world: World) -> None:
    offered = await world.offer(
        scopes=["receipts:write", "receipts:read"], metadata={"note": "for the audit"}
    )
    delegation = await world.row(Delegation, offered.id)
    (terms,) = await world.rows(TermsVersion)
    assert (delegation.status, delegation.terms_version, delegation.accepted_at) == (Status.PENDING, 1, None)
    assert (terms.scopes, terms.metadata_) == (["receipts:read", "receipts:write"], {"note": "for the audit"})


async def test_an_offer_never_stands_open_longer_than_what_it_offers(world: World) -> None:
    short, long = await world.offer(lives=60), await world.offer(lives=30 * DAYS)
    assert short.delegation.offer_expires_at == short.delegation.expires_at
    assert long.delegation.offer_expires_at == long.delegation.offered_at + OFFER_LIVES


async def test_a_token_offer_stands_in_the_delegators_ledger_alone(world: World) -> None:
    offered = await world.offer()
    (entry,) = await world.ledger(offered.delegator, Event.OFFERED)
    assert (entry["actor"], entry["actingTenantId"]) == ("owner", offered.delegate.id)
    assert not await world.ledger(offered.delegate, Event.OFFERED)


async def test_an_addressed_offer_stands_in_both_ledgers(world: World) -> None:
    offered = await world.offer(acceptance="ADDRESSED")
    (mine,) = await world.ledger(offered.delegator, Event.OFFERED)
    (theirs,) = await world.ledger(offered.delegate, Event.OFFERED)
    assert mine["pairId"] == theirs["pairId"]
    assert (mine["actor"], theirs["actor"]) == ("owner", None)


Spoil = Callable[[World, Agent, Member], dict[str, Any]]


@pytest.mark.parametrize(
    ("spoil", "code", "path"),
    [
        (lambda world, mine, by: {"delegate": by.id}, Code.SELF_DELEGATION, ("toTenantId",)),
        (lambda world, mine, by: {"delegate": TenantId(new_id("ten"))}, Code.NOT_FOUND, ("toTenantId",)),
        (lambda world, mine, by: {"agent": AgentId(new_id("agt"))}, Code.NOT_FOUND, ("fromAgentId",)),
        (lambda world, mine, by: {"scopes": []}, Code.INVALID, ("scopes",)),
        (lambda world, mine, by: {"scopes": ["reports:read"]}, Code.SCOPE_NOT_HELD, ("scopes",)),
        (lambda world, mine, by: {"lives": -1}, Code.EXPIRY_INVALID, ("constraints", "expiresAt")),
        (
            lambda world, mine, by: {"lives": LONGEST_DELEGATION / 1e6 + 60},
            Code.EXPIRY_INVALID,
            ("constraints", "expiresAt"),
        ),
        (
            lambda world, mine, by: {"offer_expires_at": world.later(-1)},
            Code.EXPIRY_INVALID,
            ("offerExpiresAt",),
        ),
        (
            lambda world, mine, by: {"offer_expires_at": world.later(LONGEST_OFFER / 1e6 + 60)},
            Code.EXPIRY_INVALID,
            ("offerExpiresAt",),
        ),
        (
            lambda world, mine, by: {"max_actions_per_day": 0},
            Code.CAP_INVALID,
            ("constraints", "maxActionsPerDay"),
        ),
        (
            lambda world, mine, by: {"ip_allowlist": ("192.0.2.1/24",)},
            Code.CIDR_INVALID,
            ("constraints", "ipAllowlist", "0"),
        ),
        (lambda world, mine, by: {"metadata": "x" * LARGEST_METADATA}, Code.INVALID, ("metadata",)),
        (
            lambda world, mine, by: {"max_cost_units_per_month": 0},
            Code.CAP_INVALID,
            ("constraints", "maxCostUnitsPerMonth"),
        ),
        (
            lambda world, mine, by: {"require_trust_score_above": 100},
            Code.INVALID,
            ("constraints", "requireTrustScoreAbove"),
        ),
        (
            lambda world, mine, by: {"ip_allowlist": ("::ffff:192.0.2.0/120",)},
            Code.CIDR_INVALID,
            ("constraints", "ipAllowlist", "0"),
        ),
    ],
)
async def test_a_refused_offer_names_what_is_wrong_and_leaves_nothing_behind(
    world: World, spoil: Spoil, code: Code, path: tuple[str, ...]
) -> None:
    by, to = await world.tenant(), await world.tenant()
    agent = await world.agent(by)
    draft = world.draft(**{"agent": agent.id, "delegate": to.id, **spoil(world, agent, by)})
    refusal = await refused(world, by, draft)
    assert (refusal.code, refusal.path) == (code, path)
    assert not await world.rows(Delegation)
    assert not await world.rows(TermsVersion)
    assert not await world.ledger(by, Event.OFFERED)
    assert not await world.ledger(to)


async def test_a_tenant_that_is_called_by_its_slug_is_as_one_that_does_not_exist(world: World) -> None:
    by, to = await world.tenant(), await world.tenant()
    agent, nobodys = await world.agent(by), TenantId(new_id("ten"))
    unknown = (TenantId(to.tenant.slug), TenantId("no-such-slug"), nobodys)
    answers = {(await refused(world, by, world.draft(agent.id, each))).message for each in unknown}
    assert answers == {"toTenantId names no tenant: give its id, which begins with ten_, and not its slug"}


async def test_another_tenants_agent_is_as_one_that_does_not_exist(world: World) -> None:
    by, to = await world.tenant(), await world.tenant()
    theirs, nobodys = (await world.agent(to)).id, AgentId(new_id("agt"))
    answers = [await refused(world, by, world.draft(each, to.id)) for each in (theirs, nobodys)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OWNER])
async def test_only_an_owner_offers(world: World, role: Role) -> None:
    by, to = await world.tenant(), await world.tenant()
    draft = world.draft((await world.agent(by)).id, to.id)
    caller = await world.caller(by, role)
    with pytest.raises(Forbidden, match=f"{role}.*delegation:offer"):
        await world.write(offer, caller, draft, None, world.plans)
    assert not await world.rows(Delegation)


async def test_a_plan_is_not_overrun_however_many_offer_at_once(world: World, plan_of_three: int) -> None:
    by, to = await world.tenant(), await world.tenant()
    # each another agent: an agent's own lock must not be what keeps them apart
    drafts = [world.draft((await world.agent(by)).id, to.id) for _ in range(50)]
    tokens = [world.keys.mint(TokenKind.OFFER) for _ in drafts]
    answers = await asyncio.gather(
        *(
            world.write(offer, by.owner, draft, token, world.plans)
            for draft, token in zip(drafts, tokens, strict=True)
        )
    )
    refusals = [each.code for each in answers if isinstance(each, Refusal)]
    assert refusals == [Code.PLAN_LIMIT] * (50 - plan_of_three)
    assert len(await world.rows(Delegation)) == len(await world.ledger(by, Event.OFFERED)) == plan_of_three


async def test_the_harness_catches_a_plan_that_is_counted_before_it_is_locked(
    world: World, plan_of_three: int
) -> None:
    """The broken variant: count in one transaction, offer in the next."""
    by, to = await world.tenant(), await world.tenant()
    agent = await world.agent(by)
    counts = [await world.read(outgoing, by.id, world.later(0)) for _ in range(10)]
    world.plans["standard"] = 1_000  # what follows relies on what was counted
    await asyncio.gather(*(world.offer(by, to, agent) for count in counts if count < plan_of_three))
    assert len(await world.rows(Delegation)) > plan_of_three


async def test_an_offer_that_lapsed_or_a_delegation_that_ended_makes_room_before_anybody_records_it(
    world: World, plan_of_three: int
) -> None:
    by, to = await world.tenant(), await world.tenant()
    agent = await world.agent(by)
    lapsing, expiring, _ = [await world.offer(by, to, agent) for _ in range(plan_of_three)]
    draft = world.draft(agent.id, to.id)
    assert (await refused(world, by, draft)).code is Code.PLAN_LIMIT
    await world.age(Delegation, lapsing.id, offer_expires_at=world.later(-1))
    await world.age(Delegation, expiring.id, expires_at=world.later(-1))
    await world.offer(by, to, agent)
    await world.offer(by, to, agent)
    assert (await refused(world, by, draft)).code is Code.PLAN_LIMIT


async def test_twenty_addressed_offers_of_one_tenant_to_another_are_open_at_once(world: World) -> None:
    by, to, other = await world.tenant(), await world.tenant(), await world.tenant()
    agent = await world.agent(by)
    open_offers = [await world.offer(by, to, agent, acceptance="ADDRESSED") for _ in range(MOST_ADDRESSED)]
    addressed = world.draft(agent.id, to.id, acceptance="ADDRESSED")
    refusal = await refused(world, by, addressed)
    assert (refusal.code, refusal.path) == (Code.LIMIT_REACHED, ("acceptance",))
    # another pair, or a token that the delegate has to ask for, is not concerned
    await world.offer(by, other, agent, acceptance="ADDRESSED")
    await world.offer(by, to, agent)
    # an answer, or the clock, makes room
    await world.accept(open_offers[0])
    await world.offer(by, to, agent, acceptance="ADDRESSED")
    assert (await refused(world, by, addressed)).code is Code.LIMIT_REACHED


async def test_addressed_offers_at_once_stay_within_their_twenty(world: World) -> None:
    by, to = await world.tenant(), await world.tenant()
    drafts = [world.draft((await world.agent(by)).id, to.id, acceptance="ADDRESSED") for _ in range(40)]
    answers = await asyncio.gather(
        *(world.write(offer, by.owner, each, None, world.plans) for each in drafts)
    )
    assert sum(isinstance(each, Delegation) for each in answers) == MOST_ADDRESSED
    assert len(await world.ledger(to, Event.OFFERED)) == MOST_ADDRESSED


async def test_offers_that_nobody_asked_for_fill_no_strangers_ledger_however_often_they_are_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "MOST_ADDRESSED_A_DAY", 3)
    by, to, other = await world.tenant(), await world.tenant(), await world.tenant()
    agent = await world.agent(by)
    sent = [await world.offer(by, to, agent, acceptance="ADDRESSED") for _ in range(3)]
    for each in sent:
        await world.made(revoke, by.owner, each.id, "again")
    entries = len(await world.ledger(to))
    addressed = world.draft(agent.id, to.id, acceptance="ADDRESSED")
    refusal = await refused(world, by, addressed)
    assert (refusal.code, refusal.path) == (Code.LIMIT_REACHED, ("acceptance",))
    assert "24 hours" in refusal.message
    assert len(await world.ledger(to)) == entries
    # another pair, the other direction, or a token that the delegate has to ask for, is not concerned
    await world.offer(by, other, agent, acceptance="ADDRESSED")
    await world.offer(to, by, acceptance="ADDRESSED")
    await world.offer(by, to, agent)
    # what is older than a day no longer counts
    await world.age(Delegation, sent[0].id, offered_at=world.later(-DAYS - 1))
    await world.offer(by, to, agent, acceptance="ADDRESSED")
    assert (await refused(world, by, addressed)).code is Code.LIMIT_REACHED
