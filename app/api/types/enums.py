"""The enums of the contract: ours of `rules/`, and those that only the surface knows."""

from enum import StrEnum

from app.api.described import enumeration
from app.rules.entries import Outcome
from app.rules.lifecycle import Party, Status
from app.rules.permissions import Role
from app.rules.webhooks import DeliveryStatus, EndpointStatus
from app.rules.windows import WindowKind

#: Types take all of them from here: Strawberry publishes an enum that it meets before as it is, without a description.
__all__ = [
    "AcceptanceMode",
    "DeliveryStatus",
    "Direction",
    "EndpointStatus",
    "Environment",
    "Outcome",
    "Party",
    "ResponseMode",
    "Role",
    "Status",
    "UpstreamKind",
    "WindowKind",
]


class AcceptanceMode(StrEnum):
    TOKEN = "TOKEN"
    ADDRESSED = "ADDRESSED"


class Environment(StrEnum):
    LIVE = "LIVE"
    SANDBOX = "SANDBOX"


class Direction(StrEnum):
    OUTGOING = "OUTGOING"
    INCOMING = "INCOMING"


class UpstreamKind(StrEnum):
    REST = "REST"
    GRAPHQL = "GRAPHQL"


class ResponseMode(StrEnum):
    BUFFERED = "BUFFERED"
    STREAMED = "STREAMED"


enumeration(
    Role,
    "Role",
    "What an API key may do, from the most to the least.",
    {
        Role.OWNER: "Everything of the tenant; alone offers, accepts and makes keys.",
        Role.ADMIN: "Administers agents and upstreams, revokes; may all that the roles below may.",
        Role.OPERATOR: "Makes and ends bindings, rotates tokens, dispatches actions; reads.",
        Role.AUDITOR: "Reads, including the audit log.",
        Role.VIEWER: "Reads, without the audit log.",
        Role.TRUST_AUTHORITY: "Reports trust scores, nothing else; made by the command line alone.",
        Role.PLATFORM: "Administers tenants, nothing else; made by the command line alone.",
    },
)
enumeration(
    Status,
    "DelegationStatus",
    "Where a delegation stands, by the clock. Only ACTIVE lets actions through.",
    {
        Status.PENDING: "Offered, and open to be accepted.",
        Status.VALIDATING: "Accepted, and being validated before it comes into force.",
        Status.ACTIVE: "In force.",
        Status.SUSPENDED: "Halted; it can be resumed.",
        Status.DECLINED: "Turned down by the delegate.",
        Status.LAPSED: "Not accepted in time.",
        Status.VALIDATION_FAILED: "Accepted, but it did not pass validation.",
        Status.REVOKED: "Ended by one of its parties.",
        Status.EXPIRED: "Ended at its `expiresAt`.",
    },
)
enumeration(
    AcceptanceMode,
    "AcceptanceMode",
    "How an offer reaches the delegate.",
    {
        AcceptanceMode.TOKEN: "By an offer token that the delegator passes on; nobody sees the offer without it.",
        AcceptanceMode.ADDRESSED: "By itself: it stands among the delegate's incoming delegations.",
    },
)
enumeration(
    Environment,
    "Environment",
    "Which address of an upstream a delegation leads to.",
    {
        Environment.LIVE: "The upstream itself.",
        Environment.SANDBOX: "The upstream's sandbox.",
    },
)
enumeration(
    Party,
    "Party",
    "Who made a move.",
    {
        Party.DELEGATOR: "The tenant whose agent is lent.",
        Party.DELEGATE: "The tenant that it is lent to.",
        Party.PLATFORM: "The operator of this gateway.",
        Party.SYSTEM: "The clock.",
    },
)
enumeration(
    Direction,
    "Direction",
    "From which side a tenant looks at its delegations.",
    {
        Direction.OUTGOING: "It is the delegator.",
        Direction.INCOMING: "It is the delegate; offers by token appear once they are accepted or declined.",
    },
)
enumeration(
    Outcome,
    "Outcome",
    "How a dispatch ended.",
    {
        Outcome.PENDING: "Admitted, and not ended yet.",
        Outcome.COMPLETED: "Answered, and the answer released.",
        Outcome.REFUSED: "Not admitted, never sent.",
        Outcome.WITHHELD: "Answered, but the right to it had ended.",
        Outcome.FAILED: "Admitted, and no byte was sent, or the gateway refused the answer.",
        Outcome.INDETERMINATE: "Sent, and no whole answer seen: a timeout, a reset, an abort or a crash.",
    },
)
enumeration(
    UpstreamKind,
    "UpstreamKind",
    "What a service speaks.",
    {
        UpstreamKind.REST: "HTTP with methods and paths.",
        UpstreamKind.GRAPHQL: "GraphQL over HTTP.",
    },
)
enumeration(
    ResponseMode,
    "ResponseMode",
    "How an answer is passed on.",
    {
        ResponseMode.BUFFERED: "Whole, once its release is recorded.",
        ResponseMode.STREAMED: "In pieces, as they come.",
    },
)
enumeration(
    WindowKind,
    "WindowKind",
    "A fixed calendar window in UTC, and what is counted in it.",
    {
        WindowKind.HOUR: "Actions in an hour.",
        WindowKind.DAY: "Actions on a day.",
        WindowKind.MONTH: "Actions in a month.",
        WindowKind.COST_MONTH: "Cost units in a month.",
    },
)
enumeration(
    EndpointStatus,
    "EndpointStatus",
    "Whether a webhook endpoint is sent anything.",
    {
        EndpointStatus.ENABLED: "What happens is sent to it.",
        EndpointStatus.DISABLED: "Nothing is; enabled again, it goes on where it was.",
    },
)
enumeration(
    DeliveryStatus,
    "DeliveryStatus",
    "Where the delivery of one entry to one webhook endpoint stands.",
    {
        DeliveryStatus.PENDING: "It is under way, or is attempted again.",
        DeliveryStatus.DELIVERED: "The endpoint answered with 2xx.",
        DeliveryStatus.FAILED: "It was given up, and its endpoint disabled.",
    },
)
