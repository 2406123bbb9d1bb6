"""What clients give to the mutations of a delegation's life."""

import strawberry

from app.api.described import given, input_type, optional
from app.api.inputs.once import ONCE_SECRET
from app.api.scalars import JSON, Cidr, Scope
from app.api.types.enums import AcceptanceMode, Environment
from app.rules.amendments import PUBLIC, Changes
from app.rules.ids import Instant
from app.rules.terms import Constraints

CONDITION = (
    "A CEL expression over `request` (`method`, `path`, `query`, `body`, `bytes`, `ip`), `action.scope`, "
    "`delegation.id` and `now`; a request of which it is not true, or which it cannot judge, is refused."
)
PATTERNS = "RE2 patterns; a request whose body matches one is refused."


@input_type
class ConstraintsInput:
    """The limits of an offer. What is left out is not limited beyond the gateway's own bounds."""

    expires_at: Instant = given("When the delegation ends by itself: 366 days from now at most.")
    max_actions_per_hour: int | None = optional("Most actions in a calendar hour, UTC.")
    max_actions_per_day: int | None = optional("Most actions on a calendar day, UTC.")
    max_actions_per_month: int | None = optional("Most actions in a calendar month, UTC.")
    max_cost_units_per_month: int | None = optional("Most cost units in a calendar month, UTC.")
    ip_allowlist: list[Cidr] | None = optional(
        "The networks that requests may come from, 256 at most; none: from anywhere."
    )
    require_trust_score_above: int | None = optional(
        "The trust score, 0 to 99, that the acting agent's must be above."
    )
    max_request_bytes: int | None = optional("The largest body of a request: 10 MiB at most.")
    condition: str | None = optional(CONDITION)
    deny_patterns: list[str] | None = optional(PATTERNS)

    def constraints(self) -> Constraints:
        """As the flows take them."""
        return Constraints(
            expires_at=self.expires_at,
            max_actions_per_hour=self.max_actions_per_hour,
            max_actions_per_day=self.max_actions_per_day,
            max_actions_per_month=self.max_actions_per_month,
            max_cost_units_per_month=self.max_cost_units_per_month,
            ip_allowlist=tuple(self.ip_allowlist or ()),
            require_trust_score_above=self.require_trust_score_above,
            max_request_bytes=self.max_request_bytes,
            condition=self.condition,
            deny_patterns=tuple(self.deny_patterns or ()),
        )


@input_type
class OfferDelegationInput:
    """What is offered, and to whom."""

    from_agent_id: strawberry.ID = given("The agent of your tenant that is lent.")
    to_tenant_id: strawberry.ID = given("The tenant that it is lent to.")
    scopes: list[Scope] = given("What is lent of what the agent holds.")
    constraints: ConstraintsInput = given("Within which limits.")
    acceptance: AcceptanceMode = given("How the offer reaches them.", default=AcceptanceMode.TOKEN)
    environment: Environment = given("Which address of the upstreams it leads to.", default=Environment.LIVE)
    offer_expires_at: Instant | None = optional("When the offer lapses; in 7 days unless told, 90 at most.")
    metadata: JSON | None = optional("What you want to say of it, up to 16 KiB; both sides see it.")
    idempotency_key: str | None = optional(ONCE_SECRET)


@input_type
class AcceptDelegationInput:
    """Which offer is accepted: exactly one of offerToken and delegationId, the id only where it is ADDRESSED."""

    offer_token: str | None = optional("The offer's token.")
    delegation_id: strawberry.ID | None = optional("The offer's id.")
    accepting_agent_id: strawberry.ID = given("The agent of your tenant that is going to act.")
    acknowledge_constraints: bool = given("Must be true: accepting means agreeing to the constraints.")
    terms_hash: str | None = optional("The hash of the terms as you read them; other terms are not accepted.")
    idempotency_key: str | None = optional(
        "Makes a repeat of your tenant for this offer the same acceptance: 1 to 255 characters. "
        "The repeat does not show the token again."
    )


@input_type
class DeclineDelegationInput:
    """Which offer is declined: exactly one of offerToken and delegationId, the id only where it is ADDRESSED."""

    offer_token: str | None = optional("The offer's token.")
    delegation_id: strawberry.ID | None = optional("The offer's id.")
    reason: str | None = optional("Why; the delegator sees it.")


@input_type
class RevokeDelegationInput:
    """Which delegation ends."""

    delegation_id: strawberry.ID = given("The delegation.")
    reason: str = given("Why; both sides see it.")


@input_type
class SuspendDelegationInput:
    """Which delegation is halted."""

    delegation_id: strawberry.ID = given("The delegation, which must be ACTIVE.")
    reason: str = given("Why; both sides see it.")


@input_type
class ResumeDelegationInput:
    """Which delegation goes on."""

    delegation_id: strawberry.ID = given("The delegation, which must be SUSPENDED.")


@input_type
class AmendDelegationInput:
    """What changes of a delegation. Null fields stay as they are; `clear` names the limits to remove."""

    delegation_id: strawberry.ID = given("The delegation, ACTIVE or SUSPENDED.")
    expected_version: int = given("The version of the terms in force, as you read them.")
    scopes: list[Scope] | None = optional(
        "All that is to be lent: what is missing ends at once, what is added waits for the delegate."
    )
    expires_at: Instant | None = optional("When the delegation ends by itself: 366 days from now at most.")
    max_actions_per_hour: int | None = optional("Most actions in a calendar hour, UTC.")
    max_actions_per_day: int | None = optional("Most actions on a calendar day, UTC.")
    max_actions_per_month: int | None = optional("Most actions in a calendar month, UTC.")
    max_cost_units_per_month: int | None = optional("Most cost units in a calendar month, UTC.")
    ip_allowlist: list[Cidr] | None = optional("All networks that requests may come from, 256 at most.")
    require_trust_score_above: int | None = optional("What the acting agent's trust score must be above.")
    max_request_bytes: int | None = optional("The largest body of a request: 10 MiB at most.")
    condition: str | None = optional(CONDITION)
    deny_patterns: list[str] | None = optional(PATTERNS)
    metadata: JSON | None = optional("What you want to say of it, up to 16 KiB; both sides see it.")
    clear: list[str] | None = optional("Limits to remove, such as `maxActionsPerDay`.")
    reason: str | None = optional("Why; both sides see it in their logs.")

    def changes(self) -> Changes:
        """As the flow takes them."""
        given_limits = {name: getattr(self, name) for name in PUBLIC if getattr(self, name) is not None}
        limits = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given_limits.items()
        }
        scopes: list[str] | None = None if self.scopes is None else [*self.scopes]
        return Changes(scopes, limits, self.clear or (), self.metadata)


@input_type
class AcknowledgeTermsInput:
    """Which proposed terms the delegate agrees to."""

    delegation_id: strawberry.ID = given("The delegation.")
    terms_hash: str = given("The hash of its `proposedTerms` as you read them.")
