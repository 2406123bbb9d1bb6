"""Amendments: the next version is in force at its commit, without a new token; scopes grow by consent alone."""

import asyncio
from typing import Any

import pytest

from app.delegations.amending import Amendment, acknowledge, amend_delegation
from app.delegations.endings import revoke
from app.proxy.attempts import Released, Withheld
from app.rules.amendments import Changes
from app.rules.entries import Event, Outcome
from app.rules.errors import Code, Forbidden, Refusal
from app.rules.ids import DAY, SECOND, Instant
from app.rules.permissions import Role
from app.store.engine import wall_clock
from app.store.tables import Delegation, Dispatch, ScopedToken, TermsVersion
from tests.flows.nodes import node
from tests.world import SCOPES, Lent, World

READ, WRITE = SCOPES


async def versions(world: World, lent: Lent) -> list[tuple[int, list[str], bool]]:
    """Every version with its scopes, and whether it was in force."""
    rows = await world.rows(TermsVersion, TermsVersion.delegation_id == lent.id)
    return [(row.version, row.scopes, row.in_force_at is not None) for row in rows]


async def tried(world: World, lent: Lent, version: int = 1, reason: str | None = None, **given: Any) -> Any:
    """What becomes of an amendment."""
    asked = Amendment(lent.id, version, Changes(**given), reason)
    return await world.write(amend_delegation, lent.delegator.owner, asked)


async def proposed_hash(world: World, lent: Lent) -> str:
    """The hash of the highest version."""
    rows = await world.rows(TermsVersion, TermsVersion.delegation_id == lent.id)
    return rows[-1].hash


async def test_the_next_dispatch_is_judged_by_the_next_version_with_the_same_token(world: World) -> None:
    lent = await world.delegation(max_request_bytes=10)
    async with node(world) as at:
        assert (await at.no(lent, method="POST", path="/v1/receipts", size=11)).code is Code.REQUEST_TOO_LARGE
        await world.amend(lent, max_request_bytes=11)
        go = await at.go(lent, method="POST", path="/v1/receipts", size=11)
        await at.complete(go)
    assert (await world.row(Dispatch, go.attempt.id)).terms_version == 2
    (entry,) = await world.ledger(lent.delegator, Event.ACTION)
    assert entry["details"]["termsVersion"] == 2


async def test_scopes_shrink_at_once_and_what_is_under_way_there_is_withheld(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        read, write = await at.go(lent), await at.go(lent, method="POST", path="/v1/receipts")
        await world.amend(lent, scopes=[READ])
        assert await at.complete(write) == Withheld(Outcome.WITHHELD, Code.ACTION_NOT_FOUND)
        assert isinstance(await at.complete(read), Released)
        assert (await at.no(lent, method="POST", path="/v1/receipts")).code is Code.ACTION_NOT_FOUND


async def test_scopes_grow_only_when_the_delegate_has_consented(world: World) -> None:
    lent = await world.delegation(scopes=[READ])
    await world.amend(lent, scopes=[READ, WRITE])
    assert await versions(world, lent) == [(1, [READ], True), (2, [READ, WRITE], False)]
    async with node(world) as at:
        assert (await at.no(lent, method="POST", path="/v1/receipts")).code is Code.ACTION_NOT_FOUND
        hash = await proposed_hash(world, lent)
        for _ in range(2):  # a repeat changes nothing
            await world.made(acknowledge, lent.delegate.owner, lent.id, hash)
        await at.go(lent, method="POST", path="/v1/receipts")
    assert await versions(world, lent) == [(1, [READ], True), (2, [READ, WRITE], True)]
    for member in (lent.delegator, lent.delegate):
        assert len(await world.ledger(member, Event.TERMS_ACKNOWLEDGED)) == 1


async def test_a_mixed_amendment_is_in_force_but_for_what_is_added(world: World) -> None:
    lent = await world.delegation(scopes=[READ])
    await world.amend(lent, scopes=[WRITE], max_actions_per_hour=7)
    assert await versions(world, lent) == [(1, [READ], True), (2, [], True), (3, [WRITE], False)]
    current = await world.row(TermsVersion, lent.id, 2)
    assert current.constraints["maxActionsPerHour"] == 7


async def test_the_next_amendment_discards_a_proposal_and_says_so(world: World) -> None:
    lent = await world.delegation(scopes=[READ])
    await world.amend(lent, scopes=[READ, WRITE])
    discarded = await proposed_hash(world, lent)
    await world.amend(lent, max_actions_per_hour=7)
    assert await versions(world, lent) == [(1, [READ], True), (2, [READ], True)]
    refusal = await world.write(acknowledge, lent.delegate.owner, lent.id, discarded)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.path) == (Code.TERMS_CHANGED, ("termsHash",))
    told = await world.ledger(lent.delegate, Event.AMENDED)
    assert [entry["details"]["discardedHash"] for entry in told] == [None, discarded]


