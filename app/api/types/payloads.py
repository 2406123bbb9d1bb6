"""What mutations answer. An expected refusal is data: `userErrors`, and null in place of what would have been made."""

from typing import Self

import strawberry

from app.api.described import column, field, given, object_type, optional
from app.api.types.agents import Agent
from app.api.types.bindings import Binding
from app.api.types.delegations import Delegation
from app.api.types.dispatches import Dispatch, UpstreamResponse
from app.api.types.tenants import ApiKey
from app.api.types.upstreams import Action, Upstream
from app.api.types.webhooks import WebhookDelivery, WebhookEndpoint
from app.delegations import endings
from app.rules.errors import Refusal
from app.rules.ids import Instant
from app.rules.texts import LONGEST_MESSAGE, shown


@object_type
class UserError:
    """An expected refusal: what happened, why, and what to do next."""

    row: strawberry.Private[Refusal]

    code: str = column("One of ErrorCode.")

    @field
    def message(self) -> str:
        """For people."""
        return shown(self.row.message, LONGEST_MESSAGE)

    @field
    def path(self) -> list[str] | None:
        """The input field that it is about."""
        return [shown(step) for step in self.row.path] or None


@object_type
class Payload:
    """What every mutation answers."""

    user_errors: list[UserError] = given("Why it was refused; empty where it was not.", default_factory=list)

    @classmethod
    def refused(cls, *refusals: Refusal) -> Self:
        """Nothing was done."""
        return cls(user_errors=[UserError(row=refusal) for refusal in refusals])


@object_type
class OfferDelegationPayload(Payload):
    """What `offerDelegation` answers."""

    delegation: Delegation | None = optional("The offer.")
    offer_token: str | None = optional(
        "What the delegate accepts with. Shown once; null where the offer is ADDRESSED."
    )


@object_type
class AcceptDelegationPayload(Payload):
    """What `acceptDelegation` answers."""

    delegation: Delegation | None = optional("The delegation, in force.")
    binding: Binding | None = optional("The accepting agent's binding.")
    scoped_token: str | None = optional("What the agent shows at the proxy. Shown once.")
    token_expires_at: Instant | None = optional("When that token ends by itself.")


@object_type
class DelegationPayload(Payload):
    """What a mutation of a delegation answers."""

    delegation: Delegation | None = optional("The delegation as it is now.")


@object_type
class RevocationReceipt:
    """What a revocation ended. A repeat gives the first one's again."""

    row: strawberry.Private[endings.Receipt]

    revoked_at: Instant = column("When the right ended: nothing was admitted or released after it.")
    bindings_ended: int = column("How many bindings ended with it.")
    tokens_ended: int = column("How many tokens stopped opening anything.")
    in_flight_aborted: int = column("How many dispatches were under way; their answers are withheld.")
    drained: bool = column("Whether there was none.")


@object_type
class RevokeDelegationPayload(Payload):
    """What `revokeDelegation` answers."""

    delegation: Delegation | None = optional("The delegation, ended.")
    receipt: RevocationReceipt | None = optional("What ended with it.")


@object_type
class BindingPayload(Payload):
    """What a mutation of a binding answers."""

    binding: Binding | None = optional("The binding as it is now.")
    scoped_token: str | None = optional("What the agent shows at the proxy, where one was made. Shown once.")
    token_expires_at: Instant | None = optional("When that token ends by itself.")


@object_type
class DispatchActionPayload(Payload):
    """What `dispatchAction` answers."""

    dispatch: Dispatch | None = optional("What was recorded of it.")
    response: UpstreamResponse | None = optional(
        "The upstream's answer; only of a dispatch that is COMPLETED."
    )


@object_type
class AgentPayload(Payload):
    """What a mutation of an agent answers."""

    agent: Agent | None = optional("The agent as it is now.")


@object_type
class UpstreamPayload(Payload):
    """What a mutation of an upstream answers."""

    upstream: Upstream | None = optional("The upstream as it is now.")


@object_type
class ActionPayload(Payload):
    """What `defineAction` answers."""

    action: Action | None = optional("The action.")


@object_type
class DeletedPayload(Payload):
    """What a mutation that takes something away answers."""

    deleted_id: strawberry.ID | None = optional("The id of what is gone.")


@object_type
class ApiKeyPayload(Payload):
    """What a mutation of an API key answers."""

    api_key: ApiKey | None = optional("The key as it is now.")
    secret: str | None = optional("The key itself, where one was made. Shown once.")


@object_type
class WebhookEndpointPayload(Payload):
    """What a mutation of a webhook endpoint answers."""

    endpoint: WebhookEndpoint | None = optional("The endpoint as it is now.")
    secret: str | None = optional("What it verifies with, where one was made: `whsec_…`. Shown once.")


@object_type
class WebhookDeliveryPayload(Payload):
    """What is sent because somebody asked."""

    delivery: WebhookDelivery | None = optional("The delivery as it is now.")


@object_type
class RecoverDeliveriesPayload(Payload):
    """What `recoverDeliveries` answers."""

    count: int = given("How many deliveries are sent now.", default=0)
