"""Who acts under a delegation, with what token, and acting."""

from collections.abc import Callable
from typing import Annotated

from app.api.context import MOST_ANSWERED, Context, Info
from app.api.creating import already_issued, create
from app.api.described import argument, field, object_type
from app.api.inputs.names import as_id, maybe_id
from app.api.inputs.once import refuse_key
from app.api.inputs.work import CreateBindingInput, DispatchActionInput, RevokeBindingInput, RotateTokenInput
from app.api.requested import Requested, requested
from app.api.types.bindings import Binding
from app.api.types.dispatches import Dispatch, upstream_response
from app.api.types.payloads import BindingPayload, DispatchActionPayload, UserError
from app.delegations.bindings import Issued, create_binding, revoke_binding, rotate_token
from app.identity.once import Repeat
from app.proxy.actions import ActionAsk, attempt_action
from app.proxy.answers import Answered, Result, told
from app.proxy.attempts import Attempt, Content
from app.proxy.endpoint import idempotency_key
from app.proxy.read import dispatches
from app.rules.errors import Code, Refusal, Unavailable
from app.rules.ids import ActionId, AgentId, BindingId, DelegationId, DispatchId
from app.rules.permissions import Permission
from app.store import tables
from app.store.engine import Tx

_LEFT_OUT = Refusal(
    Code.LIMIT_REACHED,
    "the action was performed, but its answer is left out: the answers to one document take "
    f"{MOST_ANSWERED:,} bytes at most; perform fewer actions at a time",
)

_ISSUED_ALREADY = already_issued("call rotateToken for a new one")


@object_type
class WorkMutations:
    """Bindings, tokens, actions."""

    @field
    async def create_binding(
        self, info: Info, input: Annotated[CreateBindingInput, argument("Who acts, and under what.")]
    ) -> BindingPayload:
        """Bind one more of your agents to a delegation to your tenant; it gets a scoped token."""
        caller, keys = info.context.caller, info.context.gateway.keys
        delegation_id, agent_id = as_id(DelegationId, input.delegation_id), as_id(AgentId, input.agent_id)
        return await _issued(
            info.context, input, lambda tx: create_binding(tx, caller, delegation_id, agent_id, keys)
        )

    @field
    async def rotate_token(
        self, info: Info, input: Annotated[RotateTokenInput, argument("Whose token.")]
    ) -> BindingPayload:
        """Replace the token of a binding of your tenant."""
        caller, keys = info.context.caller, info.context.gateway.keys
        binding_id, overlap = as_id(BindingId, input.binding_id), input.overlap_seconds
        return await _issued(
            info.context, input, lambda tx: rotate_token(tx, caller, binding_id, overlap, keys)
        )

    @field
    async def revoke_binding(
        self, info: Info, input: Annotated[RevokeBindingInput, argument("Which binding, and why.")]
    ) -> BindingPayload:
        """End one binding at once, as either party. A repeat answers like the first."""
        context = info.context
        binding_id = as_id(BindingId, input.binding_id)
        row = await context.write(revoke_binding, context.caller, binding_id, input.reason)
        if isinstance(row, Refusal):
            return BindingPayload.refused(row)
        return BindingPayload(binding=Binding(row=row))

    @field
    async def dispatch_action(
        self, info: Info, input: Annotated[DispatchActionInput, argument("What is to be done.")]
    ) -> DispatchActionPayload:
        """Perform an action in the delegator's service, as one of your bindings."""
        context = info.context
        context.caller.require(Permission.DISPATCH)
        asked = requested(input)
        if isinstance(asked, Refusal):
            return DispatchActionPayload.refused(asked)
        if refusal := refuse_key(input.idempotency_key):
            return DispatchActionPayload.refused(refusal)
        attempt = await _attempt(context, input, asked)
        if isinstance(attempt, Refusal):
            return DispatchActionPayload.refused(attempt)
        content = Content(asked.query, asked.headers, asked.body)
        return await _performed(context, await context.gateway.performer.perform_owned(attempt, content))


async def _issued(
    context: Context, input: CreateBindingInput | RotateTokenInput, make: Callable[[Tx], Issued | Refusal]
) -> BindingPayload:
    issued = await create(
        context, Permission.BIND, input, make, tables.Binding, lambda issued: issued.binding.id
    )
    match issued:
        case Refusal():
            return BindingPayload.refused(issued)
        case Repeat(row):
            payload = BindingPayload.refused(_ISSUED_ALREADY)
            payload.binding = Binding(row=row)
            return payload
    return BindingPayload(
        binding=Binding(row=issued.binding),
        scoped_token=issued.minted.text,
        token_expires_at=issued.token.expires_at,
    )


async def _attempt(context: Context, input: DispatchActionInput, asked: Requested) -> Attempt | Refusal:
    ask = ActionAsk(
        binding_id=as_id(BindingId, input.binding_id),
        scope=input.scope,
        action_id=maybe_id(ActionId, input.action_id),
        path_parameters=asked.path_parameters,
        address=context.address,
        body=asked.body,
    )
    attempt = await context.read(attempt_action, context.caller, ask)
    if isinstance(attempt, Refusal) or input.idempotency_key is None:
        return attempt
    path = f"{attempt.upstream_name}{attempt.path}"
    whole = (attempt.method, path, asked.query, asked.body)
    return attempt._replace(key=idempotency_key(context.gateway.keys, input.idempotency_key, *whole))


async def _performed(context: Context, result: Result) -> DispatchActionPayload:
    context.forget()
    shown = await _shown(context, result.dispatch_id) if result.dispatch_id else None
    if isinstance(result, Answered):
        payload = _answered(context, result)
    else:
        payload = DispatchActionPayload.refused(Refusal(result.code, told(result)[1]))
    if isinstance(shown, Refusal):
        payload.user_errors.append(UserError(row=shown))
    else:
        payload.dispatch = shown
    return payload


async def _shown(context: Context, id: DispatchId) -> Dispatch | Refusal | None:
    try:
        row = await context.find(dispatches, id)
    except Unavailable:  # which would say that nothing was done
        return Refusal(Code.UNAVAILABLE, f"{id} has ended, and cannot be shown just now: ask for it later")
    return Dispatch(row=row) if row else None


def _answered(context: Context, answered: Answered) -> DispatchActionPayload:
    response = upstream_response(answered)
    if context.take(response.size):
        return DispatchActionPayload(response=response)
    response.body = response.text = None
    payload = DispatchActionPayload.refused(_LEFT_OUT)
    payload.response = response
    return payload
