"""Revocation is immediate: no admission commits after it, and no answer is released after it (promise 1)."""

import asyncio
import random
from typing import Any

import pytest

from app.delegations.endings import revoke
from app.proxy import completing
from app.proxy.attempts import Completed, Go, No, Released, Withheld
from app.rules.entries import Event, Outcome
from app.rules.errors import Code
from app.rules.lifecycle import REFUSES
from app.store.tables import Delegation
from tests.flows.conftest import POSTGRES
from tests.flows.nodes import Node, Rewired, node
from tests.flows.pausing import gate, paused
from tests.flows.waiting import until
from tests.world import Lent, World


async def after_revocation(world: World, lent: Lent) -> list[dict[str, Any]]:
    """The actions that ended after the revocation, which both ledgers must tell alike: in the order of commits."""
    told = []
    for member in (lent.delegate, lent.delegator):
        events = await world.ledger(member, Event.REVOKED, Event.ACTION)
        at = [entry["event"] for entry in events].index(Event.REVOKED)
        told.append([entry for entry in events[at + 1 :] if entry["delegationId"] == lent.id])
    assert [each["pairId"] for each in told[0]] == [each["pairId"] for each in told[1]]
    return told[0]


def released(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry["outcome"] == Outcome.COMPLETED]


async def test_an_answer_that_comes_after_the_revocation_is_withheld(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        go = await at.go(lent)
        await world.made(revoke, lent.delegator.owner, lent.id, "over")
        assert await at.complete(go) == Withheld(Outcome.WITHHELD, Code.DELEGATION_REVOKED)
    (entry,) = await after_revocation(world, lent)
    assert (entry["outcome"], entry["details"]["upstreamStatus"]) == (Outcome.WITHHELD, 200)


async def completed_around_a_revocation(world: World, at: Node, go: Go, lent: Lent) -> Completed:
    """The broken variant: the right is rechecked with a plain read, and the answer completed by what that said."""
    seen = (await world.row(Delegation, lent.id)).status
    await world.made(revoke, lent.delegator.owner, lent.id, "over")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(completing, "still_holds", lambda *_: REFUSES.get(seen))
        return await at.complete(go)


async def test_the_harness_catches_a_recheck_by_a_plain_read(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        go = await at.go(lent)
        assert isinstance(await completed_around_a_revocation(world, at, go, lent), Released)
    assert released(await after_revocation(world, lent))


@POSTGRES
async def test_a_revocation_waits_for_the_batch_that_has_judged_already(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as before:
        go = await before.go(lent)
    async with gate(world) as closed, node(world, Rewired(world.store, paused)) as at:
        completion = asyncio.ensure_future(at.complete(go))
        await closed.waiting()
        revocation = asyncio.ensure_future(world.made(revoke, lent.delegator.owner, lent.id, "over"))
        await closed.blocked()
        assert not revocation.done()
        await closed.open()
        assert isinstance(await completion, Released)
        assert (await revocation).receipt.drained
    assert not await after_revocation(world, lent)


@POSTGRES
async def test_a_revocation_counts_the_admission_that_it_waited_for(world: World) -> None:
    lent = await world.delegation()
    async with gate(world) as closed, node(world, Rewired(world.store, paused)) as at:
        admission = asyncio.ensure_future(at.admit(lent))
        await closed.waiting()
        revocation = asyncio.ensure_future(world.made(revoke, lent.delegator.owner, lent.id, "over"))
        await closed.blocked()
        await closed.open()
        go, revoked = await admission, await revocation
        assert isinstance(go, Go)
        assert (revoked.receipt.in_flight_aborted, revoked.receipt.drained) == (1, False)
        assert isinstance(await at.complete(go), Withheld)


async def acting_until_refused(at: Node, lent: Lent) -> None:
    """Performs actions, one after the other, until one is refused."""
    while not isinstance(admission := await at.admit(lent), No):
        assert isinstance(admission, Go)
        for _ in range(random.randrange(20)):
            await asyncio.sleep(0)  # the upstream's part
        await at.complete(admission)
    assert admission.code is Code.DELEGATION_REVOKED


async def test_under_load_no_answer_is_released_after_the_revocation_and_its_receipt_counts_the_rest(
    world: World, full: bool
) -> None:
    for _ in range(50 if full else 3):
        await revoked_under_load(world, await world.delegation())


async def revoked_under_load(world: World, lent: Lent) -> None:
    """Thirty act, and the right to it ends."""
    async with node(world) as at:
        actors = [asyncio.ensure_future(acting_until_refused(at, lent)) for _ in range(30)]
        await until(lambda: _acted(world, lent, random.randrange(1, 60)))
        revoked = await world.made(revoke, lent.delegator.owner, lent.id, "over")
        assert isinstance(await at.admit(lent), No)
        await asyncio.gather(*actors)
    rest = await after_revocation(world, lent)
    assert not released(rest)
    assert revoked.receipt.in_flight_aborted == len(rest), "an admission after it would be one more"
    assert revoked.receipt.drained == (not rest)


async def _acted(world: World, lent: Lent, times: int) -> bool:
    return len(await world.ledger(lent.delegate, Event.ACTION)) >= times
