"""What clients give to mutations of webhooks."""

import strawberry

from app.api.described import given, input_type, optional
from app.api.inputs.once import ONCE_SECRET
from app.api.types.enums import EndpointStatus
from app.delivery.webhooks.endpoints import EndpointChanges
from app.rules.ids import Instant

_EVENTS = "What it is sent: names or globs such as `delegation.*`, 50 at most."


@input_type
class CreateWebhookEndpointInput:
    """A new endpoint: it is sent what comes after it."""

    url: str = given("Where it is: an https address, or an http one where this gateway takes those.")
    events: list[str] = given(_EVENTS)
    description: str | None = optional("What it is for: up to 2000 characters.")
    idempotency_key: str | None = optional(ONCE_SECRET)

    def changes(self) -> EndpointChanges:
        """As the flow takes them."""
        return EndpointChanges(self.url, self.events, self.description)


@input_type
class UpdateWebhookEndpointInput:
    """What changes of an endpoint; null leaves as it is."""

    endpoint_id: strawberry.ID = given("The endpoint.")
    url: str | None = optional("Where it is.")
    events: list[str] | None = optional(_EVENTS)
    description: str | None = optional("What it is for; empty: nothing is said.")
    status: EndpointStatus | None = optional(
        "DISABLED halts it, ENABLED goes on with what came since it was disabled."
    )

    def changes(self) -> EndpointChanges:
        """As the flow takes them."""
        return EndpointChanges(self.url, self.events, self.description, self.status)


@input_type
class RotateWebhookSecretInput:
    """Whose secret is replaced."""

    endpoint_id: strawberry.ID = given("The endpoint.")
    overlap_seconds: int = given(
        "How long everything is signed with the old secret, too: 0 to 604800; until the next rotation at most.",
        default=86400,
    )


@input_type
class RedeliverInput:
    """What is sent once more."""

    delivery_id: strawberry.ID = given("The delivery.")


@input_type
class RecoverDeliveriesInput:
    """What is sent of what has not arrived."""

    endpoint_id: strawberry.ID = given("The endpoint.")
    since: Instant = given("What happened at this instant or later.")
