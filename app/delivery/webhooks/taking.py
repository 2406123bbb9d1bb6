"""What is attempted next: new deliveries from an endpoint's cursor, and those that are due once more."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from app.delivery.webhooks.endpoints import open_secrets
from app.delivery.webhooks.parts import DELIVERIES, MOST_KEPT, PENDING, Room, Sender
from app.delivery.webhooks.sending import Job
from app.delivery.webhooks.unread import ENTRY, Entry, unread
from app.rules.ids import SECOND, EndpointId, Instant
from app.rules.instants import rfc3339
from app.rules.retry import due
from app.rules.webhooks import DeliveryStatus, body_of, delivery_id
from app.store.engine import Tx
from app.store.tables import LedgerEntry, WebhookDelivery, WebhookEndpoint

Taken = tuple[dict[str, Any], Entry]


def take(
    tx: Tx, sender: Sender, endpoints: Sequence[WebhookEndpoint], rooms: Mapping[EndpointId, Room]
) -> list[Job]:
    """Takes what there is room for, of each endpoint in the order of the ledger."""
    now = tx.now()
    made = _made(tx, sender, [(each, rooms[each.id].first) for each in endpoints], now)
    jobs = []
    for endpoint in endpoints:
        more = _due(tx, sender, endpoint, rooms[endpoint.id].again, now)
        jobs += _jobs(sender, endpoint, made.get(endpoint.id, []), now, again=False)
        jobs += _jobs(sender, endpoint, more, now, again=True)
    return jobs


def _jobs(
    sender: Sender, endpoint: WebhookEndpoint, taken: Sequence[Taken], now: Instant, *, again: bool
) -> list[Job]:
    if not taken:
        return []
    secrets = open_secrets(endpoint, sender.keys, now)
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
        for row, entry in taken
    ]


def _made(
    tx: Tx, sender: Sender, wanting: Iterable[tuple[WebhookEndpoint, int]], now: Instant
) -> dict[EndpointId, list[Taken]]:
    at_once = sender.schedule[0] == 0
    made: dict[EndpointId, list[Taken]] = {}
    groups = unread(tx, [(endpoint, most) for endpoint, most in wanting if most > 0])
    for group in groups:
        made |= deliver(tx, sender, [(each.endpoint, each.entries) for each in group], now, take=at_once)
    for each in (each for group in groups for each in group):  # at last: all in one statement
        if each.cursor != each.endpoint.cursor:
            each.endpoint.cursor = each.cursor
    return made if at_once else {}


def deliver(
    tx: Tx,
    sender: Sender,
    wanting: Sequence[tuple[WebhookEndpoint, Sequence[Entry]]],
    now: Instant,
    *,
    take: bool,
) -> dict[EndpointId, list[Taken]]:
    """New deliveries of entries, to endpoints that have none of them yet: taken already, or due."""
    known = _known(tx, wanting)
    until = sender.leased(now)
    common = {
        "status": DeliveryStatus.PENDING,
        "attempts": [],
        "failures": 0,
        "due_at": until if take else due(now, sender.schedule[0], 0.0),
        "leased_until": until if take else None,
        "claim": 1 if take else 0,
    }
    made = {
        endpoint.id: [
            ({**_named(endpoint, entry), **common}, entry)
            for entry in entries
            if (endpoint.id, entry.seq) not in known
        ]
        for endpoint, entries in wanting
    }
    if rows := [row for taken in made.values() for row, _ in taken]:
        tx.execute(insert(DELIVERIES), rows)
    return made


def _named(endpoint: WebhookEndpoint, entry: Entry) -> dict[str, Any]:
    id = delivery_id(entry.id, endpoint.id)
    return {"id": id, "endpoint_id": endpoint.id, "tenant_id": endpoint.tenant_id, "seq": entry.seq}


def _known(tx: Tx, wanting: Sequence[tuple[WebhookEndpoint, Sequence[Entry]]]) -> set[tuple[EndpointId, int]]:
    seqs = {entry.seq for _, entries in wanting for entry in entries}
    if not seqs:
        return set()
    theirs = (
        WebhookDelivery.endpoint_id.in_([endpoint.id for endpoint, _ in wanting]),
        WebhookDelivery.seq.in_(sorted(seqs)),
    )
    found = tx.execute(select(WebhookDelivery.endpoint_id, WebhookDelivery.seq).where(*theirs))
    return {(endpoint_id, seq) for endpoint_id, seq in found}


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
