"""What is attempted next: new deliveries from an endpoint's cursor, and those that are due once more."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, bindparam, insert, select, update

from app.delivery.webhooks.endpoints import open_secrets
from app.delivery.webhooks.parts import DELIVERIES, LOOKS_AT, MOST_KEPT, PENDING, Room, Sender
from app.delivery.webhooks.sending import Job
from app.ledger.read import head
from app.rules.ids import SECOND, EndpointId, EntryId, Instant
from app.rules.instants import rfc3339
from app.rules.retry import due
from app.rules.webhooks import DeliveryStatus, body_of, delivery_id, matching
from app.store.engine import Tx
from app.store.tables import LedgerEntry, WebhookDelivery, WebhookEndpoint


def take(tx: Tx, sender: Sender, endpoint: WebhookEndpoint, room: Room) -> list[Job]:
    now = tx.now()
    secrets = open_secrets(endpoint, sender.keys, now)
    made = [(*pair, False) for pair in _made(tx, sender, endpoint, room.first, now)]
    more = [(*pair, True) for pair in _due(tx, sender, endpoint, room.again, now)]
    return [
        Job(
            delivery_id=row["id"],
            endpoint_id=endpoint.id,
            tenant_id=endpoint.tenant_id,
            claim=row["claim"],
            url=endpoint.url,
            secrets=secrets,
            body=body_of(sender.source, entry.id, entry.event, rfc3339(entry.occurred_at), entry.body),
            attempts=row["attempts"],
            failures=row["failures"],
            again=again,
        )
        for row, entry, again in [*made, *more]
    ]


Entry = Row[int, EntryId, str, Instant, str]
Taken = tuple[dict[str, Any], Entry]

ENTRY = select(LedgerEntry.seq, LedgerEntry.id, LedgerEntry.event, LedgerEntry.occurred_at, LedgerEntry.body)


def fresh(tx: Tx, endpoint: WebhookEndpoint, most: int) -> tuple[list[Entry], int]:
    """Entries after the endpoint's cursor that it wants, and where the cursor is then.

    The head is read first: what stands up to it has committed, in this order.
    """
    last = min(head(tx, endpoint.tenant_id), endpoint.cursor + LOOKS_AT)
    rows = ENTRY.where(
        LedgerEntry.tenant_id == endpoint.tenant_id,
        LedgerEntry.seq > endpoint.cursor,
        LedgerEntry.seq <= last,
        LedgerEntry.event.in_(matching(endpoint.events)),
    )
    found = list(tx.execute(rows.order_by(LedgerEntry.seq).limit(most)))
    return found, (found[-1].seq if len(found) == most else last)


def _made(tx: Tx, sender: Sender, endpoint: WebhookEndpoint, most: int, now: Instant) -> list[Taken]:
    if most <= 0:
        return []
    entries, cursor = fresh(tx, endpoint, most)
    if cursor != endpoint.cursor:
        endpoint.cursor = cursor
    at_once = sender.schedule[0] == 0
    made = deliver(tx, sender, endpoint, entries, now, take=at_once)
    return made if at_once else []


def deliver(
    tx: Tx, sender: Sender, endpoint: WebhookEndpoint, entries: Sequence[Entry], now: Instant, *, take: bool
) -> list[Taken]:
    """New deliveries of entries that have none yet: taken already, or due."""
    known = _known(tx, endpoint.id, [entry.seq for entry in entries])
    until = sender.leased(now)
    common = {
        "endpoint_id": endpoint.id,
        "tenant_id": endpoint.tenant_id,
        "status": DeliveryStatus.PENDING,
        "attempts": [],
        "failures": 0,
        "due_at": until if take else due(now, sender.schedule[0], 0.0),
        "leased_until": until if take else None,
        "claim": 1 if take else 0,
    }
    made = [
        ({"id": delivery_id(entry.id, endpoint.id), "seq": entry.seq, **common}, entry)
        for entry in entries
        if entry.seq not in known
    ]
    if made:
        tx.execute(insert(DELIVERIES), [row for row, _ in made])
    return made


def _known(tx: Tx, endpoint_id: EndpointId, seqs: Sequence[int]) -> set[int]:
    if not seqs:
        return set()
    mine = WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.seq.in_(seqs)
    return set(tx.scalars(select(WebhookDelivery.seq).where(*mine)))


def _due(tx: Tx, sender: Sender, endpoint: WebhookEndpoint, most: int, now: Instant) -> list[Taken]:
    if most <= 0:
        return []
    waiting = WebhookDelivery.endpoint_id == endpoint.id, PENDING, WebhookDelivery.due_at <= now
    rows = select(WebhookDelivery).where(*waiting)
    ordered = rows.order_by(WebhookDelivery.due_at, WebhookDelivery.seq).limit(most)
    locked = ordered.with_for_update(skip_locked=True).execution_options(populate_existing=True)
    taken = [_taken(row, sender, now) for row in tx.scalars(locked)]
    if not taken:
        return []
    tx.execute(_TAKEN, [_as_taken(row) for row in taken])
    seqs = [row["seq"] for row in taken]
    mine = ENTRY.where(LedgerEntry.tenant_id == endpoint.tenant_id, LedgerEntry.seq.in_(seqs))
    entries = {entry.seq: entry for entry in tx.execute(mine)}
    return [(row, entries[row["seq"]]) for row in taken]


_TAKEN = (
    update(DELIVERIES)
    .where(DELIVERIES.c.id == bindparam("of"))
    .values(
        attempts=bindparam("as_attempts"),
        due_at=bindparam("as_due"),
        leased_until=bindparam("as_due"),
        claim=bindparam("as_claim"),
    )
)


def _taken(row: WebhookDelivery, sender: Sender, now: Instant) -> dict[str, Any]:
    attempts = row.attempts
    if row.leased_until is not None:
        began = row.leased_until - int(sender.lease * SECOND)
        lost = {"at": began, "status": None, "durationMs": int(sender.lease * 1000), "error": _LOST}
        attempts = [*attempts, lost][-MOST_KEPT:]
    return {
        "id": row.id,
        "seq": row.seq,
        "attempts": attempts,
        "failures": row.failures,
        "until": sender.leased(now),
        "claim": row.claim + 1,
    }


#: What is said of an attempt whose end nobody heard of.
_LOST = "the gateway that attempted it stopped before its end"


def _as_taken(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "of": row["id"],
        "as_attempts": row["attempts"],
        "as_due": row["until"],
        "as_claim": row["claim"],
    }
