"""Webhooks at work on a world: a courier without the rest of a gateway, and a receiver that verifies what it gets."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook
from typing_extensions import override

from app.delivery.webhooks import courier as couriers
from app.delivery.webhooks.courier import Courier
from app.delivery.webhooks.endpoints import EndpointChanges, Secret, create_endpoint, update_endpoint
from app.delivery.webhooks.parts import LEASE, Sender
from app.delivery.webhooks.sending import SECONDS
from app.egress.origins import Reach
from app.rules.webhooks import DeliveryStatus, EndpointStatus
from app.store.engine import Facts
from app.store.tables import WebhookDelivery, WebhookEndpoint
from tests.flows.waiting import until
from tests.upstreams import Answer, Line, Play, Seen, Upstream
from tests.world import LOOPBACK, Member, World

REACH = Reach(LOOPBACK, require_https=False)
SOURCE = "https://gateway.example"
#: As many attempts as anybody needs whose receiver fails half of the time, one right after the other.
SOON = (0.0, *[0.01] * 40)


def sender(world: World, schedule: Sequence[float] = SOON, lease: float = LEASE) -> Sender:
    return Sender(world.keys, SOURCE, schedule, lease)


async def endpoint(
    world: World, member: Member, url: str, events: Sequence[str] = ("*",), description: str | None = None
) -> Secret:
    """An endpoint of a tenant."""
    asked = EndpointChanges(url, list(events), description)
    return await world.made(create_endpoint, member.owner, world.keys, REACH, asked)


async def change(world: World, member: Member, of: Secret, **asked: Any) -> WebhookEndpoint:
    """The endpoint, changed."""
    changes = EndpointChanges(**asked)
    return await world.made(update_endpoint, member.owner, REACH, of.endpoint.id, changes)


async def enable(world: World, member: Member, of: Secret) -> None:
    await change(world, member, of, status=EndpointStatus.ENABLED)


@asynccontextmanager
async def courier(
    world: World,
    schedule: Sequence[float] = SOON,
    *,
    seconds: float = SECONDS,
    lease: float = LEASE,
) -> AsyncIterator[Courier]:
    """A courier at work for the length of a block."""
    egress = couriers.egress_for_webhooks(LOOPBACK)
    made = Courier(world.store, egress, sender(world, schedule, lease), seconds)

    def committed(facts: Facts) -> None:
        made.appended(facts.appended)

    world.store.on_commit = committed
    task = asyncio.ensure_future(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await egress.close()


async def agents(world: World, member: Member, count: int) -> None:
    """So many entries in a tenant's ledger."""
    for _ in range(count):
        await world.agent(member)


async def settled(world: World, of: Secret, count: int) -> list[WebhookDelivery]:
    """The deliveries to an endpoint in the ledger's order, once there are so many and none is PENDING."""

    async def none_pending() -> list[WebhookDelivery]:
        rows = await deliveries(world, of)
        done = len(rows) >= count and all(row.status is not DeliveryStatus.PENDING for row in rows)
        return rows if done else []

    return await until(none_pending)


async def deliveries(world: World, of: Secret) -> list[WebhookDelivery]:
    """The deliveries to an endpoint in the ledger's order."""
    rows = await world.rows(WebhookDelivery, WebhookDelivery.endpoint_id == of.endpoint.id)
    return sorted(rows, key=lambda row: row.seq)


async def disabled(world: World, of: Secret) -> WebhookEndpoint:
    """The endpoint, once it is disabled."""

    async def is_disabled() -> WebhookEndpoint | None:
        row = await world.row(WebhookEndpoint, of.endpoint.id)
        return row if row.status is EndpointStatus.DISABLED else None

    return await until(is_disabled)


def verified(secret: str, seen: Seen) -> dict[str, Any]:
    """The body of what a receiver saw, which its secret must verify by the reference library."""
    headers = {
        name: seen.header(name) or "" for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    }
    body: dict[str, Any] = Webhook(secret).verify(seen.body, headers)
    return body


def arrived(receiver: Upstream, of: Secret, path: str = "/") -> list[dict[str, Any]]:
    """The entries that a receiver was sent to a path, verified, in the order in which they came."""
    return [verified(of.text, seen)["data"] for seen in receiver.seen if seen.path == path]


@dataclass
class Plays(Play):
    """One play after the other, the last for all that follow."""

    plays: list[Play]
    then: Play = field(default_factory=Answer)

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        play = self.plays.pop(0) if self.plays else self.then
        await play(line, seen)
