"""What is dropped: deliveries long after their end, and what deleted endpoints leave."""

from sqlalchemy import delete, select

from app.delivery.webhooks.parts import DELIVERIES, ENDED
from app.rules.ids import DAY
from app.store.engine import Tx
from app.store.tables import WebhookDelivery, WebhookEndpoint

#: How long after its end a delivery can be looked at and sent once more. The ledger keeps its entry for ever.
KEPT = 90 * DAY

_CHUNK = 500  # rows in one transaction


def purge_deliveries(tx: Tx) -> int:
    """Drops deliveries that ended longer ago than they are KEPT, the oldest first; returns how many. What is PENDING
    stays, however old it is.
    """
    # Locked before it is dropped: whoever sends one of them once more meanwhile keeps it.
    old = ENDED, WebhookDelivery.due_at <= tx.now() - KEPT
    rows = select(WebhookDelivery.id).where(*old).order_by(WebhookDelivery.due_at).limit(_CHUNK)
    ids = list(tx.scalars(rows.with_for_update(skip_locked=True)))
    if ids:
        tx.execute(delete(DELIVERIES).where(DELIVERIES.c.id.in_(ids)))
    return len(ids)


def purge_endpoints(tx: Tx) -> int:
    """Drops deliveries of endpoints that were deleted, and then these; returns how many rows."""
    gone = select(WebhookEndpoint).where(WebhookEndpoint.deleted_at.is_not(None))
    endpoint = tx.scalars(gone.limit(1).with_for_update(skip_locked=True)).one_or_none()
    if endpoint is None:
        return 0
    theirs = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id).limit(_CHUNK)
    rows = [*tx.scalars(theirs)] or [endpoint]
    for row in rows:
        tx.delete(row)
    return len(rows)
