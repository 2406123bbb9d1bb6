"""What became of attempts: arrived, to be tried again, or given up, which disables the endpoint and tells its owner."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, select, update

from app.delivery.webhooks.endpoints import disable
from app.delivery.webhooks.parts import DELIVERIES, MOST_KEPT, PENDING, Sender
from app.delivery.webhooks.sending import Ended
from app.ledger.append import Fact, Side
from app.rules.entries import Event
from app.rules.ids import DeliveryId, EndpointId, Instant
from app.rules.retry import Delivered, GiveUp, RetryAt, Verdict, judged
from app.rules.webhooks import DeliveryStatus, EndpointStatus
from app.store.engine import Tx
from app.store.tables import WebhookDelivery, WebhookEndpoint


def settle(tx: Tx, sender: Sender, ended: Sequence[tuple[Ended, float]]) -> tuple[list[Fact], list[Instant]]:
    """Settles attempts, each with its own chance. Returns what the ledgers have to say, and when to try again."""
    if not ended:
        return [], []
    now = tx.now()
    verdicts = {
        (each.job.delivery_id, each.job.claim): (
            each,
            judged(each.result, each.job.failures, sender.schedule, now, chance),
        )
        for each, chance in ended
    }
    giving = {each.job.endpoint_id for each, verdict in verdicts.values() if isinstance(verdict, GiveUp)}
    disabled = _for_good(tx, giving)
    mine = [verdicts[key] for key in _still_taken(tx, verdicts) if key in verdicts]
    if mine:
        tx.execute(_SETTLED, [_settled(each, verdict, now) for each, verdict in mine])
    facts = [fact for each, verdict in mine if (fact := _given_up(disabled, each, verdict, now))]
    return facts, [verdict.at for _, verdict in mine if isinstance(verdict, RetryAt)]


def _for_good(tx: Tx, ids: set[EndpointId]) -> dict[EndpointId, WebhookEndpoint]:
    if not ids:
        return {}
    rows = select(WebhookEndpoint).where(WebhookEndpoint.id.in_(ids)).order_by(WebhookEndpoint.id)
    fresh = rows.with_for_update().execution_options(populate_existing=True)
    return {row.id: row for row in tx.scalars(fresh)}


def _still_taken(tx: Tx, verdicts: Iterable[tuple[DeliveryId, int]]) -> list[tuple[DeliveryId, int]]:
    """Which of these are still whoever's took them: the lease may have ended, and another have taken them."""
    ids = sorted({id for id, _ in verdicts})
    taken = WebhookDelivery.id.in_(ids), PENDING, WebhookDelivery.leased_until.is_not(None)
    rows = select(WebhookDelivery.id, WebhookDelivery.claim).where(*taken).order_by(WebhookDelivery.id)
    return [(id, claim) for id, claim in tx.execute(rows.with_for_update())]


_SETTLED = (
    update(DELIVERIES)
    .where(DELIVERIES.c.id == bindparam("of"))
    .values(
        status=bindparam("as_status"),
        attempts=bindparam("as_attempts"),
        failures=bindparam("as_failures"),
        due_at=bindparam("as_due"),
        leased_until=None,
    )
)


def _settled(each: Ended, verdict: Verdict, now: Instant) -> dict[str, Any]:
    status, due_at, failed = DeliveryStatus.FAILED, now, 1
    match verdict:
        case Delivered():
            status, failed = DeliveryStatus.DELIVERED, 0
        case RetryAt(at):
            status, due_at = DeliveryStatus.PENDING, at
    return {
        "of": each.job.delivery_id,
        "as_status": status,
        "as_attempts": [*each.job.attempts, each.told][-MOST_KEPT:],
        "as_failures": each.job.failures + failed,
        "as_due": due_at,
    }


def _given_up(
    endpoints: Mapping[EndpointId, WebhookEndpoint], each: Ended, verdict: Verdict, now: Instant
) -> Fact | None:
    """Disables the endpoint, once, and says so in its owner's ledger."""
    endpoint = endpoints.get(each.job.endpoint_id)
    if not isinstance(verdict, GiveUp) or endpoint is None:
        return None
    if endpoint.status is EndpointStatus.DISABLED or endpoint.deleted_at is not None:
        return None
    disable(endpoint, verdict.reason)
    tenant = endpoint.tenant_id
    details = {
        "endpointId": endpoint.id,
        "url": endpoint.url,
        "reason": verdict.reason,
        "deliveryId": each.job.delivery_id,
    }
    return Fact(Event.WEBHOOK_DISABLED, now, tenant, tenant, [Side(tenant)], details=details)
