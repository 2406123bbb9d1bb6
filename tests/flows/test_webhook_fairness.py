"""Places are shared: where some hang, there is one for whoever comes next."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from app.delivery.webhooks import courier as couriers
from app.egress.client import Egress
from app.ledger.append import append, own
from app.rules.entries import Event
from app.rules.webhooks import DeliveryStatus
from app.settings import Network
from app.store.engine import Tx
from tests.flows.conftest import SQLITE
from tests.flows.couriers import Plays, agents, arrived, courier, endpoint, settled
from tests.upstreams import Answer, Hang, upstream
from tests.world import Member, World

AGENT = Event.AGENT_REGISTERED

Share = Callable[[int, int], int]


def without_shares(taken: int, left: int) -> int:
    """Broken: a tenant may have all that there is."""
    return taken + left


def shares_alone(taken: int, left: int) -> int:
    """Broken: a tenant may have its share, however little is left for the others."""
    return min(couriers._SHARE, taken + left)


async def test_the_last_place_is_for_what_there_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(couriers, "_MOST", 1)
    monkeypatch.setattr(couriers, "_KEPT", 0)
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        receiver.play = Plays([Answer(status=500), Answer(status=500)], Answer(b""))
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await agents(world, acme, 3)
        rows = await settled(world, made, 3)
    assert {row.status for row in rows} == {DeliveryStatus.DELIVERED}
    assert sum(len(row.attempts) for row in rows) == 5


@pytest.mark.parametrize("share", [without_shares, couriers._share])
async def test_a_tenant_that_hangs_when_its_lane_is_wide_delays_neither_another_nor_itself(
    world: World, monkeypatch: pytest.MonkeyPatch, share: Share
) -> None:
    broken = share is without_shares
    monkeypatch.setattr(couriers, "_share", share)
    monkeypatch.setattr(couriers, "_MOST", 24)
    monkeypatch.setattr(couriers, "_SHARE", 12)
    monkeypatch.setattr(couriers, "_KEPT", 0 if broken else 6)
    acme, globex = await world.tenant(), await world.tenant()
    async with upstream() as receiver, courier(world, seconds=60, lease=120):
        wide = await endpoint(world, acme, f"{receiver.url}/wide", [Event.WEBHOOK_TEST])
        others = [await endpoint(world, each, f"{receiver.url}/quick", [AGENT]) for each in (acme, globex)]
        await world.write(_grown, acme, Event.WEBHOOK_TEST, 40)
        await settled(world, wide, 40)
        hang = receiver.on("/wide", Hang())
        await world.write(_grown, acme, Event.WEBHOOK_TEST, 40)
        await receiver.saw(40 + (24 if broken else 4))
        for member in (acme, globex):
            await world.agent(member)
        if broken:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await settled(world, others[1], 1)
        else:
            for each in others:
                assert [row.status for row in await settled(world, each, 1)] == [DeliveryStatus.DELIVERED]
        hang.release()


def a_quarter_to_one_host(allow: Sequence[Network]) -> Egress:
    """Broken: receivers at one host wait for each other."""
    return Egress(allow, couriers._MOST)


@SQLITE  # who gets a place is decided without the store
@pytest.mark.parametrize("broken", [None, shares_alone, a_quarter_to_one_host])
async def test_eight_tenants_that_hang_with_all_they_may_have_delay_no_ninth_at_the_same_host(
    world: World, monkeypatch: pytest.MonkeyPatch, broken: Callable[..., Any] | None
) -> None:
    if broken:
        replaced = "_share" if broken is shares_alone else "egress_for_webhooks"
        monkeypatch.setattr(couriers, replaced, broken)
    for name, real in (("_MOST", 800), ("_SHARE", 200), ("_KEPT", 100)):
        assert getattr(couriers, name) == real
        monkeypatch.setattr(couriers, name, real // 5)
    hostile, honest = [await world.tenant() for _ in range(8)], await world.tenant()
    async with upstream() as receiver, courier(world, seconds=60, lease=120) as at:
        hang = receiver.on("/slow", Hang())
        for member in hostile:
            for _ in range(12):
                await endpoint(world, member, f"{receiver.url}/slow", [Event.WEBHOOK_TEST])
            await world.write(_grown, member, Event.WEBHOOK_TEST, 6)
        await receiver.saw({None: 120, shares_alone: 160, a_quarter_to_one_host: 40}[broken])
        made = await endpoint(world, honest, f"{receiver.url}/quick", [AGENT])
        await agents(world, honest, 3)
        if broken:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await settled(world, made, 1)
        else:
            rows = await settled(world, made, 3)
            assert {row.status for row in rows} == {DeliveryStatus.DELIVERED}
            assert len(arrived(receiver, made, "/quick")) == at.done == 3, "and all others hang"
        hang.release()


@pytest.mark.parametrize("at_a_time", [1, 800], ids=["in turns", "one after the other"])
@pytest.mark.parametrize(("many", "for_the_next"), [(8, 3), (10, 1)])
def test_however_tenants_take_what_they_may_places_are_left(
    at_a_time: int, many: int, for_the_next: int
) -> None:
    taken, left = [0] * many, couriers._MOST
    for number in [*range(many)] * couriers._SHARE:
        more = max(0, min(at_a_time, couriers._share(taken[number], left) - taken[number]))
        taken[number] += more
        left -= more
    assert couriers._share(0, left) >= for_the_next
    assert couriers._share(0, couriers._MOST) == couriers._SHARE, "alone it has its whole share"


def _grown(tx: Tx, member: Member, event: Event, count: int) -> None:
    now = tx.now()
    append(tx, [own(event, member.id, "test", now, number=number) for number in range(count)])