async def test_a_conflict_names_the_version_in_force(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=9)
    await world.amend(lent, max_actions_per_hour=8)
    refusal = await tried(world, lent, 1, limits={"max_actions_per_hour": 7})
    assert (refusal.code, refusal.path) == (Code.VERSION_CONFLICT, ("expectedVersion",))
    assert "version 2" in refusal.message
    assert len(await versions(world, lent)) == 2


async def test_of_two_amendments_at_once_one_is_made(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=9)
    made = await asyncio.gather(
        *(tried(world, lent, 1, limits={"max_actions_per_hour": cap}) for cap in range(1, 11))
    )
    assert [isinstance(each, Delegation) for each in made].count(True) == 1
    assert len(await versions(world, lent)) == 2


async def test_a_token_lives_on_with_its_delegation_and_ends_with_it(world: World) -> None:
    lent = await world.delegation(lives=3_600)
    token = lent.bound.issued
    assert token.expires_at == lent.delegation.expires_at
    later = Instant(wall_clock() + 90 * DAY)
    await world.amend(lent, expires_at=later)
    assert (await world.row(ScopedToken, token.id)).expires_at == token.created_at + 30 * DAY
    sooner = Instant(wall_clock() + 600 * SECOND)
    await world.amend(lent, expires_at=sooner)
    assert (await world.row(ScopedToken, token.id)).expires_at == sooner
    async with node(world) as at:
        await at.go(lent)


async def test_no_amendment_brings_a_dead_token_back(world: World) -> None:
    lent = await world.delegation(lives=3_600)
    await world.rotate(lent)
    await world.amend(lent, expires_at=Instant(wall_clock() + 90 * DAY))
    async with node(world) as at:
        assert (await at.no(lent)).code is Code.TOKEN_INVALID


async def test_both_ledgers_say_what_was_amended(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=9, max_actions_per_day=50)
    await world.amend(lent, max_actions_per_hour=8, clear=["maxActionsPerDay"], metadata={"a": 1})
    for member in (lent.delegator, lent.delegate):
        (entry,) = await world.ledger(member, Event.AMENDED)
        details = entry["details"]
        assert details["changed"] == ["maxActionsPerDay", "maxActionsPerHour", "metadata"]
        assert details["termsVersion"] == 2
        assert details["termsHash"] == (await world.row(TermsVersion, lent.id, 2)).hash


@pytest.mark.parametrize("state", ["offered", "revoked", "suspended"])
async def test_only_what_lives_is_amended(world: World, state: str) -> None:
    offered = await world.offer()
    if state != "offered":
        lent = await world.accept(offered)
        if state == "suspended":
            await world.suspend(lent)
        else:
            await world.made(revoke, lent.delegator.owner, lent.id, "over")
    asked = Amendment(offered.id, 1, Changes(limits={"max_actions_per_hour": 3}))
    made = await world.write(amend_delegation, offered.delegator.owner, asked)
    if state == "suspended":
        assert isinstance(made, Delegation)
    else:
        assert isinstance(made, Refusal)
        assert (made.code, made.path) == (Code.WRONG_STATE, ("delegationId",))


async def test_the_delegator_amends_and_the_delegate_acknowledges_and_nobody_else(world: World) -> None:
    lent = await world.delegation(scopes=[READ])
    asked = Amendment(lent.id, 1, Changes(limits={"max_actions_per_hour": 3}))
    wrong_side = [
        await world.write(amend_delegation, lent.delegate.owner, asked),
        await world.write(acknowledge, lent.delegator.owner, lent.id, "x"),
    ]
    stranger = await world.tenant()
    strange = [
        await world.write(amend_delegation, stranger.owner, asked),
        await world.write(acknowledge, stranger.owner, lent.id, "x"),
    ]
    assert [each.code for each in wrong_side if isinstance(each, Refusal)] == [Code.WRONG_STATE] * 2
    assert [each.code for each in strange if isinstance(each, Refusal)] == [Code.NOT_FOUND] * 2
    operator = await world.caller(lent.delegator, Role.OPERATOR)
    with pytest.raises(Forbidden):
        await world.write(amend_delegation, operator, asked)
    admin = await world.caller(lent.delegate, Role.ADMIN)
    with pytest.raises(Forbidden):
        await world.write(acknowledge, admin, lent.id, "x")
