"""What narrows lists."""

import strawberry

from app.api.described import input_type, optional
from app.api.scalars import Scope
from app.api.types.enums import Outcome, Status
from app.rules.ids import Instant


@input_type
class DelegationFilter:
    """Which delegations; what is left out does not narrow."""

    statuses: list[Status] | None = optional("Those that stand in one of these states, by the clock.")
    counterparty_tenant_id: strawberry.ID | None = optional("Those with this tenant.")
    agent_id: strawberry.ID | None = optional("Those that lend this agent.")
    scope: Scope | None = optional("Those whose terms in force have this scope.")
    expires_before: Instant | None = optional("Those whose terms in force end before this instant.")


@input_type
class AuditFilter:
    """Which entries; what is left out does not narrow.

    By delegation, dispatch or pair it costs the same at any size of the log; by anything else it looks at 10,000
    entries at most, and then returns a short page whose end cursor goes on from there. A document has at most three
    of these.
    """

    events: list[str] | None = optional("Names or globs such as `delegation.*`: 50 at most.")
    delegation_id: strawberry.ID | None = optional("About this delegation.")
    dispatch_id: strawberry.ID | None = optional("About this dispatch.")
    pair_id: strawberry.ID | None = optional("About this one fact.")
    since: Instant | None = optional("Not before this instant.")
    until: Instant | None = optional("Before this instant.")
    outcome: Outcome | None = optional("Of dispatches that ended so.")
