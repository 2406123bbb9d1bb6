"""Deliveries are dropped 90 days after their end: those, and no others. What is dropped the ledger can send again."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import select, text

from app.delivery.webhooks import upkeep
from app.delivery.webhooks.again import missed, recover, redeliver
from app.delivery.webhooks.endpoints import Secret
from app.delivery.webhooks.parts import DELIVERIES, ENDED, Room
from app.delivery.webhooks.turn import take_turn
from app.delivery.webhooks.upkeep import KEPT, purge_deliveries
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.ids import DAY, SECOND, DeliveryId, Instant
from app.rules.webhooks import DeliveryStatus
from app.store.engine import Tx
from app.store.tables import WebhookDelivery
from tests.flows.conftest import POSTGRES
from tests.flows.couriers import (
    agents,
    arrived,
    courier,
    deliveries,
    disabled,
    endpoint,
    sender,
    settled,
)
from tests.flows.pausing import gate, wait_at_gate
from tests.upstreams import Answer, Upstream, upstream
from tests.world import Member, World

AGENT = Event.AGENT_REGISTERED
#: Ago; the test has a minute for what lies between.
OLD, YOUNG = KEPT, KEPT - 60 * SECOND


async def purged(world: World) -> list[int]:
    """How many were dropped in each transaction."""
    counts = []
    while count := await world.write(purge_deliveries):
        counts.append(count)
    return counts


async def ended_ago(world: World, rows: list[WebhookDelivery], ago: int) -> set[str]:
    """Lets their ends, or what they wait for, be so long ago; which they are."""
    for row in rows:
        await world.age(WebhookDelivery, row.id, due_at=world.later(0) - ago)
    return {row.id for row in rows}


async def one_of_each_end(
    world: World, acme: Member, receiver: Upstream, count: int
) -> tuple[Secret, Secret]:
    """An endpoint to which so many were delivered, and one to which they were given up, once each."""
    receiver.on("/gone", Answer(status=410))
    taken = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
    given_up = await endpoint(world, acme, f"{receiver.url}/gone", [AGENT])
    await agents(world, acme, count)
    async with courier(world):
        await settled(world, taken, count)
        await disabled(world, given_up)
    return taken, given_up


async def test_only_what_ended_long_ago_is_dropped_in_small_transactions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (upkeep.KEPT, upkeep._CHUNK) == (90 * DAY, 500)
    monkeypatch.setattr(upkeep, "_CHUNK", 2)
    acme = await world.tenant()
    async with upstream() as receiver:
        taken, given_up = await one_of_each_end(world, acme, receiver, 6)
    waiting = await endpoint(world, acme, "http://127.0.0.1:9/", [AGENT])
    await agents(world, acme, 4)
    await world.write(take_turn, sender(world), [], {waiting.endpoint.id: Room(2, 0)})
    await world.write(take_turn, sender(world, (60.0,)), [], {waiting.endpoint.id: Room(2, 0)})
    delivered, failed, pending = [await deliveries(world, each) for each in (taken, given_up, waiting)]
    assert {row.status for row in delivered} == {DeliveryStatus.DELIVERED}
    assert {row.status for row in failed} >= {DeliveryStatus.FAILED}
    assert [row.leased_until is None for row in pending] == [False, False, True, True]

    ended = [*delivered, *(row for row in failed if row.status is DeliveryStatus.FAILED)]
    old = await ended_ago(world, ended[::2], OLD)
    young = await ended_ago(world, ended[1::2], YOUNG)
    still = await ended_ago(world, [*pending, *(row for row in failed if row not in ended)], 10 * OLD)
    assert len(old) > 2
    counts = await purged(world)
    assert {row.id for row in await world.rows(WebhookDelivery)} == young | still
    assert max(counts) == 2
    assert sum(counts) == len(old)


async def test_what_was_dropped_is_sent_again_from_the_ledger_under_its_old_id(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await agents(world, acme, 3)
        before = await settled(world, made, 3)
        await ended_ago(world, before, OLD)
        await purged(world)
        assert await deliveries(world, made) == []
        refused = await world.write(redeliver, acme.owner, before[0].id)
        assert isinstance(refused, Refusal)
        assert (refused.code, refused.path) == (Code.NOT_FOUND, ("deliveryId",))
        counts = []
        for _ in range(2):
            found = await world.read(missed, acme.owner, made.endpoint.id, Instant(0))
            asked = sender(world), made.endpoint.id, Instant(0), found
            counts.append(await world.made(recover, acme.owner, *asked))
        assert counts == [3, 0], "once, also where it had arrived: nobody remembers"
        after = await settled(world, made, 3)
        assert [row.id for row in after] == [row.id for row in before]
        assert len(arrived(receiver, made)) == 6
        assert await purged(world) == [], "they have ended just now"


def unlocked(tx: Tx) -> int:
    """Broken: drops what had ended when it looked."""
    old = ENDED, WebhookDelivery.due_at <= tx.now() - KEPT
    ids = list(tx.scalars(select(WebhookDelivery.id).where(*old)))
    tx.execute(DELIVERIES.delete().where(DELIVERIES.c.id.in_(ids)))
    return len(ids)


def _redelivered_late(tx: Tx, by: Member, id: DeliveryId) -> None:
    assert isinstance(redeliver(tx, by.owner, id), WebhookDelivery)
    tx.flush()
    wait_at_gate(tx)


@POSTGRES
@pytest.mark.parametrize("drop", [unlocked, purge_deliveries])
async def test_what_is_sent_once_more_meanwhile_stays(world: World, drop: Callable[[Tx], int]) -> None:
    acme, id = await _one_old(world)
    async with gate(world) as closed:
        asking = asyncio.ensure_future(world.write(_redelivered_late, acme, id))
        await closed.waiting()
        dropping = asyncio.ensure_future(world.write(drop))
        if drop is unlocked:
            await closed.blocked()
        else:
            assert await dropping == 0
        await closed.open()
        await asyncio.gather(asking, dropping)
    left = [(row.id, row.status) for row in await world.rows(WebhookDelivery)]
    assert left == ([] if drop is unlocked else [(id, DeliveryStatus.PENDING)])


def _purged_late(tx: Tx) -> None:
    assert purge_deliveries(tx) == 1
    wait_at_gate(tx)


@POSTGRES
async def test_what_is_dropped_meanwhile_is_not_found(world: World) -> None:
    acme, id = await _one_old(world)
    async with gate(world) as closed:
        dropping = asyncio.ensure_future(world.write(_purged_late))
        await closed.waiting()
        asking = asyncio.ensure_future(world.write(redeliver, acme.owner, id))
        await closed.blocked()
        await closed.open()
        refused, _ = await asyncio.gather(asking, dropping)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.path) == (Code.NOT_FOUND, ("deliveryId",))


async def _one_old(world: World) -> tuple[Member, DeliveryId]:
    """A delivery of long ago."""
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme)
        (row,) = await settled(world, made, 1)
    await ended_ago(world, [row], OLD)
    return acme, row.id


def _plan(tx: Tx) -> str:
    """How the store finds what is old. PostgreSQL is told to do without what suits a table with nothing in it."""
    if not tx.on_sqlite:
        for kind in ("seqscan", "bitmapscan"):
            tx.execute(text(f"SET LOCAL enable_{kind} = off"))
    rows = select(WebhookDelivery.id).where(ENDED, WebhookDelivery.due_at <= 1)
    found = rows.order_by(WebhookDelivery.due_at).limit(500)
    statement = found.compile(tx.get_bind(), compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN QUERY PLAN" if tx.on_sqlite else "EXPLAIN"
    return "\n".join(str(row) for row in tx.execute(text(f"{explain} {statement}")))


async def test_what_is_old_is_found_by_an_index_without_looking_at_others(world: World) -> None:
    plan = await world.read(_plan)
    assert "ix_webhook_deliveries_ended" in plan
    assert "sort" not in plan.lower()
