"""Reading a ledger: pages in either direction, and what came after a cursor. Constant cost at any depth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, select

from app.rules.entries import event_filter
from app.rules.ids import DelegationId, DispatchId, EntryId, Instant, PairId, TenantId
from app.store.each import of_each
from app.store.engine import Tx
from app.store.tables import Delegation, LedgerEntry, LedgerHead

#: Entries that a filter without an index looks at before it returns a short page.
LOOKS_AT = 10_000
_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: the first three have an index, the rest are looked for among `LOOKS_AT` entries at most."""

    delegation_id: DelegationId | None = None
    dispatch_id: DispatchId | None = None
    pair_id: PairId | None = None
    events: Sequence[str] | None = None
    since: Instant | None = None
    until: Instant | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Entries in the order they were read. `more` says whether there is anything further in that direction,
    `reached` is the last seq looked at, from which to go on where the page is short.
    """

    entries: list[LedgerEntry]
    more: bool
    reached: int | None


def page(
    tx: Tx,
    tenant_id: TenantId,
    wanted: Wanted,
    *,
    limit: int,
    after: int | None,
    before: int | None,
    backward: bool,
) -> Found:
    """At most `limit` entries strictly between the seqs, ascending, or descending where `backward`."""
    matches = _filter(wanted)
    found: list[LedgerEntry] = []
    looked = 0
    while looked < LOOKS_AT:
        size = min(limit + 1 - len(found), _CHUNK) if matches is None else _CHUNK
        rows = tx.scalars(_select(tenant_id, wanted, after, before, backward, size)).all()
        looked += len(rows)
        for row in rows:
            if matches is None or matches(row):
                if len(found) == limit:
                    return Found(found, True, found[-1].seq if found else None)
                found.append(row)
        if len(rows) < size:
            return Found(found, False, None)
        if backward:
            before = rows[-1].seq
        else:
            after = rows[-1].seq
    return Found(found, True, before if backward else after)


def _select(
    tenant_id: TenantId, wanted: Wanted, after: int | None, before: int | None, backward: bool, size: int
) -> Select[LedgerEntry]:
    rows = select(LedgerEntry).where(LedgerEntry.tenant_id == tenant_id)
    if wanted.delegation_id is not None:
        rows = rows.where(LedgerEntry.delegation_id == wanted.delegation_id)
    if wanted.dispatch_id is not None:
        rows = rows.where(LedgerEntry.dispatch_id == wanted.dispatch_id)
    if wanted.pair_id is not None:
        rows = rows.where(LedgerEntry.pair_id == wanted.pair_id)
    rows = rows.where(*_between(LedgerEntry, after, before))
    return rows.order_by(LedgerEntry.seq.desc() if backward else LedgerEntry.seq).limit(size)


def since(tx: Tx, tenant_id: TenantId, after: int, limit: int) -> list[LedgerEntry]:
    """The first `limit` entries after a seq."""
    return list(tx.scalars(_select(tenant_id, Wanted(), after, None, False, limit)))


def wants(wanted: Wanted) -> Callable[[LedgerEntry], bool]:
    """Whether an entry that was read anyway is one of those."""
    matches = _filter(wanted)

    def chosen(row: LedgerEntry) -> bool:
        named = (wanted.delegation_id, row.delegation_id), (wanted.dispatch_id, row.dispatch_id)
        exact = all(asked in (None, has) for asked, has in (*named, (wanted.pair_id, row.pair_id)))
        return exact and (matches is None or matches(row))

    return chosen


def _filter(wanted: Wanted) -> Callable[[LedgerEntry], bool] | None:
    event = event_filter(wanted.events)
    tests: list[Callable[[LedgerEntry], bool]] = []
    if event is not None:
        tests.append(lambda row: event(row.event))
    if wanted.since is not None:
        tests.append(lambda row: row.occurred_at >= (wanted.since or 0))
    if wanted.until is not None:
        tests.append(lambda row: row.occurred_at < (wanted.until or 0))
    if wanted.outcome is not None:
        tests.append(lambda row: f'"outcome":"{wanted.outcome}"' in row.body)
    return (lambda row: all(test(row) for test in tests)) if tests else None


@dataclass(frozen=True, slots=True)
class Span:
    """Where to look: at most `limit` entries strictly between the seqs, ascending, or descending where `backward`."""

    limit: int
    after: int | None
    before: int | None
    backward: bool


def pages(
    tx: Tx, tenant_id: TenantId, ids: Sequence[DelegationId], events: tuple[str, ...] | None, span: Span
) -> dict[DelegationId, Found]:
    """A page of what a tenant's ledger says of each delegation, in one statement. A filter by events looks at
    `LOOKS_AT` entries for all of them together.
    """
    matches = _filter(Wanted(events=events))
    most = span.limit + 1 if matches is None else max(span.limit + 1, LOOKS_AT // len(ids))
    known = select(Delegation.id).where(Delegation.id.in_(ids))
    rows = of_each(
        tx,
        known,
        LedgerEntry.delegation_id,
        LedgerEntry.seq,
        most,
        backward=span.backward,
        where=lambda entry: [entry.tenant_id == tenant_id, *_between(entry, span.after, span.before)],
    )
    found: dict[DelegationId, list[LedgerEntry]] = {id: [] for id in ids}
    for row in rows:
        found[row.delegation_id].append(row)
    return {id: _found(of_one, matches, span.limit, most) for id, of_one in found.items()}


def _between(entry: type[LedgerEntry], after: int | None, before: int | None) -> list[ColumnElement[bool]]:
    tests = []
    if after is not None:
        tests.append(entry.seq > after)
    if before is not None:
        tests.append(entry.seq < before)
    return tests


def _found(
    rows: list[LedgerEntry], matches: Callable[[LedgerEntry], bool] | None, limit: int, looked_at: int
) -> Found:
    matching = [row for row in rows if matches is None or matches(row)]
    if len(matching) > limit:
        return Found(matching[:limit], True, matching[limit - 1].seq if limit else None)
    more = len(rows) == looked_at
    return Found(matching, more, rows[-1].seq if more else None)


def entries(tx: Tx, tenant_id: TenantId, ids: Sequence[EntryId]) -> dict[EntryId, LedgerEntry]:
    """Entries of the tenant's ledger."""
    mine = select(LedgerEntry).where(LedgerEntry.id.in_(ids), LedgerEntry.tenant_id == tenant_id)
    return {row.id: row for row in tx.scalars(mine)}


def head(tx: Tx, tenant_id: TenantId) -> int:
    """The seq of a tenant's last entry; 0 before the first."""
    return tx.scalars(select(LedgerHead.seq).where(LedgerHead.tenant_id == tenant_id)).one_or_none() or 0
