"""What clients give to mutations and lists, and how it becomes what a flow takes."""

from collections.abc import Callable
from typing import TypeVar

import strawberry

from app.api.described import given, input_type, optional
from app.api.scalars import JSON, Cidr, Scope
from app.api.types.enums import AcceptanceMode, Environment, Outcome, ResponseMode, Role, Status, UpstreamKind
from app.rules import ids
from app.rules.amendments import PUBLIC, Changes
from app.rules.errors import Code, Refusal
from app.rules.ids import Instant
from app.rules.terms import Constraints

Id = TypeVar("Id", bound=str)

CONDITION = (
    "A CEL expression over `request` (`method`, `path`, `query`, `body`, `bytes`, `ip`), `action.scope`, "
    "`delegation.id` and `now`; a request of which it is not true, or which it cannot judge, is refused."
)
PATTERNS = "RE2 patterns; a request whose body matches one is refused."
ONCE = "Makes a repeat by your tenant within 24 hours the same request, which makes nothing more: 1 to 255 characters."
ONCE_SECRET = f"{ONCE} It does not show the secret again."

LONGEST_KEY = 255

_PREFIXES: dict[Callable[[str], str], str] = {
    ids.TenantId: "ten",
    ids.ApiKeyId: "key",
    ids.AgentId: "agt",
    ids.UpstreamId: "ups",
    ids.ActionId: "act",
    ids.DelegationId: "dlg",
    ids.BindingId: "bnd",
    ids.DispatchId: "dsp",
    ids.PairId: "par",
    ids.EndpointId: "whk",
    ids.DeliveryId: "whd",
}


def as_id(kind: Callable[[str], Id], text: str) -> Id:
    """An id from a client. What has not the form of one becomes one that names nothing, and is answered alike."""
    prefix = _PREFIXES[kind]
    return kind(text if ids.prefix_of(text) == prefix else f"{prefix}_00000000-0000-0000-0000-000000000000")


def maybe_id(kind: Callable[[str], Id], text: str | None) -> Id | None:
    """The same, where it may be left out."""
    return None if text is None else as_id(kind, text)


def refuse_key(key: str | None) -> Refusal | None:
    """Refuses an idempotency key that is empty or too long."""
    if key is None or 1 <= len(key) <= LONGEST_KEY:
        return None
    message = f"idempotencyKey has {len(key)} characters: give 1 to {LONGEST_KEY}"
    return Refusal(Code.INVALID, message, ("idempotencyKey",))


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


@input_type
class ReportTrustScoreInput:
    """How far an agent is trusted from now on."""

    agent_id: strawberry.ID = given("The agent, of any tenant.")
    score: int = given("0 to 100.")
    reason: str = given("Why; the agent's tenant sees it in its log.")


@input_type
class ExplainDispatchInput:
    """What would be asked for, as `dispatchAction` takes it, and by whom."""

    delegation_id: strawberry.ID = given("The delegation.")
    agent_id: strawberry.ID | None = optional("The acting agent; any that is bound, unless told.")
    scope: Scope = given("The scope of the action.")
    action_id: strawberry.ID | None = optional("The action, where the scope has several.")
    source_ip: str | None = optional("The address that it would come from; unknown, unless told.")
    at: Instant | None = optional("When it would be asked for: the terms, the status and the clock of then.")
    path_parameters: JSON | None = optional("A value for each parameter of the action's path.")
    query: JSON | None = optional("An object that becomes the query string.")
    body: JSON | None = optional("What would be sent as application/json.")


@input_type
class CreateBindingInput:
    """Who is going to act."""

    delegation_id: strawberry.ID = given("The delegation, which must be ACTIVE.")
    agent_id: strawberry.ID = given("The agent of your tenant.")
    idempotency_key: str | None = optional(ONCE_SECRET)


@input_type
class RotateTokenInput:
    """Whose token is replaced."""

    binding_id: strawberry.ID = given("The binding.")
    overlap_seconds: int = given("How long the old token still works: 0 to 86400.", default=0)
    idempotency_key: str | None = optional(ONCE_SECRET)


@input_type
class RevokeBindingInput:
    """Which binding ends."""

    binding_id: strawberry.ID = given("The binding.")
    reason: str | None = optional("Why; both sides see it in their logs.")


