"""What a tenant has: agents, services and their actions, API keys."""

from functools import partial
from typing import Annotated

import strawberry

from app.api.context import Info
from app.api.creating import already_issued, create
from app.api.described import argument, field, object_type
from app.api.inputs.administration import (
    CreateApiKeyInput,
    DefineActionInput,
    RegisterAgentInput,
    RegisterUpstreamInput,
    ReportTrustScoreInput,
    UpdateAgentInput,
    UpdateUpstreamInput,
    UpstreamCredentialInput,
)
from app.api.inputs.names import as_id
from app.api.types.agents import Agent
from app.api.types.payloads import (
    ActionPayload,
    AgentPayload,
    ApiKeyPayload,
    DeletedPayload,
    UpstreamPayload,
)
from app.api.types.tenants import ApiKey
from app.api.types.upstreams import Action, Upstream
from app.delegations.lent import actions
from app.delegations.trust import report_trust
from app.identity.api_keys import create_key, revoke_key
from app.identity.once import Repeat
from app.inventory.actions import define_action, remove_action
from app.inventory.agents import AgentChanges, AgentDraft, register_agent, update_agent
from app.inventory.upstreams import Credential, UpstreamChanges, register_upstream, update_upstream
from app.rules.errors import Refusal
from app.rules.guards import refuse_schema
from app.rules.ids import ActionId, AgentId, ApiKeyId, UpstreamId
from app.rules.permissions import Permission
from app.rules.tokens import TokenKind
from app.store import tables

_MADE_ALREADY = already_issued("revoke this key and make another, if its secret is lost")


