"""Suspension: a right that rests at one commit and goes on at another, with all that belongs to it (promise 1)."""

import pytest

from app.delegations.endings import Revoked, revoke, sweep
from app.delegations.suspension import resume, suspend
from app.proxy.attempts import Released, Withheld
from app.rules.entries import Event, Outcome
from app.rules.errors import Code, Forbidden, Refusal
from app.rules.ids import DelegationId, Instant
from app.rules.lifecycle import Status
from app.rules.permissions import Role
from app.store.engine import Tx, wall_clock
from app.store.tables import Delegation, Suspension, TermsVersion
from tests.flows.nodes import node
from tests.world import Lent, World


async def test_nothing_is_admitted_or_released_until_it_is_resumed_and_then_with_the_same_token(
    world: World,
) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        under_way, later = await at.go(lent), await at.go(lent)
        await world.suspend(lent)
        assert await at.complete(under_way) == Withheld(Outcome.WITHHELD, Code.DELEGATION_SUSPENDED)
        assert (await at.no(lent)).code is Code.DELEGATION_SUSPENDED
        await world.resume(lent)
        assert isinstance(await at.complete(later), Released)
        await at.go(lent)


async def test_both_ledgers_tell_of_it_alike(world: World) -> None:
    lent = await world.delegation()
    await world.suspend(lent)
    await world.resume(lent)
    told = [
        await world.ledger(member, Event.SUSPENDED, Event.RESUMED)
        for member in (lent.delegator, lent.delegate)
    ]
    assert [entry["event"] for entry in told[0]] == [Event.SUSPENDED, Event.RESUMED]
    assert [entry["pairId"] for entry in told[0]] == [entry["pairId"] for entry in told[1]]
    assert [entry["actor"] for entry in told[0]] == ["owner", "owner"]
    assert [entry["actor"] for entry in told[1]] == [None, None]


@pytest.mark.parametrize("side", ["delegator", "delegate"])
async def test_either_party_ends_what_is_suspended(world: World, side: str) -> None:
    lent = await world.delegation()
    await world.suspend(lent)
    owner = (lent.delegator if side == "delegator" else lent.delegate).owner
    revoked = await world.made(revoke, owner, lent.id, "over")
    assert isinstance(revoked, Revoked)
    refusal = await world.write(resume, lent.delegator.owner, lent.id)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.WRONG_STATE


def _past(tx: Tx, id: DelegationId) -> None:
    end = Instant(wall_clock() - 1)
    delegation = tx.get_one(Delegation, id)
    terms = tx.get_one(TermsVersion, (id, delegation.terms_version))
    terms.constraints = {**terms.constraints, "expiresAt": end}
    delegation.expires_at = end


async def test_the_clock_ends_what_is_suspended(world: World) -> None:
    lent = await world.delegation()
    await world.suspend(lent)
    await world.write(_past, lent.id)
    refusal = await world.write(resume, lent.delegator.owner, lent.id)
    assert isinstance(refusal, Refusal)
    assert await world.write(sweep) == 1
    assert (await world.row(Delegation, lent.id)).status is Status.EXPIRED
    for member in (lent.delegator, lent.delegate):
        assert len(await world.ledger(member, Event.EXPIRED)) == 1


@pytest.mark.parametrize("state", ["active", "suspended", "revoked", "offered"])
async def test_only_the_moves_of_the_table_are_made(world: World, state: str) -> None:
    offered = await world.offer()
    id = offered.id
    if state != "offered":
        lent: Lent = await world.accept(offered)
        if state == "suspended":
            await world.suspend(lent)
        if state == "revoked":
            await world.made(revoke, lent.delegator.owner, id, "over")
    owner = offered.delegator.owner
    halted = await world.write(suspend, owner, id, "a doubt")
    assert isinstance(halted, Refusal) is (state != "active")
    if isinstance(halted, Refusal):
        assert (halted.code, halted.path) == (Code.WRONG_STATE, ("delegationId",))
    resumed = await world.write(resume, owner, id)
    assert isinstance(resumed, Refusal) is (state in ("revoked", "offered"))


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.AUDITOR, Role.VIEWER])
async def test_lower_roles_neither_suspend_nor_resume(world: World, role: Role) -> None:
    lent = await world.delegation()
    caller = await world.caller(lent.delegator, role)
    with pytest.raises(Forbidden):
        await world.write(suspend, caller, lent.id, "a doubt")
    with pytest.raises(Forbidden):
        await world.write(resume, caller, lent.id)


async def test_each_time_of_rest_is_kept(world: World) -> None:
    lent = await world.delegation()
    for _ in range(2):
        await world.suspend(lent)
        await world.resume(lent)
    rows = await world.rows(Suspension, Suspension.delegation_id == lent.id)
    assert len(rows) == 2
    assert all(row.resumed_at is not None and row.suspended_at < row.resumed_at for row in rows)
