"""How a delegation ends: revoked by a party at once, or by the clock whether or not anybody records it."""

import asyncio

import pytest

from app.delegations.acceptance import decline
from app.delegations.bindings import revoke_binding, rotate_token
from app.delegations.endings import Revoked, revoke, sweep
from app.identity.callers import Caller
from app.proxy.attempts import No, Withheld
from app.rules.entries import Event, Outcome
from app.rules.errors import Code, Forbidden, Refusal
from app.rules.ids import DelegationId
from app.rules.lifecycle import Party, Status
from app.rules.permissions import Role
from app.rules.texts import LONGEST_TEXT
from app.store.keys import new_id
from app.store.tables import Binding, Delegation
from tests.flows.nodes import Node, node
from tests.flows.waiting import until
from tests.world import Lent, Offered, World


def owner(ended: Lent | Offered, party: Party) -> Caller:
    """Who speaks for a side."""
    return (ended.delegator if party is Party.DELEGATOR else ended.delegate).owner


async def refused(world: World, by: Caller, id: DelegationId, reason: str = "over") -> Refusal:
    """Why a revocation is refused."""
    refusal = await world.write(revoke, by, id, reason)
    assert isinstance(refusal, Refusal)
    return refusal


PARTIES = pytest.mark.parametrize("party", [Party.DELEGATOR, Party.DELEGATE])


@PARTIES
async def test_either_party_revokes_and_both_ledgers_say_which(world: World, party: Party) -> None:
    lent = await world.delegation()
    await world.made(revoke, owner(lent, party), lent.id, "we are done")
    row = await world.row(Delegation, lent.id)
    assert (row.status, row.ended_by, row.end_reason) == (Status.REVOKED, party, "we are done")
    (theirs,) = await world.ledger(lent.delegator, Event.REVOKED)
    (mine,) = await world.ledger(lent.delegate, Event.REVOKED)
    assert (
        mine["details"] == theirs["details"] == {"by": party, "reason": "we are done", "inFlightAborted": 0}
    )
    actors = {Party.DELEGATOR: theirs["actor"], Party.DELEGATE: mine["actor"]}
    assert actors[party] == "owner"


async def test_a_receipt_counts_what_the_revocation_ended(world: World) -> None:
    lent = await world.delegation()
    rotated, dead = await world.bind(lent), await world.bind(lent)
    # two tokens overlap
    await world.made(rotate_token, lent.delegate.owner, rotated.id, 60, world.keys)
    await world.made(revoke_binding, lent.delegate.owner, dead.id, "no longer needed")
    async with node(world) as at:
        goes = [await at.go(lent), await at.go(rotated)]
        revoked = await world.made(revoke, lent.delegator.owner, lent.id, "over")
        receipt = revoked.receipt
        assert (receipt.bindings_ended, receipt.tokens_ended) == (2, 3)
        assert (receipt.in_flight_aborted, receipt.drained) == (2, False)
        for go in goes:
            assert await at.complete(go) == Withheld(Outcome.WITHHELD, Code.DELEGATION_REVOKED)
    assert all(row.revoked_at for row in await world.rows(Binding))


