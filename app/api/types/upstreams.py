"""A tenant's services, and what can be done in them."""

import strawberry

from app.api.context import Info
from app.api.described import column, field, given, object_type
from app.api.scalars import JSON, Scope
from app.api.types.enums import ResponseMode, UpstreamKind
from app.api.types.nodes import Node
from app.inventory.read import actions_of_upstreams
from app.proxy.endpoint import PREFIX
from app.rules.ids import Instant
from app.store import tables


@object_type
class Action(Node):
    """What one scope allows on one upstream: a method and a path template."""

    row: strawberry.Private[tables.Action]

    scope: Scope = column("The scope that allows it.")
    upstream_name: str = given("The upstream that it is performed in.")
    method: str | None = column("Its HTTP method.")
    path: str | None = column("Its path, with parameters in braces: `/v1/receipts/{id}`.")
    cost_units: int = column("What it counts for where costs are capped.")
    response_mode: ResponseMode = column("How its answer is passed on.")
    idempotent: bool = column("Whether doing it twice is the same as doing it once.")
    request_schema: JSON | None = column(
        "The JSON Schema of a request's body; what does not match is refused."
    )

    @field
    def url(self, info: Info) -> str:
        """Where a holder of a scoped token calls it on this gateway."""
        return f"{info.context.gateway.public_url}{PREFIX}{self.upstream_name}{self.row.path}"


@object_type
class Upstream(Node):
    """A service of the owning tenant, seen by nobody else. Its credential can be set and replaced, never read."""

    row: strawberry.Private[tables.Upstream]

    name: str = column("Its name in the addresses of its actions.")
    kind: UpstreamKind = column("What it speaks.")
    base_url: str = column("Where it is.")
    created_at: Instant = column("When it was registered.")

    sandbox_base_url: str | None = column("Where its sandbox is; SANDBOX delegations lead there alone.")
    guardrail_url: str | None = column("Who is asked about each action before it is sent.")

    @field
    def has_sandbox_credential(self) -> bool:
        """Whether the gateway has a credential for its sandbox."""
        return self.row.sealed_sandbox_credential is not None

    @field
    def has_credential(self) -> bool:
        """Whether the gateway has a credential for it."""
        return self.row.sealed_credential is not None

    @field
    async def actions(self, info: Info) -> list[Action]:
        """What can be done in it, oldest first."""
        rows = await info.context.load(actions_of_upstreams, self.row.id)
        return [Action(row=row, upstream_name=self.row.name) for row in rows]
