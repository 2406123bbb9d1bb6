"""Who acts under a delegation, and with what."""

from typing import TYPE_CHECKING, Annotated

import strawberry

from app.api.context import Info
from app.api.described import column, field, object_type
from app.api.pages import Keyset, an_id
from app.api.types.agents import Agent, load_face
from app.api.types.nodes import CountedConnection, Node
from app.delegations.parts import tokens_of, trusted
from app.delegations.read import delegations, status_at
from app.rules.ids import Instant
from app.rules.lifecycle import Status
from app.store import tables

if TYPE_CHECKING:
    from app.api.types.delegations import Delegation

BINDINGS = Keyset("binding", an_id("bnd"))


@object_type
class ScopedToken(Node):
    """What a binding's agent shows at the proxy. Only its delegate sees that it exists."""

    row: strawberry.Private[tables.ScopedToken]
    binding: strawberry.Private[tables.Binding]

    prefix: str = column("Its beginning, to tell it from others.")
    created_at: Instant = column("When it was issued.")
    expires_at: Instant = column("When it ends by itself.")
    last_used_at: Instant | None = column("When it last opened the proxy, to the minute.")

    @field
    async def revoked_at(self, info: Info) -> Instant | None:
        """When it stopped opening anything: it was rotated, or its binding ended."""
        now = await info.context.now()
        ends = (self.row.rotated_at, self.binding.revoked_at)
        return min((end for end in ends if end is not None and end <= now), default=None)


@object_type
class Binding(Node):
    """One agent of the delegate, bound to one delegation. It ends with it, and never comes back."""

    row: strawberry.Private[tables.Binding]

    created_at: Instant = column("When it was made.")
    revoked_at: Instant | None = column("When it ended.")

    @field
    async def delegation(
        self, info: Info
    ) -> Annotated["Delegation", strawberry.lazy("app.api.types.delegations")]:
        """The delegation that it acts under."""
        from app.api.types.delegations import Delegation  # they show each other

        return Delegation(row=await info.context.load(delegations, self.row.delegation_id))

    @field
    async def agent(self, info: Info) -> Agent:
        """The delegate's agent that acts."""
        return await load_face(info, self.row.agent_id)

    @field
    async def usable(self, info: Info) -> bool:
        """Whether it can act now: it has not ended, its delegation is ACTIVE, and its agent is trusted enough."""
        delegation = await info.context.load(delegations, self.row.delegation_id)
        active = status_at(delegation, await info.context.now()) is Status.ACTIVE
        return active and self.row.revoked_at is None and await info.context.load(trusted, self.row.id)

    @field
    async def tokens(self, info: Info) -> list[ScopedToken]:
        """Its newest 20 tokens, oldest first. Empty for the delegator."""
        rows = await info.context.load(tokens_of, self.row.id)
        return [ScopedToken(row=row, binding=self.row) for row in rows]


BindingConnection = CountedConnection[Binding]
