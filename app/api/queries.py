"""What can be read. Each field asks for the permission, and reads as the caller's tenant."""

import asyncio
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Annotated

import strawberry

from app.api.context import Info
from app.api.described import argument, field, object_type
from app.api.finding import find_a, find_node
from app.api.inputs.filters import AuditFilter, DelegationFilter
from app.api.inputs.names import as_id, maybe_id
from app.api.inputs.work import ExplainDispatchInput
from app.api.pages import Keyset, an_id, log_of
from app.api.requested import requested
from app.api.types.agents import Agent
from app.api.types.audit import AuditEntry, audit_page, event_names
from app.api.types.bindings import Binding
from app.api.types.delegations import DELEGATIONS, Delegation
from app.api.types.dispatches import DISPATCHES, Dispatch
from app.api.types.enums import Direction
from app.api.types.governed import Decision
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
from app.api.types.tenants import ApiKey, Viewer
from app.api.types.upstreams import Upstream
from app.api.types.webhooks import WebhookEndpoint
from app.delegations import lent, lists
from app.delegations.acceptance import preview
from app.delegations.parts import terms_in_force
from app.delivery.webhooks.read import list_endpoints
from app.identity.api_keys import list_keys
from app.inventory.read import agents_page, count_agents
from app.inventory.upstreams import list_upstreams
from app.ledger import read as ledger
from app.proxy.explaining import Question, case, explain
from app.proxy.read import dispatches_page
from app.rules import texts
from app.rules.errors import BadInput, Refusal
from app.rules.ids import ActionId, AgentId, DelegationId, DispatchId, PairId, TenantId
from app.rules.lifecycle import Party
from app.rules.permissions import Permission
from app.rules.terms import IPAddress

AGENTS = Keyset("agent", an_id("agt"))

MOST_NODES = 100

_SIDES = {Direction.OUTGOING: Party.DELEGATOR, Direction.INCOMING: Party.DELEGATE}


