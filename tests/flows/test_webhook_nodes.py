"""Any number of nodes share the work: what one has taken no other sends, until the one is gone."""

from collections import Counter

import pytest

from app.delivery.webhooks.endpoints import Secret
from app.delivery.webhooks.parts import Room
from app.delivery.webhooks.sending import Job
from app.delivery.webhooks.turn import release, release_all, take_turn
from app.rules.entries import Event
from app.rules.ids import SECOND
from app.rules.webhooks import DeliveryStatus
from app.store.tables import WebhookDelivery
from tests.flows.conftest import POSTGRES
from tests.flows.couriers import agents, courier, deliveries, endpoint, sender, settled
from tests.flows.waiting import until
from tests.upstreams import Answer, Hang, upstream
from tests.world import World, opened

AGENT = Event.AGENT_REGISTERED


async def taken(world: World, of: Secret, most: int = 10, lease: float = 30.0) -> list[Job]:
    """What a node takes, of which nothing is heard any more."""
    rooms = {of.endpoint.id: Room(most, most)}
    turn = await world.write(take_turn, sender(world, lease=lease), [], rooms)
    return turn.jobs


async def test_what_a_dead_node_had_taken_is_taken_over_when_its_lease_ends(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver:
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await agents(world, acme, 3)
        assert len(await taken(world, made, most=2)) == 2
        async with courier(world):
            await receiver.saw(1)
            first, second, third = await settled_but(world, made, 2)
            assert (first.status, second.status, third.status) == (
                DeliveryStatus.PENDING,
                DeliveryStatus.PENDING,
                DeliveryStatus.DELIVERED,
            )
            for row in (first, second):  # as time would
                await world.age(WebhookDelivery, row.id, due_at=row.due_at - 60 * SECOND)
            rows = await settled(world, made, 3)
    assert {row.status for row in rows} == {DeliveryStatus.DELIVERED}
    assert [[each["error"] for each in row.attempts] for row in rows] == [
        ["the gateway that attempted it stopped before its end", None],
        ["the gateway that attempted it stopped before its end", None],
        [None],
    ]
    assert len(receiver.seen) == 3


async def settled_but(world: World, of: Secret, pending: int) -> list[WebhookDelivery]:
    """The deliveries, once all but so many have settled."""

    async def all_but() -> list[WebhookDelivery]:
        rows = await deliveries(world, of)
        waiting = sum(row.status is DeliveryStatus.PENDING for row in rows)
        return rows if waiting == pending < len(rows) else []

    return await until(all_but)


async def _claimed_again(world: World, of: Secret) -> bool:
    (row,) = await deliveries(world, of)
    return row.claim > 1


async def test_while_a_lease_lasts_nobody_else_takes_it(world: World) -> None:
    acme = await world.tenant()
    made = await endpoint(world, acme, "http://127.0.0.1:9/", [AGENT])
    await agents(world, acme, 5)
    first, second, third = [await taken(world, made, most=2) for _ in range(3)]
    assert [len(jobs) for jobs in (first, second, third)] == [2, 2, 1]
    assert len({job.delivery_id for job in [*first, *second, *third]}) == 5
    assert await taken(world, made) == []


async def test_whoever_settles_after_its_lease_was_taken_over_is_not_heard(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver:
        hang = receiver.play = Hang()
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme)
        async with courier(world, lease=0.0):
            await hang.reached.wait()
            await until(lambda: _claimed_again(world, made))
            hang.release()
            (row,) = await settled(world, made, 1)
    assert row.status is DeliveryStatus.DELIVERED
    assert [each["status"] for each in row.attempts].count(200) == 1


async def test_a_node_that_stops_gives_back_what_it_has_under_way(world: World) -> None:
    acme = await world.tenant()
    async with upstream() as receiver:
        hang = receiver.play = Hang()
        made = await endpoint(world, acme, f"{receiver.url}/", [AGENT])
        await world.agent(acme)
        async with courier(world):
            await hang.reached.wait()
        (row,) = await deliveries(world, made)
        assert (row.status, row.leased_until) == (DeliveryStatus.PENDING, None)
        receiver.play = Answer(b"")
        async with courier(world):
            (row,) = await settled(world, made, 1)
    assert row.status is DeliveryStatus.DELIVERED


@pytest.mark.parametrize("flow", ["release", "release_all"])
async def test_what_is_given_back_is_due_at_once(world: World, flow: str) -> None:
    acme = await world.tenant()
    made = await endpoint(world, acme, "http://127.0.0.1:9/", [AGENT])
    await world.agent(acme)
    (job,) = await taken(world, made)
    if flow == "release":
        await world.write(release, [(job.delivery_id, job.claim - 1)])
        assert await taken(world, made) == [], "another's is not given back"
        await world.write(release, [(job.delivery_id, job.claim)])
    else:
        await world.write(release_all)
    (again,) = await taken(world, made)
    assert (again.delivery_id, again.again) == (job.delivery_id, True)


@POSTGRES
async def test_two_nodes_share_the_work_and_nothing_succeeds_twice(world: World) -> None:
    acme = await world.tenant()
    async with opened(world.settings) as other, upstream() as receiver:
        receiver.play = Answer(b"")
        made = [await endpoint(world, acme, f"{receiver.url}/{n}", [AGENT]) for n in range(4)]
        async with courier(world) as one, courier(other) as two:
            await agents(world, acme, 100)
            rows = [row for each in made for row in await settled(world, each, 100)]
            shares = one.done, two.done
    assert all(shares), shares
    assert sum(shares) == 400
    assert Counter(seen.header("webhook-id") for seen in receiver.seen) == {row.id: 1 for row in rows}
    assert {len(row.attempts) for row in rows} == {1}