@input_type
class DispatchActionInput:
    """What is to be done, under which binding."""

    binding_id: strawberry.ID = given("The binding of your tenant that asks.")
    scope: Scope = given("The scope of the action.")
    action_id: strawberry.ID | None = optional("The action, where the scope has several.")
    path_parameters: JSON | None = optional(
        "An object with a value for each parameter of the action's path: strings or numbers."
    )
    query: JSON | None = optional(
        "An object that becomes the query string: strings, numbers, booleans, or lists of them; null leaves out."
    )
    body: JSON | None = optional("What is sent as application/json; nothing where it is left out or null.")
    idempotency_key: str | None = optional(
        "Makes a repeat under this binding the same dispatch for 24 hours: 1 to 255 characters."
    )


@input_type
class RegisterAgentInput:
    """A new agent."""

    name: str = given("What you call it: up to 200 characters.")
    description: str = given("What it does: up to 2000 characters; counterparties see it.", default="")
    scopes: list[Scope] = given("What it can do; without any it can act for others, but lends nothing.")
    configuration: JSON | None = optional("What you want to keep with it; nobody else sees it.")
    tags: list[str] | None = optional("Your own words for it, 50 at most; nobody else sees them.")
    idempotency_key: str | None = optional(ONCE)


@input_type
class UpdateAgentInput:
    """What changes of an agent; null leaves as it is."""

    agent_id: strawberry.ID = given("The agent.")
    name: str | None = optional("What you call it.")
    description: str | None = optional("What it does.")
    scopes: list[Scope] | None = optional(
        "All that it can do; what is missing ends at once wherever it is lent."
    )
    configuration: JSON | None = optional("What you want to keep with it.")
    tags: list[str] | None = optional("All your words for it.")


@input_type
class UpstreamCredentialInput:
    """The header by which a service knows your gateway. It is kept sealed and never shown."""

    header: str = given("The header's name, such as Authorization.")
    value: str = given("The header's value.")


@input_type
class RegisterUpstreamInput:
    """A new service of your tenant."""

    name: str = given("Its name in addresses: lower-case letters, digits and inner hyphens.")
    kind: UpstreamKind = given("What it speaks; GRAPHQL is not supported yet.")
    base_url: str = given("Where it is: an http or https address; actions' paths are added to it.")
    credential: UpstreamCredentialInput | None = optional("What the gateway sends along.")
    sandbox_base_url: str | None = optional("Where its sandbox is; SANDBOX delegations lead there alone.")
    sandbox_credential: UpstreamCredentialInput | None = optional(
        "What the gateway sends along to the sandbox."
    )
    guardrail_url: str | None = optional(
        'Asked about each action before it is sent: it has 500 ms to answer {"decision": "allow"}.'
    )


@input_type
class UpdateUpstreamInput:
    """What changes of a service; null leaves as it is."""

    upstream_id: strawberry.ID = given("The upstream.")
    base_url: str | None = optional(
        "Where it is. Another origin drops the credential, unless one comes along."
    )
    credential: UpstreamCredentialInput | None = optional("What the gateway sends along from now on.")
    sandbox_base_url: str | None = optional(
        "Where its sandbox is; empty: nowhere. Another origin drops the sandbox's credential."
    )
    sandbox_credential: UpstreamCredentialInput | None = optional(
        "What the gateway sends along to the sandbox from now on."
    )
    guardrail_url: str | None = optional("Asked about each action before it is sent; empty: nobody is asked.")


@input_type
class DefineActionInput:
    """What a scope is to allow on an upstream."""

    upstream_id: strawberry.ID = given("The upstream.")
    scope: Scope = given("The scope that allows it.")
    method: str | None = optional("Its HTTP method, in upper case.")
    path: str | None = optional("Its path, with parameters in braces: `/v1/receipts/{id}`.")
    cost_units: int = given("What it counts for where costs are capped: 1 to 1000000.", default=1)
    response_mode: ResponseMode = given("STREAMED is not supported yet.", default=ResponseMode.BUFFERED)
    idempotent: bool = given("Whether doing it twice is the same as doing it once.", default=False)
    request_schema: JSON | None = optional(
        "The JSON Schema (2020-12) of the request's body; what does not match is refused."
    )


@input_type
class CreateApiKeyInput:
    """A new key of your tenant. No role above your own; TRUST_AUTHORITY and PLATFORM come from the command line."""

    name: str = given("What it is for.")
    subject: str | None = optional("Whom it speaks for: a user or a service; you, unless told.")
    role: Role = given("What it may do.")
    expires_at: Instant | None = optional("When it ends by itself; never, unless told.")
    idempotency_key: str | None = optional(ONCE_SECRET)


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
