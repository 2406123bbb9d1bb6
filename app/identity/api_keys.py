"""API keys: made and revoked by an owner, never above one's own role."""

from collections.abc import Iterable

from sqlalchemy import func, or_, select

from app.identity.callers import Caller
from app.identity.tenants import find_tenant, lock_tenant
from app.ledger.append import Fact, append, own
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.ids import ApiKeyId, Instant, TenantId
from app.rules.permissions import Permission, Role, may_give
from app.rules.texts import refuse_text
from app.store.engine import Tx
from app.store.keys import Minted, new_id
from app.store.tables import ApiKey

MOST_KEYS = 200  # of one tenant, not revoked
_LISTED = 1_000

_NOT_YOURS = "apiKeyId names no key of your tenant"
_UNKNOWN = "there is no key with this id: `crossgrant key list TENANT` shows those of a tenant"

#: Who made what the command line made, in the ledger.
COMMAND_LINE = "command-line"


def create_key(
    tx: Tx,
    caller: Caller,
    *,
    name: str,
    subject: str | None,
    role: Role,
    expires_at: Instant | None,
    minted: Minted,
) -> ApiKey | Refusal:
    """A key of the caller's tenant; `subject` is the caller's own where none is given."""
    caller.require(Permission.KEYS)
    if not may_give(caller.role, role):
        message = f"a key with the role {role} cannot be made with your role {caller.role}"
        return Refusal(Code.ROLE_TOO_HIGH, message + _operators(role, "create"), ("role",))
    if refusal := refuse_text("name", name) or refuse_text(
        "subject", caller.subject if subject is None else subject
    ):
        return refusal
    lock_tenant(tx, caller.tenant_id)
    now = tx.now()
    if expires_at is not None and expires_at <= now:
        return Refusal(Code.EXPIRY_INVALID, "expiresAt is in the past: give a later instant", ("expiresAt",))
    living = ApiKey.tenant_id == caller.tenant_id, ApiKey.revoked_at.is_(None)
    if (tx.scalar(select(func.count()).select_from(ApiKey).where(*living)) or 0) >= MOST_KEYS:
        return Refusal(Code.LIMIT_REACHED, f"your tenant has {MOST_KEYS} keys: revoke one first")
    key = _make(tx, caller.tenant_id, name, subject or caller.subject, role, expires_at, minted, now)
    append(tx, [_entry(Event.API_KEY_CREATED, key, caller.subject, now)])
    return key


def grant_key(tx: Tx, tenant: str, name: str, subject: str, role: Role, minted: Minted) -> ApiKey | Refusal:
    """A key by the command line, for a tenant's slug or id: also of the roles that nobody gives over GraphQL."""
    found = find_tenant(tx, tenant)
    if isinstance(found, Refusal):
        return found
    if refusal := refuse_text("name", name) or refuse_text("subject", subject):
        return refusal
    now = tx.now()
    key = _make(tx, found.id, name, subject, role, None, minted, now)
    append(tx, [_entry(Event.API_KEY_CREATED, key, COMMAND_LINE, now)])
    return key


def _make(
    tx: Tx,
    tenant_id: TenantId,
    name: str,
    subject: str,
    role: Role,
    expires_at: Instant | None,
    minted: Minted,
    now: Instant,
) -> ApiKey:
    key = ApiKey(
        id=ApiKeyId(new_id("key")),
        tenant_id=tenant_id,
        name=name,
        subject=subject,
        prefix=minted.prefix,
        key_hash=minted.hash,
        role=role,
        created_at=now,
        expires_at=expires_at,
    )
    tx.add(key)
    tx.flush()
    return key


def revoke_key(tx: Tx, caller: Caller | None, key_id: ApiKeyId) -> ApiKey | Refusal:
    """Ends a key at once; a repeat answers like the first. A tenant's last owner's key stays.

    `caller` is None for the command line, which ends keys of every tenant and every role.
    """
    if caller is not None:
        caller.require(Permission.KEYS)
    keys = _beside(tx, caller, key_id)
    key = keys.get(key_id)
    if key is None:
        return Refusal(Code.NOT_FOUND, _UNKNOWN if caller is None else _NOT_YOURS, ("apiKeyId",))
    if key.revoked_at is not None:
        return key
    now = tx.now()
    if refusal := _refuse_role(caller, key) or _refuse_last(key, keys.values(), now):
        return refusal
    key.revoked_at = now
    tx.facts.revoked.add(key.id)
    append(tx, [_entry(Event.API_KEY_REVOKED, key, caller.subject if caller else COMMAND_LINE, now)])
    return key


def _beside(tx: Tx, caller: Caller | None, key_id: ApiKeyId) -> dict[ApiKeyId, ApiKey]:
    # All that live, for one of them has to stay an owner's; of what was revoked only the one that is asked for.
    known = select(ApiKey.tenant_id).where(ApiKey.id == key_id)
    tenant_id = tx.scalar(known) if caller is None else caller.tenant_id
    wanted = ApiKey.tenant_id == tenant_id, or_(ApiKey.revoked_at.is_(None), ApiKey.id == key_id)
    rows = select(ApiKey).where(*wanted).order_by(ApiKey.id).with_for_update()
    return {key.id: key for key in tx.scalars(rows)}


def _refuse_role(caller: Caller | None, key: ApiKey) -> Refusal | None:
    if caller is None or may_give(caller.role, key.role):
        return None
    message = f"a key with the role {key.role} cannot be revoked with your role {caller.role}"
    return Refusal(Code.ROLE_TOO_HIGH, message + _operators(key.role, "revoke"), ("apiKeyId",))


def _operators(role: Role, command: str) -> str:
    if may_give(Role.OWNER, role):
        return ""
    return f": the gateway's operator does so with `crossgrant key {command}`"


def _refuse_last(key: ApiKey, keys: Iterable[ApiKey], now: Instant) -> Refusal | None:
    if not _owns(key, now) or any(_owns(other, now) for other in keys if other is not key):
        return None
    message = "this is the tenant's last owner's key: make another before you revoke it"
    return Refusal(Code.WRONG_STATE, message, ("apiKeyId",))


def _owns(key: ApiKey, now: Instant) -> bool:
    return (
        key.role is Role.OWNER and key.revoked_at is None and (key.expires_at is None or key.expires_at > now)
    )


def _entry(event: Event, key: ApiKey, actor: str, now: Instant) -> Fact:
    details = {"apiKeyId": key.id, "name": key.name, "subject": key.subject, "role": key.role.value}
    return own(event, key.tenant_id, actor, now, **details)


def touch_keys(tx: Tx, used: dict[ApiKeyId, Instant]) -> None:
    """Records when keys were last used; called once in a while, never per request."""
    for key_id, at in sorted(used.items()):
        if key := tx.get(ApiKey, key_id):
            key.last_used_at = max(at, key.last_used_at or at)


def list_keys(tx: Tx, caller: Caller) -> list[ApiKey]:
    """The newest keys of the caller's tenant, oldest first."""
    caller.require(Permission.KEYS_READ)
    mine = (
        select(ApiKey).where(ApiKey.tenant_id == caller.tenant_id).order_by(ApiKey.id.desc()).limit(_LISTED)
    )
    return [*reversed(tx.scalars(mine).all())]


def keys_of(tx: Tx, tenant: str) -> list[ApiKey] | Refusal:
    """Every key of a tenant, given by its slug or id, oldest first: for the command line."""
    found = find_tenant(tx, tenant)
    if isinstance(found, Refusal):
        return found
    return [*tx.scalars(select(ApiKey).where(ApiKey.tenant_id == found.id).order_by(ApiKey.id))]
