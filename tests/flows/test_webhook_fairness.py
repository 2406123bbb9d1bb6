"""Places are shared: whoever hangs, and however many of them, there is one for whoever comes next."""

import pytest

from app.delivery.webhooks import courier as couriers
from app.rules.entries import Event
from app.rules.webhooks import DeliveryStatus
from tests.flows.couriers import Plays, agents, courier, endpoint, settled
from tests.upstreams import Answer, upstream
from tests.world import World

AGENT = Event.AGENT_REGISTERED


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
