"""What clients give to administer a tenant: its agents, services, actions and keys."""

import strawberry

from app.api.described import given, input_type, optional
from app.api.inputs.once import ONCE, ONCE_SECRET
from app.api.scalars import JSON, Scope
from app.api.types.enums import ResponseMode, Role, UpstreamKind
from app.rules.ids import Instant


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
class ReportTrustScoreInput:
    """How far an agent is trusted from now on."""

    agent_id: strawberry.ID = given("The agent, of any tenant.")
    score: int = given("0 to 100.")
    reason: str = given("Why; the agent's tenant sees it in its log.")


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
