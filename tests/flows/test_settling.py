"""Settling: whatever fails or dies, each admitted dispatch ends in one pair, and nothing is released twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text

from app.proxy import settle
from app.proxy.attempts import Go, Lost, Released
from app.proxy.settle import settle_abandoned
from app.rules.entries import Event, Outcome
from app.rules.errors import Code, Unavailable
from app.store import postgres
from app.store.engine import Tx
from app.store.postgres import boot_lock
from app.store.tables import Dispatch, IdempotencyKey, UsageWindow
from tests.flows.conftest import POSTGRES, SQLITE
from tests.flows.nodes import node
from tests.flows.pausing import Gate, gate, stopping_node
from tests.flows.waiting import until
from tests.flows.wire import losing_line
from tests.world import Lent, World, opened


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A settler asks the store again at once."""
    monkeypatch.setattr(settle, "_AGAIN", 0.01)


async def settled(world: World) -> list[Dispatch]:
    """Every dispatch, once none is PENDING."""

    async def none_pending() -> list[Dispatch]:
        rows = await world.rows(Dispatch)
        return [] if any(row.outcome is Outcome.PENDING for row in rows) else rows

    return await until(none_pending)


async def ends(world: World) -> list[tuple[Outcome, str | None]]:
    """How every dispatch has ended."""
    return [(row.outcome, row.code) for row in await settled(world)]


async def used(world: World) -> set[int]:
    return {row.used for row in await world.rows(UsageWindow)}


@asynccontextmanager
async def without(world: World, table: str) -> AsyncIterator[None]:
    """The store has lost a table, for the length of a block."""

    def rename(tx: Tx, before: str, after: str) -> None:
        tx.execute(text(f"ALTER TABLE {before} RENAME TO {after}"))

    await world.write(rename, table, "elsewhere")
    try:
        yield
    finally:
        await world.write(rename, "elsewhere", table)


# -- a batch that fails


async def test_a_batch_that_fails_admits_nothing_and_the_next_one_does(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        async with without(world, "windows"):
            for failing in await asyncio.gather(*(at.admit(lent) for _ in range(3)), return_exceptions=True):
                assert isinstance(failing, Unavailable)
        assert not await world.rows(Dispatch)
        assert isinstance(await at.admit(lent), Go)
    assert await used(world) == {1}


async def test_an_answer_that_cannot_be_recorded_is_lost_and_settled_when_the_store_is_back(
    world: World,
) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        go = await at.go(lent, key="key")
        async with without(world, "ledger"):
            assert await at.complete(go) == Lost()
        assert await ends(world) == [(Outcome.INDETERMINATE, Code.COMPLETION_LOST)]
    assert await used(world) == {1}, "the action may have been performed"
    assert await world.rows(IdempotencyKey), "and is not performed again"


async def test_a_failing_batch_fails_for_its_own_items_alone(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        goes = [await at.go(lent) for _ in range(4)]
        async with without(world, "ledger"):
            lost = await asyncio.gather(*(at.complete(go) for go in goes[:3]))
        assert (lost, await at.complete(goes[3])) == ([Lost()] * 3, Released())
        assert sorted(await ends(world)) == sorted(
            [(Outcome.INDETERMINATE, Code.COMPLETION_LOST)] * 3 + [(Outcome.COMPLETED, None)]
        )


@SQLITE
async def test_a_full_disk_refuses_and_leaves_nothing_half_written(world: World) -> None:
    lent = await world.delegation()

    def room(tx: Tx, pages: int) -> None:
        tx.execute(
            text(f"PRAGMA max_page_count = {tx.execute(text('PRAGMA page_count')).scalar_one() + pages}")
        )

    async with node(world) as at:
        await world.write(room, 0)
        long = "/v1/receipts/" + "x" * 2_000
        answers = await asyncio.gather(
            *(at.admit(lent, path=long) for _ in range(300)), return_exceptions=True
        )
        assert {type(each) for each in answers} == {Unavailable}
        assert not await world.rows(Dispatch)
        await world.write(room, 10_000)
        assert await at.perform(lent) == Released()


async def backend_of(world: World) -> int:
    """The PostgreSQL process behind the committer: it holds the gateway's advisory lock."""
    query = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) + objid::bigint = :key"

    def find(tx: Tx) -> int:
        return int(tx.execute(text(query), {"key": boot_lock(world.boot_id)}).scalar_one())

    return await world.read(find)


async def end_backend(world: World, pid: int) -> None:
    await world.write(lambda tx: tx.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid}))


@POSTGRES
async def test_a_backend_that_is_killed_in_a_batch_takes_the_batch_with_it_and_nothing_more(
    world: World,
) -> None:
    lent = await world.delegation()
    async with node(world) as before:
        go = await before.go(lent)
    async with stopping_node(world) as (at, closed):
        assert isinstance(closed, Gate)
        answers = [asyncio.ensure_future(at.complete(go))]
        await closed.waiting()
        await end_backend(world, await backend_of(world))
        assert await asyncio.gather(*answers) == [Lost()]
        await closed.open()
        assert isinstance(await at.admit(lent), Go), "on a new connection"
        assert await backend_of(world), "which holds the lock again"
        await until(lambda: world.rows(Dispatch, Dispatch.code == Code.COMPLETION_LOST))


