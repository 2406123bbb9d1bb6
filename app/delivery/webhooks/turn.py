"""One turn of a node, in one transaction: what became of attempts, new deliveries, and what is attempted next.

Nothing stands in a queue that the ledger has not: deliveries are made from the endpoint's cursor as soon as there is room
to attempt them, so the ledger itself is the queue, and an endpoint that is slow costs nothing but its own lag.

Whoever makes or takes deliveries of an endpoint holds its lock, so they are taken in the order of the ledger; and each is
taken for a time (`leased_until`), after which anybody takes it again. Locks in order: endpoints by id, deliveries by id,
ledger heads. Locks of endpoints that are only sent something are not waited for: another node is at it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from app.delivery.webhooks.parts import PENDING, Room, Sender
from app.delivery.webhooks.sending import Ended, Job
from app.delivery.webhooks.settling import settle
from app.delivery.webhooks.taking import take
from app.ledger.append import append
from app.rules.ids import DeliveryId, EndpointId, Instant
from app.rules.webhooks import EndpointStatus
from app.store.engine import Tx
from app.store.tables import WebhookDelivery, WebhookEndpoint


@dataclass(frozen=True, slots=True)
class Turn:
    """What is attempted now; what failed and when it is due; endpoints that another node was at."""

    jobs: list[Job]
    due: list[Instant]
    held: set[EndpointId]


def take_turn(
    tx: Tx, sender: Sender, ended: Sequence[tuple[Ended, float]], rooms: Mapping[EndpointId, Room]
) -> Turn:
    """Settles attempts, each with its own chance, and takes what there is room for."""
    facts, again = settle(tx, sender, ended)
    endpoints = _lock(tx, rooms)
    jobs = take(tx, sender, endpoints, rooms)
    if facts:
        append(tx, facts)
    return Turn(jobs, again, rooms.keys() - {endpoint.id for endpoint in endpoints})


def release(tx: Tx, taken: Iterable[tuple[DeliveryId, int]]) -> None:
    """Gives back what was taken and will not be settled: this process ends. It may have been sent."""
    mine = dict(taken)
    leased = WebhookDelivery.id.in_(mine), PENDING, WebhookDelivery.leased_until.is_not(None)
    rows = select(WebhookDelivery).where(*leased)
    for row in tx.scalars(rows.order_by(WebhookDelivery.id).with_for_update()):
        if row.claim == mine[row.id]:
            row.due_at, row.leased_until = tx.now(), None


def release_all(tx: Tx) -> None:
    """Gives back whatever is taken: for a process that knows that there is no other."""
    leased = WebhookDelivery.leased_until.is_not(None)
    tx.execute(update(WebhookDelivery).where(PENDING, leased).values(due_at=tx.now(), leased_until=None))


def _lock(tx: Tx, ids: Iterable[EndpointId]) -> list[WebhookEndpoint]:
    if not (wanted := list(ids)):
        return []
    open = (
        WebhookEndpoint.id.in_(wanted),
        WebhookEndpoint.status == EndpointStatus.ENABLED,
        WebhookEndpoint.deleted_at.is_(None),
    )
    tx.flush()
    rows = select(WebhookEndpoint).where(*open).order_by(WebhookEndpoint.id)
    locked = rows.with_for_update(skip_locked=True).execution_options(populate_existing=True)
    return list(tx.scalars(locked))
