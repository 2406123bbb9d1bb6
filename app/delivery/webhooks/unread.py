"""What endpoints have not had of their ledgers yet. Those of a tenant that stand at the same position read it once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Row, select

from app.delivery.webhooks.parts import LOOKS_AT
from app.ledger.read import head
from app.rules.ids import EntryId, Instant, TenantId
from app.rules.webhooks import matching
from app.store.engine import Tx
from app.store.tables import LedgerEntry, WebhookEndpoint

Entry = Row[int, EntryId, str, Instant, str]

ENTRY = select(LedgerEntry.seq, LedgerEntry.id, LedgerEntry.event, LedgerEntry.occurred_at, LedgerEntry.body)


@dataclass(frozen=True, slots=True)
class Unread:
    """The entries that an endpoint is sent next, and where its cursor is then."""

    endpoint: WebhookEndpoint
    entries: list[Entry]
    cursor: int


def unread(tx: Tx, wanting: Iterable[tuple[WebhookEndpoint, int]]) -> list[list[Unread]]:
    """Entries after each endpoint's cursor that it wants, at most so many, in groups that stood at the same position.

    Each gets what it would have read alone. The heads are read first: what stands up to them has committed, in this
    order.
    """
    together: defaultdict[tuple[TenantId, int], list[tuple[WebhookEndpoint, int]]] = defaultdict(list)
    for endpoint, most in wanting:
        together[endpoint.tenant_id, endpoint.cursor].append((endpoint, most))
    heads = {tenant_id: head(tx, tenant_id) for tenant_id in {tenant_id for tenant_id, _ in together}}
    return [
        _read(tx, _Span(tenant_id, cursor, min(heads[tenant_id], cursor + LOOKS_AT)), group)
        for (tenant_id, cursor), group in together.items()
    ]


@dataclass(frozen=True, slots=True)
class _Span:
    """What of a ledger may be read: after a seq, up to one."""

    tenant_id: TenantId
    after: int
    last: int


def _read(tx: Tx, span: _Span, group: Sequence[tuple[WebhookEndpoint, int]]) -> list[Unread]:
    events = {event for endpoint, _ in group for event in matching(endpoint.events)}
    most = max(most for _, most in group)
    found = _entries(tx, span, events, most)
    rest = _Span(span.tenant_id, found[-1].seq if len(found) == most else span.last, span.last)
    return [_of_one(tx, found, rest, endpoint, most) for endpoint, most in group]


def _of_one(tx: Tx, found: list[Entry], rest: _Span, endpoint: WebhookEndpoint, most: int) -> Unread:
    """Its own of what was read for all, and then what it reads on alone: others' entries cost it no place."""
    events = set(matching(endpoint.events))
    mine = [entry for entry in found if entry.event in events][:most]
    if len(mine) < most and rest.after < rest.last:
        mine += _entries(tx, rest, events, most - len(mine))
    return Unread(endpoint, mine, mine[-1].seq if len(mine) == most else rest.last)


def _entries(tx: Tx, span: _Span, events: Iterable[str], most: int) -> list[Entry]:
    rows = ENTRY.where(
        LedgerEntry.tenant_id == span.tenant_id,
        LedgerEntry.seq > span.after,
        LedgerEntry.seq <= span.last,
        LedgerEntry.event.in_(sorted(events)),
    )
    return list(tx.execute(rows.order_by(LedgerEntry.seq).limit(most)))
