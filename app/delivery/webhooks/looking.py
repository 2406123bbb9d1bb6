"""Looking, in a snapshot, for endpoints that there is something to send to: most of the time there are none, and then
nothing is written.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, select

from app.delivery.webhooks.parts import LOOKS_AT, PENDING
from app.rules.ids import EndpointId, TenantId
from app.rules.webhooks import EndpointStatus, matching
from app.store.engine import Tx
from app.store.tables import LedgerEntry, LedgerHead, WebhookDelivery, WebhookEndpoint


@dataclass(frozen=True, slots=True)
class Looked:
    """Up to where an endpoint's ledger was looked through, and for which events, without a finding; and whether there
    was one after that, which stays where it is until the cursor passes it.
    """

    seq: int
    events: list[str]
    found: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """What there is for an endpoint of a tenant: entries that it has not had, deliveries that are due once more."""

    tenant_id: TenantId
    first: bool
    again: bool


@dataclass(frozen=True, slots=True)
class Look:
    """Whose ledgers matter, which endpoints there is something for, and what the next look need not look through."""

    tenants: frozenset[TenantId]
    wanted: dict[EndpointId, Waiting]
    looked: dict[EndpointId, Looked]


def look(tx: Tx, before: Mapping[EndpointId, Looked]) -> Look:
    """Looks at every enabled endpoint, and through the ledger of each tenant that has grown once."""
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
    looked = _looked(tx, found, before)
    wanted = {
        each.id: Waiting(each.tenant_id, looked[each.id].found, bool(each.due))
        for each in found
        if looked[each.id].found or each.due
    }
    return Look(frozenset(each.tenant_id for each in found), wanted, looked)


def _looked(
    tx: Tx, endpoints: Iterable[Any], before: Mapping[EndpointId, Looked]
) -> dict[EndpointId, Looked]:
    looked = {each.id: _known(each, before.get(each.id)) for each in endpoints}
    grown: defaultdict[TenantId, list[Any]] = defaultdict(list)
    for each in endpoints:
        if not looked[each.id].found and looked[each.id].seq < each.head:
            grown[each.tenant_id].append(each)
    for theirs in grown.values():
        looked |= _through(tx, theirs, looked)
    return looked


def _through(tx: Tx, theirs: Sequence[Any], known: Mapping[EndpointId, Looked]) -> dict[EndpointId, Looked]:
    """Looks through the ledger of one tenant, for all of its endpoints that do not know of a finding."""
    latest = _latest(tx, theirs, min(known[each.id].seq for each in theirs))
    looked = {}
    for each in theirs:
        seq = known[each.id].seq
        found = any(latest.get(event, 0) > seq for event in matching(each.events))
        looked[each.id] = Looked(seq if found else each.head, each.events, found)
    return looked


def _known(endpoint: Any, before: Looked | None) -> Looked:
    """What is known without looking."""
    if before is None or before.events != endpoint.events or before.seq < endpoint.cursor:
        before = Looked(endpoint.cursor, endpoint.events, found=False)
    # So that the cursor moves, once in a while.
    far = endpoint.head - endpoint.cursor > LOOKS_AT // 2
    return Looked(before.seq, before.events, before.found or far)


def _latest(tx: Tx, endpoints: Sequence[Any], after: int) -> dict[str, int]:
    """Where the last of each event stands that one of a tenant's endpoints wants: one read for them all."""
    events = {event for each in endpoints for event in matching(each.events)}
    rows = select(LedgerEntry.event, func.max(LedgerEntry.seq)).where(
        LedgerEntry.tenant_id == endpoints[0].tenant_id,
        LedgerEntry.seq > after,
        LedgerEntry.seq <= endpoints[0].head,
        LedgerEntry.event.in_(sorted(events)),
    )
    return dict(tx.execute(rows.group_by(LedgerEntry.event)).all())
