"""What is sent because somebody asks: a test, a delivery once more, and whatever has not arrived since an instant."""

from collections.abc import Sequence

from sqlalchemy import select

from app.delivery.webhooks.endpoints import lock_endpoint
from app.delivery.webhooks.parts import FAILED, Sender
from app.delivery.webhooks.taking import deliver
from app.delivery.webhooks.unread import ENTRY, Entry
from app.identity.callers import Caller
from app.ledger.append import append, own
from app.ledger.read import head
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.ids import MINUTE, DeliveryId, EndpointId, Instant, TenantId
from app.rules.permissions import Permission
from app.rules.webhooks import DeliveryStatus, EndpointStatus, delivery_id, matching
from app.store.engine import Tx
from app.store.tables import LedgerEntry, WebhookDelivery, WebhookEndpoint

#: Deliveries, and entries without one, that one recovery looks at.
MOST_RECOVERED = 5_000
#: By how much a fact may have happened before the entry that stands before it in the ledger.
_SLACK = 10 * MINUTE

_UNKNOWN = (
    "deliveryId names no webhook delivery of your tenant: one is kept for 90 days after its end, and "
    "recoverDeliveries sends what is older"
)


def send_test(tx: Tx, caller: Caller, sender: Sender, endpoint_id: EndpointId) -> WebhookDelivery | Refusal:
    """An entry `webhook.test` of the tenant's own, and its delivery to this endpoint, whatever its events."""
    caller.require(Permission.WEBHOOKS)
    endpoint = _enabled(tx, caller.tenant_id, endpoint_id)
    if isinstance(endpoint, Refusal):
        return endpoint
    now, details = tx.now(), {"endpointId": endpoint.id}
    append(tx, [own(Event.WEBHOOK_TEST, caller.tenant_id, caller.subject, now, **details)])
    # Its head is locked since: the last entry is ours.
    mine = LedgerEntry.tenant_id == caller.tenant_id, LedgerEntry.seq == head(tx, caller.tenant_id)
    entry = tx.execute(ENTRY.where(*mine)).one()
    deliver(tx, sender, [(endpoint, [entry])], now, take=False)
    return tx.get_one(WebhookDelivery, delivery_id(entry.id, endpoint.id))


def redeliver(tx: Tx, caller: Caller, id: DeliveryId) -> WebhookDelivery | Refusal:
    """Sends a delivery once more, by the whole schedule. One that is under way is left alone."""
    caller.require(Permission.WEBHOOKS)
    mine = WebhookDelivery.id == id, WebhookDelivery.tenant_id == caller.tenant_id
    endpoint_id = tx.scalar(select(WebhookDelivery.endpoint_id).where(*mine))
    unknown = Refusal(Code.NOT_FOUND, _UNKNOWN, ("deliveryId",))
    if endpoint_id is None:
        return unknown
    endpoint = _enabled(tx, caller.tenant_id, endpoint_id, ("deliveryId",))
    if isinstance(endpoint, Refusal):
        return unknown if endpoint.code is Code.NOT_FOUND else endpoint
    locked = select(WebhookDelivery).where(*mine).with_for_update()
    row = tx.scalars(locked.execution_options(populate_existing=True)).one_or_none()
    if row is None:  # dropped meanwhile
        return unknown
    if row.leased_until is None:
        _once_more(row, tx.now())
    return row


def missed(tx: Tx, caller: Caller, endpoint_id: EndpointId, since: Instant) -> Sequence[Entry]:
    """What an endpoint wants of the ledger since then, up to its cursor, and never had: `MOST_RECOVERED` at most, the
    oldest first. A query: it may look through a long ledger, and a transaction that writes may not.
    """
    caller.require(Permission.WEBHOOKS)
    mine = WebhookEndpoint.id == endpoint_id, WebhookEndpoint.tenant_id == caller.tenant_id
    endpoint = tx.scalars(select(WebhookEndpoint).where(*mine)).one_or_none()
    return [] if endpoint is None else _missed(tx, endpoint, since)


def recover(
    tx: Tx,
    caller: Caller,
    sender: Sender,
    endpoint_id: EndpointId,
    since: Instant,
    missed: Sequence[Entry],
) -> int | Refusal:
    """Sends what happened since then and has not arrived: what has FAILED, `MOST_RECOVERED` at most, the oldest first,
    and what was `missed`. Returns how many.
    """
    caller.require(Permission.WEBHOOKS)
    endpoint = _enabled(tx, caller.tenant_id, endpoint_id)
    if isinstance(endpoint, Refusal):
        return endpoint
    failed = _failed(tx, endpoint, since)
    now = tx.now()
    for row in failed:
        _once_more(row, now)
    made = deliver(tx, sender, [(endpoint, missed)], now, take=False)
    return len(failed) + len(made[endpoint.id])


def _enabled(
    tx: Tx, tenant_id: TenantId, endpoint_id: EndpointId, path: tuple[str, ...] = ("endpointId",)
) -> WebhookEndpoint | Refusal:
    endpoint = lock_endpoint(tx, tenant_id, endpoint_id)
    if isinstance(endpoint, Refusal) or endpoint.status is EndpointStatus.ENABLED:
        return endpoint
    return Refusal(Code.WRONG_STATE, "the webhook endpoint is DISABLED: enable it first", path)


def _once_more(row: WebhookDelivery, now: Instant) -> None:
    row.status, row.failures, row.due_at = DeliveryStatus.PENDING, 0, now


def _first_since(tx: Tx, endpoint: WebhookEndpoint, since: Instant) -> int:
    """The seq of an entry at or a little before `since`: instants rise with seq, but for what transactions take."""
    low, high = 1, endpoint.cursor + 1
    while low < high:
        middle = (low + high) // 2
        at = LedgerEntry.tenant_id == endpoint.tenant_id, LedgerEntry.seq == middle
        happened = tx.scalar(select(LedgerEntry.occurred_at).where(*at))
        if happened is not None and happened < since - _SLACK:
            low = middle + 1
        else:
            high = middle
    return low


def _failed(tx: Tx, endpoint: WebhookEndpoint, since: Instant) -> Sequence[WebhookDelivery]:
    same = (LedgerEntry.tenant_id == WebhookDelivery.tenant_id) & (LedgerEntry.seq == WebhookDelivery.seq)
    rows = select(WebhookDelivery).join(LedgerEntry, same)
    wanted = rows.where(
        WebhookDelivery.endpoint_id == endpoint.id,
        FAILED,
        WebhookDelivery.seq >= _first_since(tx, endpoint, since),
        LedgerEntry.occurred_at >= since,
    )
    first = wanted.order_by(WebhookDelivery.seq).limit(MOST_RECOVERED)
    return tx.scalars(first.with_for_update(of=WebhookDelivery)).all()


def _missed(tx: Tx, endpoint: WebhookEndpoint, since: Instant) -> Sequence[Entry]:
    known = (WebhookDelivery.endpoint_id == endpoint.id) & (WebhookDelivery.seq == LedgerEntry.seq)
    rows = ENTRY.outerjoin(WebhookDelivery, known).where(
        LedgerEntry.tenant_id == endpoint.tenant_id,
        LedgerEntry.seq.between(_first_since(tx, endpoint, since), endpoint.cursor),
        LedgerEntry.event.in_(matching(endpoint.events)),
        LedgerEntry.occurred_at >= since,
        WebhookDelivery.id.is_(None),
    )
    return tx.execute(rows.order_by(LedgerEntry.seq).limit(MOST_RECOVERED)).all()
