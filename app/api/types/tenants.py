"""Who is calling, and who else there is."""

import strawberry

from app.api.context import Info
from app.api.described import column, field, given, object_type
from app.api.types.enums import Role
from app.api.types.nodes import Node
from app.delegations.offers import outgoing
from app.identity.callers import Caller
from app.identity.read import tenants
from app.rules.ids import Instant, TenantId
from app.rules.permissions import PERMISSIONS
from app.store import tables


@object_type
class Tenant(Node):
    """An organization, as any counterparty may see it."""

    row: strawberry.Private[tables.Tenant]

    slug: str = column("Its short name, unique on this gateway.")
    name: str = column("What people call it.")


async def load_tenant(info: Info, id: TenantId) -> Tenant:
    """A tenant that something points to."""
    return Tenant(row=await info.context.load(tenants, id))


@object_type
class Plan:
    """What a tenant may have."""

    row: strawberry.Private[tables.Tenant]

    name: str = given("The plan's name.")

    @field
    def max_active_outgoing(self, info: Info) -> int:
        """Most delegations that it may have offered and that have not ended."""
        return info.context.gateway.plans.get(self.row.plan, 0)

    @field
    async def active_outgoing(self, info: Info) -> int:
        """How many those are now."""
        return await info.context.read(outgoing, self.row.id, await info.context.now())


@object_type
class Viewer:
    """Who is calling."""

    row: strawberry.Private[Caller]

    subject: str = column("The user or service that the key speaks for.")
    role: Role = column("What the key may do.")

    @field
    async def tenant(self, info: Info) -> Tenant:
        """The tenant that it belongs to."""
        return await load_tenant(info, self.row.tenant_id)

    @field
    def permissions(self) -> list[str]:
        """The same, one by one."""
        return sorted(PERMISSIONS[self.row.role])

    @field
    async def plan(self, info: Info) -> Plan:
        """What the tenant may have."""
        row = await info.context.load(tenants, self.row.tenant_id)
        return Plan(row=row, name=row.plan)


@object_type
class ApiKey(Node):
    """A key speaks for one subject, a user or a service, of one tenant."""

    row: strawberry.Private[tables.ApiKey]

    name: str = column("What it is for.")
    subject: str = column("Whom it speaks for.")
    prefix: str = column("Its beginning, to tell it from others.")
    role: Role = column("What it may do.")
    created_at: Instant = column("When it was made.")
    expires_at: Instant | None = column("When it ends by itself.")
    last_used_at: Instant | None = column("When it was last used; some seconds late.")
    revoked_at: Instant | None = column("When it was revoked.")
