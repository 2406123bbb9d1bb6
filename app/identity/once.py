"""`idempotencyKey`: of two requests that are the same the second gets what the first made, and never a secret again."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from sqlalchemy import select

from app.identity.callers import Caller
from app.identity.tenants import lock_tenant
from app.rules.errors import Code, Refusal
from app.rules.ids import DAY
from app.rules.permissions import Permission
from app.store.engine import Tx
from app.store.tables import Creation, Row

T = TypeVar("T")
R = TypeVar("R", bound=Row)

KEY_LIVES = DAY
_CHUNK = 500  # rows in one transaction


class Once(NamedTuple):
    """A key, hashed with its mutation and tenant, and the fingerprint of the input that it stands for."""

    hash: str
    fingerprint: str


class Repeat(NamedTuple, Generic[R]):
    """The row that the first request made, as it is now."""

    row: R


def once(
    tx: Tx,
    caller: Caller,
    permission: Permission,
    key: Once | None,
    make: Callable[[Tx], T | Refusal],
    kind: type[R],
    id_of: Callable[[T], str],
) -> T | Repeat[R] | Refusal:
    """Makes something, whose row is of this kind and id, unless the key has made it within 24 hours. A refusal leaves
    the key free.
    """
    caller.require(permission)
    if key is None:
        return make(tx)
    lock_tenant(tx, caller.tenant_id)  # of two at once one makes, and the other finds
    known = tx.get(Creation, (caller.tenant_id, key.hash), populate_existing=True)
    now = tx.now()
    if known is not None and known.created_at > now - KEY_LIVES:
        if known.fingerprint == key.fingerprint:
            return Repeat(tx.get_one(kind, known.made))
        message = "idempotencyKey was used for another input within 24 hours: use a new one"
        return Refusal(Code.IDEMPOTENCY_KEY_REUSED, message, ("idempotencyKey",))
    made = make(tx)
    if not isinstance(made, Refusal):
        row = known or Creation(tenant_id=caller.tenant_id, key_hash=key.hash)
        row.fingerprint, row.made, row.created_at = key.fingerprint, id_of(made), now
        tx.add(row)
    return made


def purge_creations(tx: Tx) -> int:
    """Drops keys past their day; returns how many."""
    old = Creation.created_at <= tx.now() - KEY_LIVES
    rows = list(tx.scalars(select(Creation).where(old).limit(_CHUNK).with_for_update(skip_locked=True)))
    for row in rows:
        tx.delete(row)
    return len(rows)
