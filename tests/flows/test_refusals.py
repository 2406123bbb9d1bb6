"""Refusals: sixty a minute of one binding and code stand in the ledgers, the rest are counted (promise 6)."""

import asyncio

from sqlalchemy import update

from app.delegations.endings import revoke
from app.proxy.attempts import No
from app.proxy.refusing import A_MINUTE
from app.proxy.upkeep import flush_refusals
from app.rules.entries import Event
from app.rules.errors import Code
from app.rules.ids import MINUTE
from app.store.engine import Tx
from app.store.tables import Dispatch, RefusalCount, ScopedToken
from tests.flows.nodes import node
from tests.world import Lent, World


async def refusals(world: World, lent: Lent, count: int, path: str = "/elsewhere") -> list[No]:
    """So many in one batch, and so in one minute."""
    async with node(world) as at:
        return list(await asyncio.gather(*(at.no(lent, path=path) for _ in range(count))))


def _move(tx: Tx, minutes: int) -> None:
    tx.execute(update(RefusalCount).values(minute=RefusalCount.minute + minutes * MINUTE))


async def test_beyond_sixty_a_minute_a_refusal_is_answered_and_counted(world: World) -> None:
    lent = await world.delegation()
    answers = await refusals(world, lent, A_MINUTE + 15)
    assert {each.code for each in answers} == {Code.ACTION_NOT_FOUND}
    recorded = {each.dispatch_id for each in answers if each.dispatch_id}
    assert recorded == {row.id for row in await world.rows(Dispatch)}
    assert len(recorded) == len(await world.ledger(lent.delegator, Event.DENIED)) == A_MINUTE
    (count,) = await world.rows(RefusalCount)
    assert (count.written, count.counted) == (A_MINUTE, 15)


async def test_the_limit_holds_over_several_batches(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        await asyncio.gather(*(at.no(lent, path="/elsewhere") for _ in range(A_MINUTE - 1)))
        (row,) = await world.rows(RefusalCount)
        answers = [await at.no(lent, path="/elsewhere") for _ in range(3)]
        rows = await world.rows(RefusalCount)
    if rows == [row]:  # unless the minute turned in between
        assert [each.dispatch_id is None for each in answers] == [False, True, True]
    assert sum(each.written + each.counted for each in rows) == A_MINUTE + 2


async def test_each_binding_and_code_has_sixty_of_its_own(world: World) -> None:
    lent = await world.delegation()
    bound = await world.bind(lent)
    async with node(world) as at:
        answers = await asyncio.gather(
            *(at.no(lent, path="/elsewhere") for _ in range(A_MINUTE + 1)),
            *(at.no(bound, path="/elsewhere") for _ in range(A_MINUTE + 1)),
        )
    assert sum(each.dispatch_id is None for each in answers) == 2
    await world.made(revoke, lent.delegator.owner, lent.id, "over")
    (revoked,) = await refusals(world, lent, 1)
    assert (revoked.code, revoked.dispatch_id is None) == (Code.DELEGATION_REVOKED, False)


async def test_what_was_counted_becomes_one_pair_once_its_minute_is_past(world: World) -> None:
    lent = await world.delegation()
    await refusals(world, lent, A_MINUTE + 15)
    await world.write(_move, 1)
    assert await world.write(flush_refusals) == 0, "its minute is not over"
    await world.write(_move, -2)
    assert await world.write(flush_refusals) == 1
    for member in (lent.delegator, lent.delegate):
        *each, counted = await world.ledger(member, Event.DENIED)
        assert len(each) == A_MINUTE
        assert (counted["code"], counted["dispatchId"]) == (Code.ACTION_NOT_FOUND, None)
        assert (counted["details"]["count"], counted["details"]["bindingId"]) == (15, lent.binding.id)
    assert not await world.rows(RefusalCount)
    assert await world.write(flush_refusals) == 0


async def test_a_minute_with_nothing_beyond_sixty_is_forgotten_without_a_word(world: World) -> None:
    lent = await world.delegation()
    await refusals(world, lent, 3)
    await world.write(_move, -2)
    assert await world.write(flush_refusals) == 1
    assert len(await world.ledger(lent.delegate, Event.DENIED)) == 3


async def test_two_flushes_at_once_write_one_pair(world: World) -> None:
    delegations = [await world.delegation() for _ in range(3)]
    for lent in delegations:
        await refusals(world, lent, A_MINUTE + 1)
    await world.write(_move, -2)
    flushed = await asyncio.gather(*(world.write(flush_refusals) for _ in range(4)))
    assert sum(flushed) == 3
    for lent in delegations:
        assert len(await world.ledger(lent.delegate, Event.DENIED)) == A_MINUTE + 1


async def test_who_shows_a_dead_token_learns_nothing_and_the_ledgers_tell_of_it(world: World) -> None:
    lent = await world.delegation()
    await world.age(ScopedToken, lent.bound.issued.id, expires_at=world.later(-1))
    (answer,) = await refusals(world, lent, 1)
    assert answer == No(Code.TOKEN_INVALID)
    (entry,) = await world.ledger(lent.delegate, Event.DENIED)
    assert entry["dispatchId"] in {row.id for row in await world.rows(Dispatch)}
