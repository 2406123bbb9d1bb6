"""Webhooks: each event reaches each endpoint that wants it, signed, in order, by the schedule, or its owner is told."""

import random
from dataclasses import dataclass, field

from typing_extensions import override

from app.rules.entries import Event
from app.rules.webhooks import DeliveryStatus
from tests.flows.couriers import agents, arrived, courier, endpoint, settled
from tests.upstreams import Answer, Drop, Line, Play, Reset, Seen, redirect, upstream
from tests.world import World


@dataclass
class Fails(Play):
    """Fails half of the time, in one way or another; what it answers with 200 it has accepted."""

    chance: random.Random = field(default_factory=lambda: random.Random(4))
    accepted: list[str] = field(default_factory=list)

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        if self.chance.random() < 0.5:
            play: Play = self.chance.choice([Answer(status=500), Drop(), Reset(0), redirect("/x")])
            await play(line, seen)
            return
        self.accepted.append(seen.header("webhook-id") or "")
        await line.answer(200, b"")


async def test_whatever_fails_half_of_the_time_gets_everything(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver, courier(world):
        fails = receiver.play = Fails()
        made = await endpoint(world, acme, f"{receiver.url}/")
        await agents(world, acme, 60)
        rows = await settled(world, made, 60)
        wanted = [entry for entry in await world.ledger(acme) if entry["event"] == Event.AGENT_REGISTERED]
        entries = {entry["id"]: entry for entry in arrived(receiver, made)}
        assert entries == {entry["id"]: entry for entry in wanted}
        assert sorted(fails.accepted) == sorted(row.id for row in rows), "each was accepted once"
        assert {row.status for row in rows} == {DeliveryStatus.DELIVERED}
        assert [len(row.attempts) for row in rows] == [
            sum(seen.header("webhook-id") == row.id for seen in receiver.seen) for row in rows
        ]


async def test_first_attempts_start_in_the_order_of_the_ledger(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver:
        receiver.play = Fails()
        made = await endpoint(world, acme, f"{receiver.url}/")
        await agents(world, acme, 40)
        async with courier(world):
            rows = await settled(world, made, 40)
    starts = [row.attempts[0]["at"] for row in rows]
    assert starts == sorted(starts)
