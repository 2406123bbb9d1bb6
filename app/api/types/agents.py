"""Agents: all of one's own, the public face of another's."""

import strawberry

from app.api.context import Info
from app.api.described import column, field, object_type
from app.api.scalars import JSON, Scope
from app.api.types.nodes import CountedConnection, Node
from app.api.types.tenants import Tenant, load_tenant
from app.delegations.lent import faces, lent_scopes
from app.rules.ids import AgentId, Instant
from app.rules.permissions import Permission
from app.store import tables


@object_type
class Agent(Node):
    """Something that acts or can be called.

    For another tenant `configuration`, `trustScore` and `tags` are null, and `scopes` are those that are lent to it.
    """

    row: strawberry.Private[tables.Agent]

    name: str = column("What its tenant calls it.")
    description: str = column("What it does.")
    created_at: Instant = column("When it was registered.")

    @field
    async def tenant(self, info: Info) -> Tenant:
        """The tenant that it belongs to."""
        return await load_tenant(info, self.row.tenant_id)

    @field
    async def scopes(self, info: Info) -> list[Scope]:
        """What it can do; for another tenant, what is lent to the viewer by delegations that have not ended."""
        scopes = self.row.scopes if self._mine(info) else await info.context.load(lent_scopes, self.row.id)
        return [Scope(scope) for scope in scopes]

    @field
    def configuration(self, info: Info) -> JSON | None:
        """What its tenant keeps with it. Null for others."""
        return self.row.configuration if self._mine(info) else None

    @field
    def trust_score(self, info: Info) -> int | None:
        """How far it is trusted, 0 to 100; null until that was reported, and for others."""
        reports = info.context.caller.may(Permission.TRUST)
        return self.row.trust_score if reports or self._mine(info) else None

    @field
    def tags(self, info: Info) -> list[str] | None:
        """Its tenant's own words for it. Null for others."""
        return self.row.tags if self._mine(info) else None

    def _mine(self, info: Info) -> bool:
        return self.row.tenant_id == info.context.tenant_id


AgentConnection = CountedConnection[Agent]


async def load_face(info: Info, id: AgentId) -> Agent:
    """The agent of something that the caller sees."""
    return Agent(row=await info.context.load(faces, id))