@object_type
class Query:
    """What can be read. What does not exist and what is not yours to see are both null."""

    @field
    def viewer(self, info: Info) -> Viewer:
        """Who is calling."""
        return Viewer(row=info.context.caller)

    @field
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, argument("Of anything that has one.")]
    ) -> Node | None:
        """What an id names."""
        return await find_node(info, id)

    @field
    async def nodes(
        self, info: Info, ids: Annotated[list[strawberry.ID], argument("100 at most.")]
    ) -> list[Node | None]:
        """What each id names, in their order."""
        if len(ids) > MOST_NODES:
            raise BadInput(f"ids: {len(ids)} are too many: {MOST_NODES} at most")
        # An error among them is that place's alone: GraphQL raises it there.
        finding = (find_node(info, id) for id in ids)
        return await asyncio.gather(*finding, return_exceptions=True)  # type: ignore[return-value]

    @field
    async def agent(
        self, info: Info, id: Annotated[strawberry.ID, argument("The agent's id.")]
    ) -> Agent | None:
        """An agent of your tenant, or one that you meet in a delegation."""
        return await find_a(Agent, info, id)

    @field
    async def agents(self, info: Info, first: First = None, after: After = None) -> CountedConnection[Agent]:
        """The agents of your tenant, oldest first."""
        tenant_id, page = info.context.reading().tenant_id, AGENTS.page(first=first, after=after)
        start = AgentId(page.after) if page.after else None
        rows = await info.context.read(agents_page, tenant_id, page.limit + 1, start)
        shown = AGENTS.slice(rows, page, id_of)
        return CountedConnection(
            page=connection(AGENTS, shown, id_of, lambda row: Agent(row=row)),
            count=lambda: info.context.read(count_agents, tenant_id),
        )

    @field
    async def shared_agents(
        self, info: Info, first: First = None, after: After = None
    ) -> CountedConnection[Agent]:
        """Agents of other tenants that your tenant can bind to now: those that ACTIVE delegations lend it."""
        tenant_id, page = info.context.reading().tenant_id, AGENTS.page(first=first, after=after)
        start = AgentId(page.after) if page.after else None
        rows = await info.context.read(lent.shared_agents, tenant_id, page.limit + 1, start)
        shown = AGENTS.slice(rows, page, id_of)
        return CountedConnection(
            page=connection(AGENTS, shown, id_of, lambda row: Agent(row=row)),
            count=lambda: info.context.read(lent.count_shared_agents, tenant_id),
        )

    @field
    async def explain_dispatch(
        self, info: Info, input: Annotated[ExplainDispatchInput, argument("What would be asked for.")]
    ) -> Decision:
        """How a request would be decided: by the code that decides, with no effect.

        Terms, status and clock are those of `at`; trust, bindings and usage those of now. The delegator is shown
        every check, the delegate the one that decided.
        """
        info.context.reading()
        question = _question(input)
        found = await info.context.read(case, info.context.caller, question)
        return Decision(row=await info.context.aside(partial(explain, found)))

    @field
    async def upstreams(self, info: Info) -> list[Upstream]:
        """The services of your tenant, oldest first."""
        rows = await info.context.read(list_upstreams, info.context.reading())
        return [Upstream(row=row) for row in rows]

    @field
    async def api_keys(self, info: Info) -> list[ApiKey]:
        """The API keys of your tenant, oldest first. Needs the permission `api_key:read`."""
        return [ApiKey(row=row) for row in await info.context.read(list_keys, info.context.caller)]

    @field
    async def webhook_endpoints(self, info: Info) -> list[WebhookEndpoint]:
        """The webhook endpoints of your tenant, oldest first. Needs the permission `webhook:write`."""
        rows = await info.context.read(list_endpoints, info.context.caller)
        info.context.show(len(rows))
        return [WebhookEndpoint(row=row) for row in rows]

    @field
    async def delegation(
        self, info: Info, id: Annotated[strawberry.ID, argument("The delegation's id.")]
    ) -> Delegation | None:
        """A delegation that your tenant is a party of."""
        return await find_a(Delegation, info, id)

    @field
    async def delegations(
        self,
        info: Info,
        direction: Annotated[Direction, argument("On which side your tenant is.")],
        filter: Annotated[DelegationFilter | None, argument("Which of them.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> CountedConnection[Delegation]:
        """The delegations of your tenant, oldest first."""
        tenant_id, wanted = info.context.reading().tenant_id, _wanted(direction, filter)
        page = DELEGATIONS.page(first=first, after=after, last=last, before=before)
        listed = await info.context.read(
            lists.page,
            tenant_id,
            wanted,
            limit=page.limit + 1,
            after=maybe_id(DelegationId, page.after),
            before=maybe_id(DelegationId, page.before),
            backward=page.backward,
        )
        info.context.know(terms_in_force, listed.terms)
        info.context.know_now(listed.now)
        shown = DELEGATIONS.slice(listed.rows, page, id_of)
        return CountedConnection(
            page=connection(DELEGATIONS, shown, id_of, lambda row: Delegation(row=row)),
            count=lambda: info.context.read(lists.count, tenant_id, wanted, listed.now),
        )

    @field
    async def offer_preview(
        self, info: Info, offer_token: Annotated[str, argument("The offer's token.")]
    ) -> Delegation | None:
        """What an offer token would grant, before it is used: to an owner of the addressed tenant only, with bindings
        and audit empty. Null for every kind of wrong token.
        """
        token = info.context.gateway.keys.hash(offer_token)
        row = await info.context.read(preview, info.context.caller, token)
        return Delegation(row=row, preview=True) if row else None

    @field
    async def binding(
        self, info: Info, id: Annotated[strawberry.ID, argument("The binding's id.")]
    ) -> Binding | None:
        """A binding of a delegation that your tenant is a party of."""
        return await find_a(Binding, info, id)

    @field
    async def dispatch(
        self, info: Info, id: Annotated[strawberry.ID, argument("The dispatch's id.")]
    ) -> Dispatch | None:
        """A dispatch by your tenant, or in its services."""
        return await find_a(Dispatch, info, id)

    @field
    async def dispatches(
        self,
        info: Info,
        delegation_id: Annotated[strawberry.ID | None, argument("Only those under this delegation.")] = None,
        first: First = None,
        after: After = None,
    ) -> Connection[Dispatch]:
        """The dispatches by your tenant and in its services, oldest first."""
        tenant_id, page = info.context.reading().tenant_id, DISPATCHES.page(first=first, after=after)
        under, start = maybe_id(DelegationId, delegation_id), maybe_id(DispatchId, page.after)
        rows = await info.context.read(dispatches_page, tenant_id, under, page.limit + 1, start)
        shown = DISPATCHES.slice(rows, page, id_of)
        return connection(DISPATCHES, shown, id_of, lambda row: Dispatch(row=row))

    @field
    async def audit_log(
        self,
        info: Info,
        filter: Annotated[AuditFilter | None, argument("Which entries.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[AuditEntry]:
        """Your tenant's log, ascending by `seq`. Needs the permission `audit:read`."""
        info.context.caller.require(Permission.AUDIT)
        log = log_of(info.context.tenant_id)
        page = log.page(first=first, after=after, last=last, before=before)
        found = await info.context.read(
            ledger.page,
            info.context.tenant_id,
            _entries(filter or AuditFilter()),
            limit=page.limit,
            after=page.after,
            before=page.before,
            backward=page.backward,
        )
        return audit_page(log, found, page)


def _wanted(direction: Direction, filter: DelegationFilter | None) -> lists.Filter:
    asked = filter or DelegationFilter()
    return lists.Filter(
        side=_SIDES[direction],
        statuses=asked.statuses,
        counterparty_id=maybe_id(TenantId, asked.counterparty_tenant_id),
        agent_id=maybe_id(AgentId, asked.agent_id),
        scope=asked.scope,
        expires_before=asked.expires_before,
    )


def _question(input: ExplainDispatchInput) -> Question:
    asked = requested(input)
    if isinstance(asked, Refusal):
        raise BadInput(f"input.{asked.message}")
    return Question(
        delegation_id=as_id(DelegationId, input.delegation_id),
        agent_id=maybe_id(AgentId, input.agent_id),
        scope=input.scope,
        action_id=maybe_id(ActionId, input.action_id),
        path_parameters=None if input.path_parameters is None else asked.path_parameters,
        query=asked.query,
        content_type=dict(asked.headers).get("content-type"),
        address=_address(input.source_ip),
        at=input.at,
        body=asked.body,
    )


def _address(text: str | None) -> IPAddress | None:
    if text is None:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        raise BadInput(
            f"input.sourceIp {texts.shown(text)!r} is no address: give one such as 203.0.113.7"
        ) from None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _entries(asked: AuditFilter) -> ledger.Wanted:
    return ledger.Wanted(
        delegation_id=maybe_id(DelegationId, asked.delegation_id),
        dispatch_id=maybe_id(DispatchId, asked.dispatch_id),
        pair_id=maybe_id(PairId, asked.pair_id),
        events=event_names("filter.events", asked.events),
        since=asked.since,
        until=asked.until,
        outcome=asked.outcome,
    )
