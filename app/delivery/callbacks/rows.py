"""The rows: made when a router has agreed, owned by one process at a time, gone when the subscription has ended.

A process owns what carries its boot id. Others take it once that process is gone, which they know by its lock as they
know whose dispatches to settle (`store/boots.py`): so a subscription that has nothing to say costs no statement, where
a lease would cost one per row and second. Whoever is not the owner any more saves nothing: each write names the owner.
"""

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Table, bindparam, case, delete, func, or_, select, update

from app.delivery.callbacks.asked import MOST_HEARTBEATS, MOST_SUBSCRIPTIONS, Asked
from app.identity.callers import Caller
from app.identity.tenants import lock_tenant
from app.rules.errors import Code, Refusal
from app.rules.ids import BootId, CallbackId, TenantId
from app.store.boots import is_gone
from app.store.engine import Tx
from app.store.keys import Keys, new_id
from app.store.tables import CallbackSubscription

_CHUNK = 500  # rows in one statement

_TABLE = cast(Table, CallbackSubscription.__table__)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a subscription runs. `variables` is JSON. It begins after `seq`."""

    query: str
    variables: str
    name: str | None
    seq: int


def register(
    tx: Tx, caller: Caller, keys: Keys, mine: BootId, asked: Asked, ran: Ran
) -> CallbackSubscription | Refusal:
    """A new subscription of the caller's tenant, or the same one again where the router repeats itself."""
    lock_tenant(tx, caller.tenant_id)
    if known := _known(tx, caller.tenant_id, asked):
        return known if _is_same(known, caller, keys, asked, ran) else _taken()
    if refusal := _refuse_many(tx, caller.tenant_id, asked):
        return refusal
    row = CallbackSubscription(
        id=CallbackId(new_id("cbs")),
        tenant_id=caller.tenant_id,
        key_id=caller.key_id,
        role=caller.role,
        subscription_id=asked.subscription_id,
        url=asked.url,
        heartbeat_ms=asked.heartbeat,
        query=ran.query,
        variables=ran.variables,
        operation_name=ran.name,
        seq=ran.seq,
        boot_id=mine,
        created_at=tx.now(),
    )
    row.sealed_verifier = keys.seal(asked.verifier.encode(), row.tenant_id, row.id)
    tx.add(row)
    return row


def verifier_of(row: CallbackSubscription, keys: Keys) -> str:
    """What the router knows us by."""
    return keys.open(row.sealed_verifier, row.tenant_id, row.id).decode()


def _known(tx: Tx, tenant_id: TenantId, asked: Asked) -> CallbackSubscription | None:
    named = (
        CallbackSubscription.subscription_id == asked.subscription_id,
        CallbackSubscription.url == asked.url,
    )
    rows = select(CallbackSubscription).where(CallbackSubscription.tenant_id == tenant_id, *named)
    return tx.scalars(rows.with_for_update()).one_or_none()


def _is_same(row: CallbackSubscription, caller: Caller, keys: Keys, asked: Asked, ran: Ran) -> bool:
    has = (row.key_id, row.query, row.variables, row.operation_name, row.heartbeat_ms, verifier_of(row, keys))
    return has == (caller.key_id, ran.query, ran.variables, ran.name, asked.heartbeat, asked.verifier)


def _taken() -> Refusal:
    message = (
        "extensions.subscription.subscriptionId names another subscription at this callbackUrl: "
        "give each its own, as a UUID is"
    )
    return Refusal(Code.BAD_USER_INPUT, message)


def _refuse_many(tx: Tx, tenant_id: TenantId, asked: Asked) -> Refusal | None:
    each = CallbackSubscription.heartbeat_ms
    beats = func.coalesce(func.sum(case((each > 0, 1_000.0 / each), else_=0.0)), 0.0)
    mine = select(func.count(), beats).where(CallbackSubscription.tenant_id == tenant_id)
    count, heartbeats = tx.execute(mine).one()
    if count >= MOST_SUBSCRIPTIONS:
        return Refusal(
            Code.RATE_LIMITED,
            f"your tenant has {count} subscriptions over callbacks, the most it may: end one first",
        )
    if heartbeats + asked.heartbeats > MOST_HEARTBEATS:
        return Refusal(
            Code.RATE_LIMITED,
            f"your tenant's {count} subscriptions over callbacks ask for {heartbeats:.0f} heartbeats a second, and "
            f"{MOST_HEARTBEATS} is the most: give a longer heartbeatIntervalMs",
        )
    return None


@dataclass(frozen=True, slots=True)
class Look:
    """What this process owns, and whose can be taken: nobody's, and those of processes that are gone."""

    owned: Set[CallbackId]
    free: Sequence[BootId | None]


def look(tx: Tx, mine: BootId) -> Look:
    """Looks whether anything was taken away, or is there to be taken."""
    owned = select(CallbackSubscription.id).where(CallbackSubscription.boot_id == mine)
    others = select(CallbackSubscription.boot_id).distinct()
    found = (boot_id for boot_id in tx.scalars(others).all() if boot_id != mine)
    free = [boot_id for boot_id in found if boot_id is None or is_gone(tx, boot_id)]
    return Look(set(tx.scalars(owned)), free)


def claim(tx: Tx, mine: BootId, free: Sequence[BootId | None]) -> list[CallbackSubscription]:
    """Takes some of those; two processes at it do not wait for each other."""
    gone = CallbackSubscription.boot_id.in_([boot_id for boot_id in free if boot_id is not None])
    rows = select(CallbackSubscription).where(or_(gone, CallbackSubscription.boot_id.is_(None)))
    locked = rows.order_by(CallbackSubscription.id).limit(_CHUNK).with_for_update(skip_locked=True)
    taken = list(tx.scalars(locked))
    for row in taken:
        row.boot_id = mine
    return taken


def rows_of(tx: Tx, mine: BootId, ids: Collection[CallbackId]) -> list[CallbackSubscription]:
    """Of these some that this process owns."""
    some = CallbackSubscription.id.in_(sorted(ids)[:_CHUNK]), CallbackSubscription.boot_id == mine
    return list(tx.scalars(select(CallbackSubscription).where(*some)))


_MOVED = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("of"), _TABLE.c.boot_id == bindparam("by"))
    .values(seq=bindparam("to"))
)


def save(tx: Tx, mine: BootId, reached: Mapping[CallbackId, int], ended: Collection[CallbackId]) -> None:
    """Says how far this process's have been taken, and drops those that have ended."""
    gone = sorted(ended)
    for at in range(0, len(gone), _CHUNK):
        some = CallbackSubscription.id.in_(gone[at : at + _CHUNK])
        tx.execute(delete(_TABLE).where(some, CallbackSubscription.boot_id == mine))
    if reached:
        tx.execute(_MOVED, [{"of": id, "by": mine, "to": seq} for id, seq in sorted(reached.items())])


def release(tx: Tx, mine: BootId) -> None:
    """Gives up all that this process owns: it is about to stop."""
    tx.execute(update(_TABLE).where(_TABLE.c.boot_id == mine).values(boot_id=None))
