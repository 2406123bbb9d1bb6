"""What is shown of webhooks. A query takes the tenant that asks, and sees nothing of another's."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, select

from app.identity.callers import Caller
from app.rules.ids import DeliveryId, EndpointId, TenantId
from app.rules.permissions import Permission
from app.rules.webhooks import DeliveryStatus
from app.store.each import of_each
from app.store.engine import Tx
from app.store.tables import LedgerEntry, WebhookDelivery, WebhookEndpoint


@dataclass(frozen=True, slots=True)
class Span:
    """At most `limit` deliveries before a seq, the newest first; of one status, or of all."""

    limit: int
    before: int | None
    status: DeliveryStatus | None


def list_endpoints(tx: Tx, caller: Caller) -> list[WebhookEndpoint]:
    """The endpoints of the caller's tenant, oldest first."""
    caller.require(Permission.WEBHOOKS)
    return list(tx.scalars(_mine(caller.tenant_id).order_by(WebhookEndpoint.id)))


def endpoints(tx: Tx, asking: TenantId, ids: Sequence[EndpointId]) -> dict[EndpointId, WebhookEndpoint]:
    """Endpoints of the asking tenant."""
    return {row.id: row for row in tx.scalars(_mine(asking).where(WebhookEndpoint.id.in_(ids)))}


def deliveries(tx: Tx, asking: TenantId, ids: Sequence[DeliveryId]) -> dict[DeliveryId, WebhookDelivery]:
    """Deliveries of the asking tenant, to endpoints that are still there."""
    there = _mine(asking).with_only_columns(WebhookEndpoint.id)
    rows = select(WebhookDelivery).where(
        WebhookDelivery.id.in_(ids),
        WebhookDelivery.tenant_id == asking,
        WebhookDelivery.endpoint_id.in_(there),
    )
    return {row.id: row for row in tx.scalars(rows)}


def deliveries_of(
    tx: Tx, asking: TenantId, ids: Sequence[EndpointId], span: Span
) -> dict[EndpointId, list[WebhookDelivery]]:
    """A page of the deliveries to each endpoint, in one statement; of each one more than the page has."""
    found: dict[EndpointId, list[WebhookDelivery]] = {id: [] for id in ids}
    rows = of_each(
        tx,
        _mine(asking).with_only_columns(WebhookEndpoint.id).where(WebhookEndpoint.id.in_(ids)),
        WebhookDelivery.endpoint_id,
        WebhookDelivery.seq,
        span.limit + 1,
        backward=True,
        where=lambda row: _within(row, span),
    )
    for row in rows:
        found[row.endpoint_id].append(row)
    return found


def entries_at(tx: Tx, asking: TenantId, seqs: Sequence[int]) -> dict[int, LedgerEntry]:
    """Entries of the asking tenant's ledger by their seq."""
    mine = LedgerEntry.tenant_id == asking, LedgerEntry.seq.in_(seqs)
    return {row.seq: row for row in tx.scalars(select(LedgerEntry).where(*mine))}


def _mine(asking: TenantId) -> Select[WebhookEndpoint]:
    mine = WebhookEndpoint.tenant_id == asking, WebhookEndpoint.deleted_at.is_(None)
    return select(WebhookEndpoint).where(*mine)


def _within(row: type[WebhookDelivery], span: Span) -> list[ColumnElement[bool]]:
    tests: list[ColumnElement[bool]] = []
    if span.before is not None:
        tests.append(row.seq < span.before)
    if span.status is not None:
        tests.append(row.status == span.status)
    return tests
