"""Tenants: made by the command line, with an owner's key that is shown once, and given their plans by it."""

import re

from sqlalchemy import select, update

from app.identity.plans import Plans
from app.rules.errors import Code, Refusal
from app.rules.ids import ApiKeyId, TenantId
from app.rules.permissions import Role
from app.rules.texts import refuse_text
from app.store.engine import Tx
from app.store.keys import Minted, new_id
from app.store.tables import ApiKey, LedgerHead, Tenant

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def create_tenant(
    tx: Tx, slug: str, name: str, plan: str, owner_key: Minted, plans: Plans
) -> Tenant | Refusal:
    """A tenant, its ledger, and an owner's key."""
    if refusal := _refuse(tx, slug, name, plan, plans):
        return refusal
    now = tx.now()
    tenant = Tenant(
        id=TenantId(new_id("ten")), slug=slug, name=name, plan=plan, created_at=now, routes_revision=0
    )
    tx.add(tenant)
    tx.add(LedgerHead(tenant_id=tenant.id, seq=0))
    tx.flush()
    tx.add(
        ApiKey(
            id=ApiKeyId(new_id("key")),
            tenant_id=tenant.id,
            name="owner",
            subject="owner",
            prefix=owner_key.prefix,
            key_hash=owner_key.hash,
            role=Role.OWNER,
            created_at=now,
        )
    )
    return tenant


def _refuse(tx: Tx, slug: str, name: str, plan: str, plans: Plans) -> Refusal | None:
    if not _SLUG.fullmatch(slug):
        message = f"slug {slug!r}: give 1 to 63 lower-case letters, digits and inner hyphens, as in acme-corp"
        return Refusal(Code.INVALID, message, ("slug",))
    if refusal := _refuse_plan(plan, plans):
        return refusal
    if tx.scalars(select(Tenant.id).where(Tenant.slug == slug)).first():
        return Refusal(Code.TAKEN, f"slug {slug!r} is taken: choose another", ("slug",))
    return refuse_text("name", name)


def _refuse_plan(plan: str, plans: Plans) -> Refusal | None:
    if plan in plans:
        return None
    return Refusal(Code.INVALID, f"plan {plan!r}: give one of {', '.join(plans)}", ("plan",))


def change_plan(tx: Tx, slug_or_id: str, plan: str, plans: Plans) -> Tenant | Refusal:
    """Gives a tenant a plan, which its next offer is counted by. What it has offered stays, whatever that allows."""
    tenant = find_tenant(tx, slug_or_id)
    if isinstance(tenant, Refusal):
        return tenant
    if refusal := _refuse_plan(plan, plans):
        return refusal
    # In a statement of its own, whatever has been read: it waits for an offer that counts meanwhile (`lock_tenant`).
    tx.execute(update(Tenant).where(Tenant.id == tenant.id).values(plan=plan))
    return tenant


def all_tenants(tx: Tx) -> list[Tenant]:
    """Every tenant, by its slug: for the command line."""
    return [*tx.scalars(select(Tenant).order_by(Tenant.slug))]


def find_tenant(tx: Tx, slug_or_id: str) -> Tenant | Refusal:
    """A tenant by its slug or its id, as the command line is given it."""
    if refusal := refuse_text("tenant", slug_or_id):
        return refusal
    either = (Tenant.slug == slug_or_id) | (Tenant.id == slug_or_id)
    found = tx.scalars(select(Tenant).where(either)).one_or_none()
    if found is None:
        return Refusal(
            Code.NOT_FOUND, f"there is no tenant {slug_or_id!r}: give a slug or an id", ("tenant",)
        )
    return found


def lock_tenant(tx: Tx, id: TenantId) -> Tenant:
    """The tenant's row, locked: whoever counts what it has, and adds to it, is alone. First in the order of locks."""
    return tx.scalars(select(Tenant).where(Tenant.id == id).with_for_update(key_share=True)).one()
