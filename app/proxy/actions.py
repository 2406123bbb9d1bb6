"""`dispatchAction`: from its input to an attempt. What is wrong with the input is said before anything is recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select

from app.delegations.lent import describes
from app.delegations.read import visible_to
from app.identity.callers import Caller
from app.inventory.actions import route
from app.proxy.attempts import Attempt, ByCaller
from app.rules.admission import Ask
from app.rules.errors import Code, Refusal
from app.rules.ids import ActionId, BindingId, DispatchId
from app.rules.paths import wire_path
from app.rules.permissions import Permission
from app.rules.routes import ByScope, Route, fill
from app.rules.terms import IPAddress
from app.store.engine import Tx
from app.store.keys import new_id
from app.store.tables import Action, Binding, Delegation, Upstream


@dataclass(frozen=True, slots=True)
class ActionAsk:
    """What `dispatchAction` asks for. `path_parameters` are the values of the template's parameters."""

    binding_id: BindingId
    scope: str
    action_id: ActionId | None
    path_parameters: Mapping[str, str]
    address: IPAddress | None
    body: bytes = field(repr=False)


def attempt_action(tx: Tx, caller: Caller, ask: ActionAsk) -> Attempt | Refusal:
    """The attempt, or what is wrong with the input. Whether it is allowed is for its admission to say."""
    caller.require(Permission.DISPATCH)
    mine = (
        select(Delegation)
        .join(Binding)
        .where(
            Binding.id == ask.binding_id,
            Delegation.delegate_id == caller.tenant_id,
            visible_to(caller.tenant_id),
        )
    )
    delegation = tx.scalars(mine).one_or_none()
    if delegation is None:
        return Refusal(Code.NOT_FOUND, "bindingId names no binding of your tenant", ("bindingId",))
    found = _routes(tx, delegation, ask)
    if len(found) > 1:
        return Refusal(Code.ACTION_AMBIGUOUS, several(ask.scope, found), ("actionId",))
    filled = fill(found[0], ask.path_parameters) if found else ()
    if isinstance(filled, Refusal):
        return filled
    return Attempt(
        id=DispatchId(new_id("dsp")),
        by=ByCaller(caller, ask.binding_id),
        ask=Ask(
            ByScope(ask.scope, found[0].action_id if found else ask.action_id), ask.address, len(ask.body)
        ),
        upstream_name=found[0].upstream_name if found else "",
        method=found[0].method if found else "",
        path=wire_path(filled),
    )


def several(scope: str, routes: Sequence[Route]) -> str:
    """What to say where a scope that is lent has several actions, and none is named."""
    actions = ", ".join(route.action_id for route in routes)
    return f"actionId: the scope {scope} has several actions; name one of {actions}"


def _routes(tx: Tx, delegation: Delegation, ask: ActionAsk) -> list[Route]:
    # What is not lent now is not described either (promise 7): its admission says that it is not, and no more.
    if not describes(tx, delegation.delegate_id, delegation.id, ask.scope):
        return []
    rows = (
        select(Action, Upstream)
        .join(Upstream)
        .where(Action.tenant_id == delegation.delegator_id, Action.scope == ask.scope)
    )
    if ask.action_id is not None:
        rows = rows.where(Action.id == ask.action_id)
    return [route(action, upstream) for action, upstream in tx.execute(rows.order_by(Action.id))]
