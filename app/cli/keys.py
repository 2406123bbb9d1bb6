"""`crossgrant key`."""

from app.cli.store import or_fail, show, with_store
from app.identity.api_keys import grant_key
from app.rules.permissions import Role
from app.rules.tokens import TokenKind
from app.store.engine import Store
from app.store.keys import Keys


def create(tenant: str, role: Role, name: str, subject: str, *, as_json: bool) -> None:
    """Creates an API key with any role."""

    async def run(store: Store, keys: Keys) -> dict[str, str]:
        minted = keys.mint(TokenKind.API_KEY)
        key = or_fail(await store.write(grant_key, tenant, name, subject, role, minted))
        return {"apiKeyId": key.id, "tenantId": key.tenant_id, "role": key.role, "apiKey": minted.text}

    show(with_store(run), as_json=as_json)
