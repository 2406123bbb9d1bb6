"""What the proxy leaves to be done later: refusals that were only counted, and idempotency keys past their day."""

from sqlalchemy import select

from app.ledger.append import Fact, Side, append
from app.proxy.evidence import KEY_LIVES
from app.rules.entries import Event, Outcome
from app.rules.ids import MINUTE
from app.rules.instants import rfc3339
from app.store.engine import Tx
from app.store.tables import Binding, Delegation, IdempotencyKey, RefusalCount

_CHUNK = 500  # rows in one transaction


def flush_refusals(tx: Tx) -> int:
    """Writes one pair for each past minute's refusals beyond the first 60 of a binding and code (promise 6), and
    drops the counts of past minutes. Returns how many counts it dropped.
    """
    past = RefusalCount.minute < tx.now() // MINUTE * MINUTE
    some = list(tx.scalars(select(RefusalCount.delegation_id).where(past).distinct().limit(_CHUNK)))
    tx.lock(some)
    theirs = past, RefusalCount.delegation_id.in_(some)
    counts = list(tx.scalars(select(RefusalCount).where(*theirs).order_by(RefusalCount.delegation_id)))
    facts = [_fact(tx, count) for count in counts if count.counted]
    for count in counts:
        tx.delete(count)
    tx.flush()
    if facts:
        append(tx, facts)
    return len(counts)


def _fact(tx: Tx, count: RefusalCount) -> Fact:
    delegation = tx.get_one(Delegation, count.delegation_id)
    binding = tx.get_one(Binding, count.binding_id)
    return Fact(
        Event.DENIED,
        tx.now(),
        acting_tenant_id=delegation.delegate_id,
        target_tenant_id=delegation.delegator_id,
        sides=(Side(delegation.delegate_id), Side(delegation.delegator_id)),
        delegation_id=delegation.id,
        acting_agent_id=binding.agent_id,
        outcome=Outcome.REFUSED,
        code=count.code,
        details={"bindingId": binding.id, "count": count.counted, "minute": rfc3339(count.minute)},
    )


def purge_keys(tx: Tx) -> int:
    """Drops idempotency keys past their day; returns how many."""
    old = IdempotencyKey.created_at <= tx.now() - KEY_LIVES
    keys = list(tx.scalars(select(IdempotencyKey).where(old).limit(_CHUNK).with_for_update(skip_locked=True)))
    for key in keys:
        tx.delete(key)
    return len(keys)
