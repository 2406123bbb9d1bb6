"""What has been used of a delegation's limits: now, live from the windows that decide; and in the past."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Select, and_, or_, select

from app.delegations.read import agreed, in_force, in_force_since, party_to
from app.delegations.standing import terms_of
from app.rules.ids import DelegationId, Instant, TenantId
from app.rules.terms import from_stored
from app.rules.windows import Window, WindowKind, windows_at
from app.store.each import of_each
from app.store.engine import Tx
from app.store.tables import Delegation, TermsVersion, UsageWindow

HISTORY = 40  # windows that are shown at most; `until` goes on from there
_VERSIONS = 20  # that limits of past windows are looked up in: they may hold 20 KB each


class Used(NamedTuple):
    """One window. No limit: there was none."""

    kind: WindowKind
    limit: int | None
    used: int
    resets_at: Instant


def usage_of(tx: Tx, asking: TenantId, ids: Sequence[DelegationId]) -> dict[DelegationId, list[Used]]:
    """The current windows of each delegation that its terms limit."""
    windows = windows_at(tx.now())
    current = or_(
        *(and_(UsageWindow.kind == each.kind, UsageWindow.starts_at == each.start) for each in windows)
    )
    # Each by itself as well: for a delegation's many windows both stores have an index of that alone.
    near = UsageWindow.kind.in_(list(WindowKind)), UsageWindow.starts_at.in_({each.start for each in windows})
    counted = and_(UsageWindow.delegation_id == Delegation.id, *near, current)
    rows = (
        select(TermsVersion, UsageWindow.kind, UsageWindow.used)
        .join(Delegation, in_force())
        .outerjoin(UsageWindow, counted)
        .where(Delegation.id.in_(ids), party_to(asking))
    )
    terms: dict[DelegationId, TermsVersion] = {}
    used: dict[tuple[DelegationId, WindowKind], int] = {}
    for row, kind, count in tx.execute(rows):
        terms[row.delegation_id] = row
        used[row.delegation_id, kind] = count
    return {
        id: [
            Used(kind, cap, used.get((id, kind), 0), _end(windows, kind)) for kind, cap in terms_of(row).caps
        ]
        for id, row in terms.items()
    }


def _end(windows: Iterable[Window], kind: WindowKind) -> Instant:
    return next(each.end for each in windows if each.kind is kind)


def usage_history(
    tx: Tx,
    asking: TenantId,
    ids: Sequence[DelegationId],
    kind: WindowKind,
    since: Instant | None,
    until: Instant | None,
) -> dict[DelegationId, list[Used]]:
    """The past windows of each delegation that have counted something, the newest first, 40 at most. They began at
    `since` or later and before `until`.
    """
    current = next(each.start for each in windows_at(tx.now()) if each.kind is kind)
    seen = select(Delegation.id).where(Delegation.id.in_(ids), party_to(asking))
    past = of_each(
        tx,
        seen,
        UsageWindow.delegation_id,
        UsageWindow.starts_at,
        HISTORY,
        backward=True,
        where=lambda window: [
            window.kind == kind,
            window.starts_at >= (since or 0),
            window.starts_at < min(current, until or current),
        ],
    )
    versions = _versions(tx, seen)
    found: dict[DelegationId, list[Used]] = {id: [] for id in ids}
    for row in past:
        end = _end(windows_at(row.starts_at), kind)
        limit = _cap(versions.get(row.delegation_id, ()), kind, end)
        found[row.delegation_id].append(Used(kind, limit, row.used, end))
    return found


def _versions(tx: Tx, seen: Select[DelegationId]) -> dict[DelegationId, list[TermsVersion]]:
    newest = TermsVersion.version > Delegation.terms_version - _VERSIONS
    rows = select(TermsVersion).join(Delegation, agreed()).where(Delegation.id.in_(seen), newest)
    found: dict[DelegationId, list[TermsVersion]] = {}
    for row in tx.scalars(rows.order_by(TermsVersion.version)):
        found.setdefault(row.delegation_id, []).append(row)
    return found


def _cap(versions: Sequence[TermsVersion], kind: WindowKind, end: Instant) -> int | None:
    """The limit when a window ended, by the last version that was in force by then; by the oldest known before that."""
    known = [row for row in versions if in_force_since(row) < end]
    by = known[-1] if known else next(iter(versions), None)
    return from_stored(by.constraints).cap(kind) if by else None
