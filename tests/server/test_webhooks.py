"""Webhooks from the real process: kill -9 loses nothing, and what the proxy does arrives."""

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from sqlalchemy import select

from app import main
from app.delivery.webhooks.upkeep import KEPT
from app.rules.entries import Event
from app.rules.ids import DeliveryId, EndpointId
from app.rules.webhooks import DeliveryStatus
from app.store.engine import Tx
from app.store.tables import WebhookDelivery
from tests.conftest import FULL, HEAVY_ON_POSTGRES
from tests.flows.couriers import arrived, endpoint
from tests.server.conftest import Opening, lending_in
from tests.server.lending import Lending
from tests.server.waiting import until
from tests.serving import Installation
from tests.upstreams import Answer, Drop, Line, Play, Seen, upstream
from tests.world import Member

pytestmark = pytest.mark.asyncio(loop_scope="session")

KILLS = 20 if FULL else 3
BETWEEN = 40  # entries from one kill to the next
PATIENCE = 50.0  # seconds: longer than a lease


class Unsteady(Play):
    """Fails, drops or takes what comes."""

    async def __call__(self, line: Line, seen: Seen) -> None:
        plays: list[Play] = [Answer(b""), Answer(b""), Answer(status=500), Drop()]
        await random.choice(plays)(line, seen)


@HEAVY_ON_POSTGRES
async def test_a_process_that_is_killed_again_and_again_delivers_everything(
    installation: Installation,
) -> None:
    quick = replace(installation, more={"webhook_schedule": "0" + ",0.02" * 50})
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(upstream())
        receiver.play = Unsteady()
        served = await stack.enter_async_context(quick.serving())
        lending = await stack.enter_async_context(lending_in(quick))
        acme = await lending.tenant()
        made = await endpoint(lending, acme, f"{receiver.url}/", ["agent.*"])
        for _ in range(KILLS):
            before = len(receiver.seen)
            await _registered(lending, acme, BETWEEN)
            await receiver.saw(before + random.randint(1, BETWEEN // 2))
            await served.kill()
            served = await stack.enter_async_context(quick.serving())
        await _all_delivered(lending, KILLS * BETWEEN)
        assert await served.stop() == 0
        entries = await lending.ledger(acme, Event.AGENT_REGISTERED)
        assert {entry["id"]: entry for entry in arrived(receiver, made)} == {
            each["id"]: each for each in entries
        }
        assert len(entries) == KILLS * BETWEEN


async def _registered(lending: Lending, acme: Member, count: int) -> None:
    for _ in range(count):
        await lending.agent(acme)


async def _all_delivered(lending: Lending, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while await lending.read(_delivered) < count:  # noqa: ASYNC110  # announced by nobody
            await asyncio.sleep(0.05)


def _delivered(tx: Tx) -> int:
    done = WebhookDelivery.status == DeliveryStatus.DELIVERED
    return len(tx.scalars(select(WebhookDelivery.id).where(done)).all())


@pytest.mark.parametrize("store_kind", ["sqlite"])
async def test_a_gateway_drops_what_ended_long_ago_by_itself(
    here: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "_UPKEEP", 0.02)
    async with here() as house:
        acme = await house.lending.tenant()
        await house.lending.write(_of_long_ago, acme)

        async def dropped() -> bool:
            return not await house.lending.read(_delivered)

        await until(dropped)
        left = await house.lending.rows(WebhookDelivery)
        assert {row.status for row in left} == {DeliveryStatus.PENDING}


def _of_long_ago(tx: Tx, acme: Member) -> None:
    """A delivery of each kind to an endpoint that nobody serves."""
    for number, status in enumerate((DeliveryStatus.PENDING, DeliveryStatus.DELIVERED)):
        row = WebhookDelivery(
            id=DeliveryId(f"whd_{number}"),
            endpoint_id=EndpointId("whk_0"),
            tenant_id=acme.id,
            seq=number,
            status=status,
            attempts=[],
            failures=0,
            due_at=tx.now() - KEPT,
            claim=1,
        )
        tx.add(row)
