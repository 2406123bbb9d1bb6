"""`crossgrant tenant`."""

from app.cli.saying import say
from app.cli.store import Shown, or_fail, show, show_all, with_store
from app.delegations.offers import outgoing, outgoing_of_all
from app.identity.plans import Plans, load_plans
from app.identity.tenants import all_tenants, change_plan, create_tenant
from app.rules.errors import Refusal
from app.rules.tokens import TokenKind
from app.settings import load
from app.store.engine import Store, Tx
from app.store.keys import Keys
from app.store.tables import Tenant

_MOST = "maxActiveOutgoing"


def create(slug: str, name: str, plan: str, *, as_json: bool) -> None:
    """Creates a tenant and an owner's API key."""

    async def run(store: Store, keys: Keys) -> Shown:
        minted = keys.mint(TokenKind.API_KEY)
        tenant = or_fail(await store.write(create_tenant, slug, name, plan, minted, load_plans(load())))
        return {"tenantId": tenant.id, "slug": tenant.slug, "apiKey": minted.text}

    show("made", with_store(run, makes=True), as_json=as_json)


def show_tenants(*, as_json: bool) -> None:
    """Shows every tenant, and how much of its plan it uses."""

    async def run(store: Store, _keys: Keys) -> list[Shown]:
        return await store.read(_all, load_plans(load()))

    tenants = with_store(run)
    show_all(tenants, as_json=as_json)
    if planless := [f"{each['slug']} ({each['plan']})" for each in tenants if each[_MOST] is None]:
        say(
            f"not in the file of plans: {', '.join(planless)}: no gateway starts until CROSSGRANT_PLANS names a file "
            "that has each tenant's plan, or `crossgrant tenant plan TENANT PLAN` has given them another"
        )
    if not tenants:
        say("there is no tenant yet: `crossgrant tenant create SLUG --name NAME` makes one")


def _all(tx: Tx, plans: Plans) -> list[Shown]:
    used = outgoing_of_all(tx, tx.now())
    return [_shown(tenant, used.get(tenant.id, 0), plans) for tenant in all_tenants(tx)]


def set_plan(tenant: str, plan: str, *, as_json: bool) -> None:
    """Gives a tenant a plan, and says so where it has more than that allows."""

    async def run(store: Store, _keys: Keys) -> tuple[Tenant, int, Plans]:
        plans = load_plans(load())
        return *or_fail(await store.write(_set_plan, tenant, plan, plans)), plans

    row, used, plans = with_store(run)
    show("changed", _shown(row, used, plans), as_json=as_json)
    if used >= (most := plans[plan]):
        say(
            f"{row.slug} has {used} delegations that it offered and that have not ended, and the plan {plan} "
            f"allows {most}: they stay, and new offers are refused (PLAN_LIMIT) while there are {most} or more"
        )


def _set_plan(tx: Tx, tenant: str, plan: str, plans: Plans) -> tuple[Tenant, int] | Refusal:
    row = change_plan(tx, tenant, plan, plans)
    return row if isinstance(row, Refusal) else (row, outgoing(tx, row.id, tx.now()))


def _shown(tenant: Tenant, used: int, plans: Plans) -> Shown:
    return {
        "tenantId": tenant.id,
        "slug": tenant.slug,
        "name": tenant.name,
        "plan": tenant.plan,
        "activeOutgoing": used,
        # Nobody knows what a plan allows that is not in the file; `serve` does not start with such a tenant.
        _MOST: plans.get(tenant.plan),
    }