@POSTGRES
async def test_a_lost_answer_to_the_commit_of_an_admission_admits_nothing_that_is_not_settled(
    world: World,
) -> None:
    lent = await world.delegation()
    async with losing_line(world.settings) as (line, settings), opened(settings) as far, node(far) as at:
        await at.perform(lent)
        line.armed = True
        with pytest.raises(Unavailable):
            await at.admit(lent, key="key")
        assert line.lost.is_set(), "it was committed, and nobody heard"
        assert sorted(await ends(world)) == [(Outcome.COMPLETED, None), (Outcome.FAILED, Code.NOT_SENT)]
        assert await used(world) == {1}
        assert not await world.rows(IdempotencyKey)
        assert isinstance(await at.admit(lent, key="key"), Go)


@POSTGRES
async def test_a_lost_answer_to_the_commit_of_a_completion_leaves_it_as_it_was_committed(
    world: World,
) -> None:
    lent = await world.delegation()
    async with losing_line(world.settings) as (line, settings), opened(settings) as far, node(far) as at:
        go = await at.go(lent)
        line.armed = True
        assert await at.complete(go) == Lost(), "nobody can say that it was released"
        assert line.lost.is_set()
        last = await at.perform(lent)  # whatever was in doubt has been looked at before or is left alone
        assert last == Released()
        assert await ends(world) == [(Outcome.COMPLETED, None)] * 2


# -- a process that is gone


async def leave_pending(world: World, lent: Lent, count: int = 1) -> list[Go]:
    """What a process leaves that dies with so many actions under way."""
    async with node(world, settles=False) as at:
        return list(await asyncio.gather(*(at.go(lent) for _ in range(count))))


async def test_what_a_dead_process_left_is_settled_by_the_next_and_its_own_is_not(world: World) -> None:
    lent = await world.delegation()
    async with opened(world.settings) as dead:
        await leave_pending(dead, lent, 3)
    async with node(world) as at:
        mine = await at.go(lent)
        assert await until(at.settler.settle_abandoned) == 3
        assert await at.complete(mine) == Released()
    assert sorted(await ends(world)) == sorted(
        [(Outcome.INDETERMINATE, Code.GATEWAY_CRASHED)] * 3 + [(Outcome.COMPLETED, None)]
    )
    assert await used(world) == {4}, "what may have been performed was counted"


async def test_more_than_one_transaction_settles_is_settled_to_the_last(world: World) -> None:
    lent = await world.delegation()
    async with opened(world.settings) as dead:
        await leave_pending(dead, lent, 450)
    async with node(world) as at:
        assert await until(at.settler.settle_abandoned) == 450
    assert len(await world.ledger(lent.delegator, Event.ACTION)) == 450


async def test_two_who_settle_at_once_settle_each_dispatch_once(world: World) -> None:
    lent = await world.delegation()
    async with opened(world.settings) as dead:
        await leave_pending(dead, lent, 20)
    counts = [0, 0]

    async def sweep(at: int) -> bool:
        counts[at] += await world.write(settle_abandoned, world.boot_id)
        return sum(counts) == 20

    await asyncio.gather(until(lambda: sweep(0)), until(lambda: sweep(1)))
    assert len(await settled(world)) == 20


@SQLITE
async def test_a_start_on_sqlite_settles_every_earlier_boot(world: World) -> None:
    lent = await world.delegation()
    for _ in range(3):
        async with opened(world.settings) as dead:
            await leave_pending(dead, lent)
    assert await world.write(settle_abandoned, world.boot_id) == 3


@POSTGRES
async def test_a_living_process_is_left_alone_until_its_connection_ends(world: World) -> None:
    lent = await world.delegation()
    async with opened(world.settings) as living:
        (go,) = await leave_pending(living, lent)
        for _ in range(3):
            assert await world.write(settle_abandoned, world.boot_id) == 0
        await end_backend(world, await backend_of(living))
        assert await until(lambda: world.write(settle_abandoned, world.boot_id)) == 1
        async with node(living) as at:
            assert await at.complete(go) == Lost(), "what was settled is not completed"
    assert await ends(world) == [(Outcome.INDETERMINATE, Code.GATEWAY_CRASHED)]


@POSTGRES
async def test_a_process_that_cannot_have_its_lock_admits_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_LOCK", 0.05)  # seconds that it waits for the lock
    lent = await world.delegation()
    async with gate(world) as closed, node(world) as at:
        await closed.take(boot_lock(world.boot_id), from_whom=await backend_of(world))
        for _ in range(2):
            with pytest.raises(Unavailable):
                await at.admit(lent)
    assert not await world.rows(Dispatch)
