"""Looking, in a snapshot, for endpoints that there is something to send to: most of the time there are none, and then
nothing is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, select

from app.delivery.webhooks.parts import LOOKS_AT, PENDING
from app.rules.ids import EndpointId, TenantId
from app.rules.webhooks import EndpointStatus, matching
from app.store.engine import Tx
from app.store.tables import LedgerEntry, LedgerHead, WebhookDelivery, WebhookEndpoint


@dataclass(frozen=True, slots=True)
class Looked:
    """Up to where an endpoint's ledger was looked through, and for which events, without a finding."""

    seq: int
    events: list[str]


@dataclass(frozen=True, slots=True)
class Look:
    """Whose ledgers matter, which endpoints there is something for and whose they are, and what the next look need not
    look through.
    """

    tenants: frozenset[TenantId]
    wanted: dict[EndpointId, TenantId]
    looked: dict[EndpointId, Looked]


def look(tx: Tx, before: Mapping[EndpointId, Looked]) -> Look:
    """Looks at every enabled endpoint."""
    now = tx.now()
    is_due = exists().where(
        WebhookDelivery.endpoint_id == WebhookEndpoint.id, PENDING, WebhookDelivery.due_at <= now
    )
    endpoints = (
        select(
            WebhookEndpoint.id,
            WebhookEndpoint.tenant_id,
            WebhookEndpoint.events,
            WebhookEndpoint.cursor,
            LedgerHead.seq.label("head"),
            is_due.label("due"),
        )
        .join(LedgerHead, LedgerHead.tenant_id == WebhookEndpoint.tenant_id)
        .where(WebhookEndpoint.status == EndpointStatus.ENABLED, WebhookEndpoint.deleted_at.is_(None))
    )
    found = tx.execute(endpoints).all()
    wanted, looked = {}, {}
    for endpoint in found:
        is_fresh = _is_fresh(tx, endpoint, before.get(endpoint.id))
        if is_fresh or endpoint.due:
            wanted[endpoint.id] = endpoint.tenant_id
        if not is_fresh:
            looked[endpoint.id] = Looked(endpoint.head, endpoint.events)
    return Look(frozenset(each.tenant_id for each in found), wanted, looked)


def _is_fresh(tx: Tx, endpoint: Any, before: Looked | None) -> bool:
    start = endpoint.cursor
    if before is not None and before.events == endpoint.events:
        start = max(start, before.seq)
    if endpoint.head <= start:
        return False
    if endpoint.head - endpoint.cursor > LOOKS_AT // 2:
        return True  # so that the cursor moves, once in a while
    wanted = exists().where(
        LedgerEntry.tenant_id == endpoint.tenant_id,
        LedgerEntry.seq > start,
        LedgerEntry.seq <= endpoint.head,
        LedgerEntry.event.in_(matching(endpoint.events)),
    )
    return bool(tx.scalar(select(wanted)))
