"""From an API key to a caller."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select

from app.rules.errors import Forbidden, Unauthenticated
from app.rules.ids import ApiKeyId, Instant, TenantId
from app.rules.permissions import PERMISSIONS, Permission, Role, roles_with
from app.store.engine import Tx
from app.store.tables import ApiKey

_MOST = 1_000  # keys in one statement
_LIVING = select(ApiKey.id, ApiKey.tenant_id, ApiKey.subject, ApiKey.role, ApiKey.expires_at)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling. `expires_at` is when the key ends by itself, if it does."""

    key_id: ApiKeyId
    tenant_id: TenantId
    subject: str
    role: Role
    expires_at: Instant | None

    def may(self, permission: Permission) -> bool:
        """Whether the caller's role has the permission."""
        return permission in PERMISSIONS[self.role]

    def require(self, permission: Permission) -> None:
        """Raises Forbidden without the permission."""
        if not self.may(permission):
            raise Forbidden(
                f"your key's role {self.role} lacks the permission {permission}: "
                f"use a key of the role {roles_with(permission)}"
            )


def find_caller(tx: Tx, key_hash: str) -> Caller | None:
    """The caller of a key, or None where the key is unknown, revoked or expired."""
    return _caller(tx, tx.first_seen(select(ApiKey).where(ApiKey.key_hash == key_hash)))


def recheck(tx: Tx, caller: Caller) -> Caller:
    """The caller as they stand now. Raises Unauthenticated where their key has ended."""
    found = _caller(tx, tx.first_seen(select(ApiKey).where(ApiKey.id == caller.key_id)))
    if found is None:
        raise Unauthenticated("your API key has been revoked or has expired: ask an owner for a new one")
    return found


def recheck_at_end(tx: Tx, caller: Caller) -> None:
    """The same once a flow has done its work, unless it was what ended the key. Raises Unauthenticated.

    While the flow waited for locks the key may have been revoked. From here on it cannot be: who appended holds the
    tenant's ledger head, and a revocation appends there too.
    """
    tx.flush()
    if caller.key_id not in tx.facts.revoked:
        recheck(tx, caller)


def standing(tx: Tx, keys: Collection[ApiKeyId]) -> dict[ApiKeyId, Caller]:
    """Of these keys those that have not ended, with their callers: a statement for each thousand."""
    found: dict[ApiKeyId, Caller] = {}
    ids, now = sorted(keys), tx.now()
    for at in range(0, len(ids), _MOST):
        rows = tx.execute(_LIVING.where(ApiKey.id.in_(ids[at : at + _MOST]), ApiKey.revoked_at.is_(None)))
        callers = (Caller(*row) for row in rows)
        found.update((each.key_id, each) for each in callers if not _is_past(each.expires_at, now))
    return found


def _caller(tx: Tx, key: ApiKey | None) -> Caller | None:
    if key is None or key.revoked_at is not None:
        return None
    if _is_past(key.expires_at, tx.now()):
        return None
    return Caller(key.id, key.tenant_id, key.subject, key.role, key.expires_at)


def _is_past(expires_at: Instant | None, now: Instant) -> bool:
    return expires_at is not None and expires_at <= now