async def test_a_revocation_with_nothing_under_way_is_drained(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        await at.perform(lent)
        revoked = await world.made(revoke, lent.delegator.owner, lent.id, "over")
    assert (revoked.receipt.in_flight_aborted, revoked.receipt.drained) == (0, True)


@PARTIES
async def test_a_repeat_by_either_party_returns_the_first_receipt_and_says_nothing_more(
    world: World, party: Party
) -> None:
    lent = await world.delegation()
    first = await world.made(revoke, lent.delegator.owner, lent.id, "first")
    again = await world.made(revoke, owner(lent, party), lent.id, "second")
    assert again.receipt == first.receipt
    assert (await world.row(Delegation, lent.id)).end_reason == "first"
    assert len(await world.ledger(lent.delegator, Event.REVOKED)) == 1


async def test_both_parties_revoking_at_once_get_one_receipt(world: World) -> None:
    lent = await world.delegation()
    callers = [lent.delegator.owner, lent.delegate.owner] * 10
    answers = await asyncio.gather(*(world.made(revoke, by, lent.id, "over") for by in callers))
    assert len({each.receipt for each in answers}) == 1
    assert len(await world.ledger(lent.delegate, Event.REVOKED)) == 1


async def test_a_third_tenant_is_told_what_it_is_told_of_an_id_that_does_not_exist(world: World) -> None:
    lent, stranger = await world.delegation(), await world.tenant()
    nobodys = await refused(world, stranger.owner, DelegationId(new_id("dlg")))
    assert await refused(world, stranger.owner, lent.id) == nobodys
    assert (nobodys.code, nobodys.path) == (Code.NOT_FOUND, ("delegationId",))
    assert (await world.row(Delegation, lent.id)).status is Status.ACTIVE


async def test_a_delegator_takes_back_an_offer_that_nobody_saw_and_tells_nobody(world: World) -> None:
    offered = await world.offer()
    await world.made(revoke, offered.delegator.owner, offered.id, "a mistake")
    assert (await world.row(Delegation, offered.id)).status is Status.REVOKED
    assert len(await world.ledger(offered.delegator, Event.REVOKED)) == 1
    assert not await world.ledger(offered.delegate, Event.REVOKED)


async def test_a_delegator_takes_back_an_addressed_offer_and_both_know(world: World) -> None:
    offered = await world.offer(acceptance="ADDRESSED")
    await world.made(revoke, offered.delegator.owner, offered.id, "a mistake")
    assert len(await world.ledger(offered.delegate, Event.REVOKED)) == 1


async def test_a_delegate_cannot_revoke_an_offer_and_learns_of_none_it_has_not_seen(world: World) -> None:
    token, addressed = await world.offer(), await world.offer(acceptance="ADDRESSED")
    unseen = await refused(world, token.delegate.owner, token.id)
    assert unseen == await refused(world, token.delegate.owner, DelegationId(new_id("dlg")))
    seen = await refused(world, addressed.delegate.owner, addressed.id)
    assert (seen.code, "decline it" in seen.message) == (Code.WRONG_STATE, True)


async def test_what_has_ended_otherwise_cannot_be_revoked(world: World) -> None:
    declined, lapsed = await world.offer(), await world.offer()
    expired = await world.delegation()
    await world.made(decline, declined.delegate.owner, declined.ref, None)
    await world.age(Delegation, lapsed.id, offer_expires_at=world.later(-1))
    await world.age(Delegation, expired.id, expires_at=world.later(-1))
    for ended, status in ((declined, "DECLINED"), (lapsed, "LAPSED"), (expired, "EXPIRED")):
        refusal = await refused(world, ended.delegator.owner, ended.id)
        assert (refusal.code, status in refusal.message) == (Code.WRONG_STATE, True)


@pytest.mark.parametrize("reason", ["", " ", "x" * (LONGEST_TEXT + 1), "a\0b"])
async def test_a_revocation_needs_a_reason_in_words(world: World, reason: str) -> None:
    lent = await world.delegation()
    refusal = await refused(world, lent.delegator.owner, lent.id, reason)
    assert (refusal.code, refusal.path) == (Code.INVALID, ("reason",))
    assert (await world.row(Delegation, lent.id)).status is Status.ACTIVE


@pytest.mark.parametrize("role", Role)
async def test_owners_and_admins_revoke_and_nobody_else(world: World, role: Role) -> None:
    lent = await world.delegation()
    caller = await world.caller(lent.delegate, role)
    if role in (Role.OWNER, Role.ADMIN):
        assert isinstance(await world.write(revoke, caller, lent.id, "over"), Revoked)
    else:
        with pytest.raises(Forbidden):
            await world.write(revoke, caller, lent.id, "over")


# -- the clock


async def test_a_delegation_expires_under_an_action_before_anybody_records_it(world: World) -> None:
    lent = await world.delegation(lives=0.3)
    async with node(world) as at:
        go = await at.go(lent)
        await until(lambda: _no_longer_admitted(at, lent))
        assert await at.complete(go) == Withheld(Outcome.WITHHELD, Code.DELEGATION_EXPIRED)
    assert (await world.row(Delegation, lent.id)).status is Status.ACTIVE, "nobody recorded it yet"


async def _no_longer_admitted(at: Node, lent: Lent) -> bool:
    admission = await at.admit(lent)
    return isinstance(admission, No) and admission.code is Code.DELEGATION_EXPIRED


async def swept(world: World) -> int:
    """How many a sweeper records until nothing is due."""
    total = 0
    while count := await world.write(sweep):
        total += count
    return total


async def test_a_sweeper_records_what_the_clock_has_done(world: World) -> None:
    by_token, addressed, outlived = (
        *(await world.offer(), await world.offer(acceptance="ADDRESSED"), await world.offer()),
    )
    expired, living, standing = await world.delegation(), await world.delegation(), await world.offer()
    for offered in (by_token, addressed):
        await world.age(Delegation, offered.id, offer_expires_at=world.later(-1))
    for ended in (outlived, expired):
        await world.age(Delegation, ended.id, expires_at=world.later(-1))
    assert await swept(world) == 4
    for offered in (by_token, addressed, outlived):
        row = await world.row(Delegation, offered.id)
        assert (row.status, row.ended_by) == (Status.LAPSED, Party.SYSTEM)
        assert row.ended_at is not None
    row = await world.row(Delegation, expired.id)
    assert (row.status, row.ended_by) == (Status.EXPIRED, Party.SYSTEM)
    assert (await world.row(Binding, expired.binding.id)).revoked_at == row.ended_at
    assert (await world.row(Delegation, living.id)).status is Status.ACTIVE
    assert (await world.row(Delegation, standing.id)).status is Status.PENDING
    assert not await world.ledger(by_token.delegate), "whom nobody told of the offer nobody tells of its end"
    assert len(await world.ledger(addressed.delegate, Event.LAPSED)) == 1
    (entry,) = await world.ledger(expired.delegate, Event.EXPIRED)
    assert (entry["actor"], entry["details"]) == (None, {"bindingsEnded": 1})


async def test_two_sweepers_at_once_record_each_end_once(world: World) -> None:
    delegator, delegate = await world.tenant(), await world.tenant()
    agent = await world.agent(delegator)
    for _ in range(120):  # more than one transaction of a sweeper takes
        offered = await world.offer(delegator, delegate, agent)
        await world.age(Delegation, offered.id, offer_expires_at=world.later(-1))
    assert sum(await asyncio.gather(swept(world), swept(world))) == 120
    assert {row.status for row in await world.rows(Delegation)} == {Status.LAPSED}
    lapsed = await world.ledger(delegator, Event.LAPSED)
    assert len({entry["delegationId"] for entry in lapsed}) == len(lapsed) == 120


async def test_a_sweeper_with_nothing_due_writes_nothing(world: World) -> None:
    lent = await world.delegation()
    entries = await world.ledger(lent.delegator)
    assert await world.write(sweep) == 0
    assert await world.ledger(lent.delegator) == entries


async def test_a_swept_delegation_refuses_as_it_did_before_it_was_swept(world: World) -> None:
    lent = await world.delegation()
    await world.age(Delegation, lent.id, expires_at=world.later(-1))
    async with node(world) as at:
        await swept(world)
        assert (await at.no(lent)).code is Code.DELEGATION_EXPIRED