@object_type
class AdministrationMutations:
    """Agents, upstreams, actions, keys."""

    @field
    async def register_agent(
        self, info: Info, input: Annotated[RegisterAgentInput, argument("The new agent.")]
    ) -> AgentPayload:
        """Make an agent of your tenant known."""
        draft = AgentDraft(
            input.name, input.description, list(input.scopes), input.configuration, input.tags or []
        )
        caller = info.context.caller
        made = await create(
            info.context, Permission.AGENTS, input, lambda tx: register_agent(tx, caller, draft), tables.Agent
        )
        if isinstance(made, Refusal):
            return AgentPayload.refused(made)
        return AgentPayload(agent=Agent(row=made.row if isinstance(made, Repeat) else made))

    @field
    async def update_agent(
        self, info: Info, input: Annotated[UpdateAgentInput, argument("What changes.")]
    ) -> AgentPayload:
        """Change an agent of your tenant."""
        scopes: list[str] | None = None if input.scopes is None else [*input.scopes]
        changes = AgentChanges(input.name, input.description, scopes, input.configuration, input.tags)
        agent_id = as_id(AgentId, input.agent_id)
        row = await info.context.write(update_agent, info.context.caller, agent_id, changes)
        return AgentPayload.refused(row) if isinstance(row, Refusal) else AgentPayload(agent=Agent(row=row))

    @field
    async def report_trust_score(
        self, info: Info, input: Annotated[ReportTrustScoreInput, argument("Whose score, and why.")]
    ) -> AgentPayload:
        """Say how far an agent of any tenant is trusted. For keys of the role TRUST_AUTHORITY."""
        agent_id = as_id(AgentId, input.agent_id)
        row = await info.context.write(report_trust, info.context.caller, agent_id, input.score, input.reason)
        return AgentPayload.refused(row) if isinstance(row, Refusal) else AgentPayload(agent=Agent(row=row))

    @field
    async def register_upstream(
        self, info: Info, input: Annotated[RegisterUpstreamInput, argument("The new service.")]
    ) -> UpstreamPayload:
        """Make a service of your tenant known."""
        gateway = info.context.gateway
        row = await info.context.write(
            register_upstream,
            info.context.caller,
            gateway.keys,
            gateway.settings.egress_allow,
            name=input.name,
            kind=input.kind,
            base_url=input.base_url,
            credential=_credential(input.credential),
            sandbox_base_url=input.sandbox_base_url,
            sandbox_credential=_credential(input.sandbox_credential),
            guardrail_url=input.guardrail_url,
        )
        return _upstream(row)

    @field
    async def update_upstream(
        self, info: Info, input: Annotated[UpdateUpstreamInput, argument("What changes.")]
    ) -> UpstreamPayload:
        """Move a service of your tenant, or replace its credential."""
        gateway = info.context.gateway
        row = await info.context.write(
            update_upstream,
            info.context.caller,
            gateway.keys,
            gateway.settings.egress_allow,
            as_id(UpstreamId, input.upstream_id),
            UpstreamChanges(
                base_url=input.base_url,
                credential=_credential(input.credential),
                sandbox_base_url=input.sandbox_base_url,
                sandbox_credential=_credential(input.sandbox_credential),
                guardrail_url=input.guardrail_url,
            ),
        )
        return _upstream(row)

    @field
    async def define_action(
        self, info: Info, input: Annotated[DefineActionInput, argument("The new action.")]
    ) -> ActionPayload:
        """Say what a scope allows on one of your services."""
        info.context.caller.require(Permission.UPSTREAMS)
        if input.request_schema is not None:
            refusal = await info.context.aside(partial(refuse_schema, input.request_schema))
            if refusal:
                return ActionPayload.refused(refusal)
        made = await info.context.write(
            define_action,
            info.context.caller,
            as_id(UpstreamId, input.upstream_id),
            scope=input.scope,
            method=input.method,
            path=input.path,
            cost_units=input.cost_units,
            response_mode=input.response_mode,
            idempotent=input.idempotent,
            request_schema=input.request_schema,
        )
        if isinstance(made, Refusal):
            return ActionPayload.refused(made)
        row, upstream_name = await info.context.load(actions, made.id)
        return ActionPayload(action=Action(row=row, upstream_name=upstream_name))

    @field
    async def remove_action(
        self, info: Info, action_id: Annotated[strawberry.ID, argument("The action.")]
    ) -> DeletedPayload:
        """Take an action away: nobody can perform it any more."""
        id = await info.context.write(remove_action, info.context.caller, as_id(ActionId, action_id))
        if isinstance(id, Refusal):
            return DeletedPayload.refused(id)
        return DeletedPayload(deleted_id=strawberry.ID(id))

    @field
    async def create_api_key(
        self, info: Info, input: Annotated[CreateApiKeyInput, argument("The new key.")]
    ) -> ApiKeyPayload:
        """Make an API key of your tenant."""
        minted = info.context.gateway.keys.mint(TokenKind.API_KEY)
        make = partial(
            create_key,
            caller=info.context.caller,
            name=input.name,
            subject=input.subject,
            role=input.role,
            expires_at=input.expires_at,
            minted=minted,
        )
        made = await create(info.context, Permission.KEYS, input, make, tables.ApiKey)
        match made:
            case Refusal():
                return ApiKeyPayload.refused(made)
            case Repeat(row):
                payload = ApiKeyPayload.refused(_MADE_ALREADY)
                payload.api_key = ApiKey(row=row)
                return payload
        return ApiKeyPayload(api_key=ApiKey(row=made), secret=minted.text)

    @field
    async def revoke_api_key(
        self, info: Info, api_key_id: Annotated[strawberry.ID, argument("The key.")]
    ) -> ApiKeyPayload:
        """End an API key of your tenant at once. A repeat answers like the first."""
        row = await info.context.write(revoke_key, info.context.caller, as_id(ApiKeyId, api_key_id))
        if isinstance(row, Refusal):
            return ApiKeyPayload.refused(row)
        return ApiKeyPayload(api_key=ApiKey(row=row))


def _credential(given: UpstreamCredentialInput | None) -> Credential | None:
    return Credential(given.header, given.value) if given else None


def _upstream(row: tables.Upstream | Refusal) -> UpstreamPayload:
    if isinstance(row, Refusal):
        return UpstreamPayload.refused(row)
    return UpstreamPayload(upstream=Upstream(row=row))
