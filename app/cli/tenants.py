"""`crossgrant tenant`."""

from app.cli.store import Shown, or_fail, show, with_store
from app.identity.plans import load_plans
from app.identity.tenants import create_tenant
from app.rules.tokens import TokenKind
from app.settings import load
from app.store.engine import Store
from app.store.keys import Keys


def create(slug: str, name: str, plan: str, *, as_json: bool) -> None:
    """Creates a tenant and an owner's API key."""

    async def run(store: Store, keys: Keys) -> Shown:
        minted = keys.mint(TokenKind.API_KEY)
        tenant = or_fail(await store.write(create_tenant, slug, name, plan, minted, load_plans(load())))
        return {"tenantId": tenant.id, "slug": tenant.slug, "apiKey": minted.text}

    show("made", with_store(run), as_json=as_json)
