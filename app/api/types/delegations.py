"""The agreement between two tenants."""

from typing import Annotated

import strawberry

from app.api.context import Info
from app.api.described import argument, column, field, object_type
from app.api.pages import Keyset, an_id, log_of
from app.api.scalars import JSON, Scope
from app.api.types.agents import Agent, load_face
from app.api.types.audit import AuditEntry, audit_page, event_names
from app.api.types.bindings import BINDINGS, Binding
from app.api.types.enums import AcceptanceMode, Environment, Party, Status, WindowKind
from app.api.types.governed import Advice, UsageWindow
from app.api.types.nodes import (
    After,
    Before,
    Connection,
    CountedConnection,
    First,
    Last,
    Node,
    connection,
    id_of,
)
from app.api.types.tenants import Tenant, load_tenant
from app.api.types.terms import Constraints, Terms
from app.api.types.upstreams import Action
from app.delegations.advising import advice_on
from app.delegations.lent import actions_of
from app.delegations.parts import (
    bindings_counted,
    bindings_of,
    terms_history,
    terms_in_force,
    terms_proposed,
)
from app.delegations.read import status_at
from app.delegations.usage import usage_history, usage_of
from app.ledger.read import Found, Span, pages
from app.rules.ids import BindingId, Instant
from app.rules.permissions import Permission
from app.store import tables

DELEGATIONS = Keyset("delegation", an_id("dlg"))

_NOTHING = Found([], more=False, reached=None)


@object_type
class Delegation(Node):
    """The agreement: these scopes of this agent, within these limits, until this date."""

    row: strawberry.Private[tables.Delegation]
    #: Seen by its offer token alone: what it leads to is not shown yet.
    preview: strawberry.Private[bool] = False

    environment: Environment = column("Which address of the upstreams it leads to.")
    acceptance: AcceptanceMode = column("How it was offered.")
    offered_at: Instant = column("When it was offered.")
    offer_expires_at: Instant = column("When the offer lapses, or lapsed.")
    accepted_at: Instant | None = column("When it was accepted.")
    ended_at: Instant | None = column("When it ended.")
    ended_by: Party | None = column("Who ended it.")
    end_reason: str | None = column("Why, in the words of who ended it.")

    @field
    async def status(self, info: Info) -> Status:
        """Where it stands, by the clock."""
        return status_at(self.row, await info.context.now())

    @field
    async def delegator(self, info: Info) -> Tenant:
        """Whose agent is lent, and in whose services the delegate acts."""
        return await load_tenant(info, self.row.delegator_id)

    @field
    async def delegate(self, info: Info) -> Tenant:
        """Whom it is lent to: who acts."""
        return await load_tenant(info, self.row.delegate_id)

    @field
    async def agent(self, info: Info) -> Agent:
        """The agent that is lent."""
        return await load_face(info, self.row.agent_id)

    @field
    async def terms(self, info: Info) -> Terms:
        """The terms in force."""
        return Terms(row=await info.context.load(terms_in_force, self.row.id))

    @field
    async def proposed_terms(self, info: Info) -> Terms | None:
        """Terms with more scopes, which wait for the delegate to acknowledge them; the next amendment discards them."""
        row = await info.context.find(terms_proposed, self.row.id)
        return Terms(row=row) if row else None

    @field
    async def terms_history(self, info: Info) -> list[Terms]:
        """The newest 40 versions of the terms that have been in force, oldest first."""
        return [Terms(row=row) for row in await info.context.load(terms_history, self.row.id)]

    @field
    async def scopes(self, info: Info) -> list[Scope]:
        """What is lent, by the terms in force."""
        terms = await info.context.load(terms_in_force, self.row.id)
        return [Scope(scope) for scope in terms.scopes]

    @field
    async def constraints(self, info: Info) -> Constraints:
        """Within which limits, by the terms in force."""
        return Constraints.of(await info.context.load(terms_in_force, self.row.id))

    @field
    async def metadata(self, info: Info) -> JSON:
        """What the delegator says of it, by the terms in force."""
        return JSON((await info.context.load(terms_in_force, self.row.id)).metadata_)

    @field
    async def actions(self, info: Info) -> list[Action]:
        """What it allows: actions of the delegator with a lent scope that the agent holds. None once it has ended."""
        named = await info.context.load(actions_of, self.row.id)
        return [Action(row=row, upstream_name=name) for row, name in named]

    @field
    async def bindings(
        self, info: Info, first: First = None, after: After = None
    ) -> CountedConnection[Binding]:
        """Who acts under it, also who did, oldest first."""
        page = BINDINGS.page(first=first, after=after)
        rows: list[tables.Binding] = []
        if not self.preview:
            start = BindingId(page.after) if page.after else None
            rows = await info.context.load(bindings_of, self.row.id, page.limit + 1, start)
        shown = BINDINGS.slice(rows, page, id_of)
        return CountedConnection(
            page=connection(BINDINGS, shown, id_of, lambda row: Binding(row=row)),
            count=lambda: self._bindings(info),
        )

    @field
    async def binding_count(self, info: Info) -> int:
        """How many bindings it has, also ended ones."""
        return await self._bindings(info)

    @field
    async def usage(self, info: Info) -> list[UsageWindow]:
        """What is used of each limit that the terms in force have."""
        rows = [] if self.preview else await info.context.load(usage_of, self.row.id)
        return [UsageWindow(row=row) for row in rows]

    @field
    async def usage_history(
        self,
        info: Info,
        kind: Annotated[WindowKind, argument("Which windows.")],
        since: Annotated[Instant | None, argument("Those that began then or later.")] = None,
        until: Annotated[Instant | None, argument("Those that began before.")] = None,
    ) -> list[UsageWindow]:
        """Past windows in which something was counted, newest first: 40 at most, and `until` goes on from there."""
        if self.preview:
            return []
        rows = await info.context.load(usage_history, self.row.id, kind, since, until)
        return [UsageWindow(row=row) for row in rows]

    @field
    async def advice(self, info: Info) -> list[Advice]:
        """What would be good practice, and is not so. Nothing once it has ended."""
        return [Advice(row=row) for row in await info.context.load(advice_on, self.row.id)]

    @field
    async def audit(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        events: Annotated[
            list[str] | None, argument("Only these: names or globs such as `binding.*`.")
        ] = None,
    ) -> Connection[AuditEntry]:
        """What the viewer's tenant's log says of it, ascending. Needs the permission `audit:read`."""
        info.context.caller.require(Permission.AUDIT)
        log = log_of(info.context.tenant_id)
        page = log.page(first=first, after=after, last=last, before=before)
        wanted = event_names("events", events)
        if self.preview:
            return audit_page(log, _NOTHING, page)
        span = Span(page.limit, page.after, page.before, page.backward)
        return audit_page(log, await info.context.load(pages, self.row.id, wanted, span), page)

    async def _bindings(self, info: Info) -> int:
        return 0 if self.preview else await info.context.load(bindings_counted, self.row.id)


DelegationConnection = CountedConnection[Delegation]
