"""A tenant's delegations, page by page, with their states by the clock."""

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, case, func, literal, select
from sqlalchemy.orm import aliased

from app.delegations.read import sees_as, terms_hold
from app.rules.ids import AgentId, DelegationId, Instant, TenantId
from app.rules.lifecycle import Party, Status
from app.store.engine import Tx
from app.store.tables import Delegation, TermsVersion


@dataclass(frozen=True, slots=True)
class Filter:
    """Which delegations; None does not narrow."""

    side: Party
    statuses: list[Status] | None = None
    counterparty_id: TenantId | None = None
    agent_id: AgentId | None = None
    scope: str | None = None
    expires_before: Instant | None = None


class Listed(NamedTuple):
    """A page of delegations with the terms in force of each, and the clock by which they stand as they do."""

    rows: list[Delegation]
    terms: dict[DelegationId, TermsVersion]
    now: Instant


def page(
    tx: Tx,
    asking: TenantId,
    wanted: Filter,
    *,
    limit: int,
    after: DelegationId | None,
    before: DelegationId | None,
    backward: bool,
) -> Listed:
    """At most `limit` of them strictly between the ids, ascending, or descending where `backward`."""
    now = tx.now()
    some = select(Delegation).where(*_matching(asking, wanted, now))
    if after is not None:
        some = some.where(Delegation.id > after)
    if before is not None:
        some = some.where(Delegation.id < before)
    # Their terms once they are few: PostgreSQL would join all of them first.
    order = Delegation.id.desc() if backward else Delegation.id
    few = aliased(Delegation, some.order_by(order).limit(limit).subquery())
    terms = and_(TermsVersion.delegation_id == few.id, TermsVersion.version == few.terms_version)
    rows = select(few, TermsVersion).join(TermsVersion, terms)
    found = tx.execute(rows.order_by(few.id.desc() if backward else few.id)).all()
    return Listed([row for row, _ in found], {row.id: terms for row, terms in found}, now)


def count(tx: Tx, asking: TenantId, wanted: Filter, now: Instant) -> int:
    """How many there are."""
    rows = select(func.count()).select_from(Delegation)
    return tx.scalar(rows.where(*_matching(asking, wanted, now))) or 0


def _matching(asking: TenantId, wanted: Filter, now: Instant) -> list[ColumnElement[bool]]:
    is_delegator = wanted.side is Party.DELEGATOR
    theirs = Delegation.delegate_id if is_delegator else Delegation.delegator_id
    tests = [sees_as(wanted.side, asking)]
    if wanted.statuses is not None:
        tests.append(_standing(now).in_(wanted.statuses))
    if wanted.counterparty_id is not None:
        tests.append(theirs == wanted.counterparty_id)
    if wanted.agent_id is not None:
        tests.append(Delegation.agent_id == wanted.agent_id)
    if wanted.scope is not None:
        tests.append(terms_hold(literal(wanted.scope)))
    if wanted.expires_before is not None:
        tests.append(Delegation.expires_at < wanted.expires_before)
    return tests


def _standing(now: Instant) -> ColumnElement[Status]:
    """`rules.lifecycle.standing`, in SQL."""
    kind = Delegation.status.type
    lapses = (Delegation.offer_expires_at <= now) | (Delegation.expires_at <= now)
    ends = Delegation.status.in_((Status.ACTIVE, Status.SUSPENDED, Status.VALIDATING))
    return case(
        ((Delegation.status == Status.PENDING) & lapses, literal(Status.LAPSED, kind)),
        (ends & (Delegation.expires_at <= now), literal(Status.EXPIRED, kind)),
        else_=Delegation.status,
    )
