"""What can be followed."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry

from app.api.context import Info
from app.api.described import argument, object_type, subscription
from app.api.inputs import maybe_id
from app.api.types.audit import AUDIT, AuditEntry, audit_edge, event_names
from app.api.types.nodes import Edge
from app.delivery.feed import follow
from app.ledger.read import Wanted
from app.rules.ids import DelegationId
from app.rules.permissions import Permission


@object_type
class Subscription:
    """What can be followed. A stream ends with UNAUTHENTICATED when the key that opened it ends."""

    @subscription
    async def delegation_events(
        self,
        info: Info,
        after: Annotated[
            str | None,
            argument(
                "Go on, without a gap, after this cursor of `auditLog` or of this stream; null: from now on."
            ),
        ] = None,
        events: Annotated[
            list[str] | None, argument("Only these: names or globs such as `delegation.*`, 50 at most.")
        ] = None,
        delegation_id: Annotated[
            strawberry.ID | None, argument("Only what is about this delegation.")
        ] = None,
    ) -> AsyncGenerator[Edge[AuditEntry], None]:
        """Your tenant's log, live. Needs the permission `audit:read`."""
        context = info.context
        context.caller.require(Permission.AUDIT)
        start = AUDIT.page(after=after).after
        wanted = Wanted(maybe_id(DelegationId, delegation_id), events=event_names("events", events))
        entries = follow(context.store, context.gateway.wake, context.caller, start, wanted)
        async with aclosing(entries):
            async for entry in entries:
                context.forget()
                yield audit_edge(entry)
