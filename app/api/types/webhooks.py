"""Where a tenant's log is sent to, and what became of it."""

from typing import Annotated, Any

import strawberry

from app.api.context import Info
from app.api.described import argument, column, field, object_type
from app.api.pages import Keyset, a_seq
from app.api.types.audit import AuditEntry
from app.api.types.enums import DeliveryStatus, EndpointStatus
from app.api.types.nodes import After, Connection, First, Node, connection
from app.delivery.webhooks.read import Span, deliveries_of, endpoints, entries_at
from app.rules.ids import Instant
from app.rules.permissions import Permission
from app.store import tables

DELIVERIES = Keyset("delivery", a_seq)


@object_type
class WebhookAttempt:
    """One POST of a delivery. What the receiver answered beside its status is not kept."""

    row: strawberry.Private[dict[str, Any]]

    @field
    def at(self) -> Instant:
        """When it began."""
        return Instant(self.row["at"])

    @field
    def status(self) -> int | None:
        """The status that the receiver answered with; null where it answered with none."""
        status: int | None = self.row["status"]
        return status

    @field
    def duration_ms(self) -> int:
        """How long it took; where the gateway stopped before its end, how long it was waited for."""
        took: int = self.row["durationMs"]
        return took

    @field
    def error(self) -> str | None:
        """Why it failed; null where it did not."""
        error: str | None = self.row["error"]
        return error


@object_type
class WebhookDelivery(Node):
    """One entry of the log on its way to one endpoint. Its id is the `webhook-id` of every attempt."""

    row: strawberry.Private[tables.WebhookDelivery]

    status: DeliveryStatus = column("Where it stands.")

    @field
    async def endpoint(
        self, info: Info
    ) -> Annotated["WebhookEndpoint", strawberry.lazy("app.api.types.webhooks")]:
        """Where it is sent to."""
        return WebhookEndpoint(row=await info.context.load(endpoints, self.row.endpoint_id))

    @field
    async def entry(self, info: Info) -> AuditEntry:
        """What is sent. Needs the permission `audit:read`."""
        info.context.caller.require(Permission.AUDIT)
        return AuditEntry(row=await info.context.load(entries_at, self.row.seq))

    @field
    def attempts(self, info: Info) -> list[WebhookAttempt]:
        """Its attempts, oldest first: the newest 50."""
        info.context.show(len(self.row.attempts))
        return [WebhookAttempt(row=row) for row in self.row.attempts]

    @field
    def next_attempt_at(self) -> Instant | None:
        """When it is attempted next, at the earliest; null where it is not, or is under way."""
        waits = self.row.status is DeliveryStatus.PENDING and self.row.leased_until is None
        return self.row.due_at if waits else None


@object_type
class WebhookEndpoint(Node):
    """Where the gateway POSTs entries of the owning tenant's log, signed as Standard Webhooks says."""

    row: strawberry.Private[tables.WebhookEndpoint]

    url: str = column("Where it is.")
    events: list[str] = column("What it is sent: names or globs such as `delegation.*`.")
    description: str | None = column("What it is for.")
    status: EndpointStatus = column("Whether it is sent anything.")
    disabled_reason: str | None = column("Why it is not.")
    created_at: Instant = column("When it was made; it is sent what came after.")

    @field
    async def deliveries(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        status: Annotated[DeliveryStatus | None, argument("Only those that stand so.")] = None,
    ) -> Connection[WebhookDelivery]:
        """What was sent to it, the newest entries first. What has ended is kept for 90 days."""
        page = DELIVERIES.page(first=first, after=after)
        span = Span(page.limit, page.after, status)
        rows = await info.context.load(deliveries_of, self.row.id, span)
        shown = DELIVERIES.slice(rows, page, _seq)
        info.context.show(len(shown.rows))
        return connection(DELIVERIES, shown, _seq, lambda row: WebhookDelivery(row=row))


def _seq(row: tables.WebhookDelivery) -> int:
    return row.seq
