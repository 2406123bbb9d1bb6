"""`crossgrant key`. A key itself is shown once, where it is made."""

from app.cli.saying import fail
from app.cli.store import Shown, or_fail, show, show_all, with_store
from app.identity.api_keys import grant_key, keys_of, revoke_key
from app.rules.ids import ApiKeyId, Instant, prefix_of
from app.rules.instants import rfc3339
from app.rules.permissions import Role
from app.rules.tokens import TokenKind
from app.store.engine import Store
from app.store.keys import Keys
from app.store.tables import ApiKey


def create(tenant: str, role: Role, name: str, subject: str, *, as_json: bool) -> None:
    """Creates an API key with any role."""

    async def run(store: Store, keys: Keys) -> Shown:
        minted = keys.mint(TokenKind.API_KEY)
        key = or_fail(await store.write(grant_key, tenant, name, subject, role, minted))
        return {"apiKeyId": key.id, "tenantId": key.tenant_id, "role": key.role, "apiKey": minted.text}

    show("made", with_store(run), as_json=as_json)


def show_keys(tenant: str, *, as_json: bool) -> None:
    """Shows every key of a tenant, those that have ended too."""

    async def run(store: Store, _keys: Keys) -> list[ApiKey]:
        return or_fail(await store.read(keys_of, tenant))

    show_all([_shown(key) for key in with_store(run)], as_json=as_json)


def revoke(id: str, *, as_json: bool) -> None:
    """Ends a key."""
    if prefix_of(id) != "key":
        # It is not repeated: it may be the key itself.
        fail("KEY_ID is no key's id: those begin with key_; `crossgrant key list TENANT` shows them")

    async def run(store: Store, _keys: Keys) -> ApiKey:
        return or_fail(await store.write(revoke_key, None, ApiKeyId(id)))

    key = with_store(run)
    show("revoked", {"tenantId": key.tenant_id, **_shown(key)}, as_json=as_json)


def _shown(key: ApiKey) -> Shown:
    return {
        "apiKeyId": key.id,
        "role": key.role,
        "prefix": key.prefix,
        "name": key.name,
        "subject": key.subject,
        "createdAt": rfc3339(key.created_at),
        "expiresAt": _maybe(key.expires_at),
        "revokedAt": _maybe(key.revoked_at),
    }


def _maybe(at: Instant | None) -> str | None:
    return None if at is None else rfc3339(at)
