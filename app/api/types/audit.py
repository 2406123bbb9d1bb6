"""What happened, as a tenant's own log has it."""

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import strawberry

from app.api.context import Info
from app.api.described import column, field, object_type
from app.api.pages import Keyset, Page, log_of
from app.api.scalars import JSON, Int53, Scope
from app.api.types.agents import Agent, load_face
from app.api.types.enums import Outcome
from app.api.types.nodes import Connection, Edge, Node, connection
from app.api.types.tenants import Tenant, load_tenant
from app.delegations.read import delegations
from app.ledger.read import Found
from app.rules.entries import LONGEST_EVENT, MOST_EVENTS, meant
from app.rules.errors import BadInput
from app.rules.ids import Instant
from app.rules.texts import shown
from app.store import tables

if TYPE_CHECKING:
    from app.api.types.delegations import Delegation


@object_type
class AuditEntry(Node):
    """One line of one tenant's append-only log.

    Every cross-tenant fact stands in both logs under one `pairId`. `seq` is gap-free per tenant and in commit order.
    """

    row: strawberry.Private[tables.LedgerEntry]

    seq: Int53 = column("Its number in this log, from 1.")
    pair_id: strawberry.ID = column("The fact's id, the same in both logs.")
    event: str = column("What happened, such as `delegation.accepted`.")
    occurred_at: Instant = column("When it happened.")
    dispatch_id: strawberry.ID | None = column("The dispatch that it is about.")
    leaf_hash: str = column(
        "SHA-256, in hex, of a zero byte and the entry as JSON by RFC 8785: an object of id, seq, pairId, event, "
        "occurredAt, tenantId (your own), delegationId, dispatchId, actingTenantId, targetTenantId, actingAgentId, "
        "actor, action, outcome, code and details, with null for what there is not."
    )

    @cached_property
    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = orjson.loads(self.row.body)
        return body

    @field
    async def delegation(
        self, info: Info
    ) -> Annotated["Delegation", strawberry.lazy("app.api.types.delegations")] | None:
        """The delegation that it is about."""
        from app.api.types.delegations import Delegation  # they show each other

        if self.row.delegation_id is None:
            return None
        row = await info.context.find(delegations, self.row.delegation_id)
        return Delegation(row=row) if row else None

    @field
    async def acting_tenant(self, info: Info) -> Tenant:
        """The delegate, in what concerns a delegation; else this tenant."""
        return await load_tenant(info, self._body["actingTenantId"])

    @field
    async def target_tenant(self, info: Info) -> Tenant:
        """The delegator, in what concerns a delegation; else this tenant."""
        return await load_tenant(info, self._body["targetTenantId"])

    @field
    async def acting_agent(self, info: Info) -> Agent | None:
        """The delegate's agent that acted."""
        id = self._body["actingAgentId"]
        return await load_face(info, id) if id else None

    @field
    def actor(self) -> str | None:
        """The user or service who did it, by an API key. Null in the other tenant's log, for what an agent did by its
        scoped token, and for the clock.
        """
        actor: str | None = self._body["actor"]
        return actor

    @field
    def action(self) -> Scope | None:
        """The scope that was used."""
        action: Scope | None = self._body["action"]
        return action

    @field
    def outcome(self) -> Outcome | None:
        """How the dispatch ended."""
        outcome = self._body["outcome"]
        return Outcome(outcome) if outcome else None

    @field
    def code(self) -> str | None:
        """Why it did not complete: one of ErrorCode."""
        code: str | None = self._body["code"]
        return code

    @field
    def details(self) -> JSON:
        """What else there is to say; its members depend on `event`. `reason`, of an address of yours that the gateway may
        not call, is in your log alone.
        """
        return JSON(self._body["details"])


AuditEntryEdge = Edge[AuditEntry]
AuditEntryConnection = Connection[AuditEntry]


def audit_edge(row: tables.LedgerEntry) -> Edge[AuditEntry]:
    """An entry and its place in the log."""
    return Edge(cursor=log_of(row.tenant_id).cursor(row.seq), node=AuditEntry(row=row))


def audit_page(log: Keyset[int], found: Found, page: Page[int]) -> Connection[AuditEntry]:
    """What a reader of the ledger found in this log."""
    slice = log.found(found.entries, page, _seq, more=found.more, reached=found.reached)
    return connection(log, slice, _seq, lambda row: AuditEntry(row=row))


def _seq(row: tables.LedgerEntry) -> int:
    return row.seq


def event_names(argument: str, events: list[str] | None) -> tuple[str, ...] | None:
    """Names or globs of events, a bounded number of bounded ones. Raises BadInput, naming the argument."""
    if events is not None and len(events) > MOST_EVENTS:
        raise BadInput(f"{argument}: {len(events)} names or globs are too many: {MOST_EVENTS} at most")
    if any(len(event) > LONGEST_EVENT for event in events or ()):
        raise BadInput(f"{argument}: a name or glob has at most {LONGEST_EVENT} characters")
    return None if events is None else tuple(events)


def known_event_names(argument: str, events: list[str] | None) -> tuple[str, ...] | None:
    """The same, each of which must mean some event: whoever waits for a misspelt one would wait for ever."""
    names = event_names(argument, events)
    for name in names or ():
        if not meant(name):
            raise BadInput(
                f"{argument}: {shown(name)!r} matches no event: give names or globs such as delegation.*"
            )
    return names
