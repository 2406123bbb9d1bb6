"""Actions: what one scope allows on one upstream."""

import orjson
from sqlalchemy import Text, func, select, type_coerce

from app.identity.callers import Caller
from app.identity.tenants import lock_tenant
from app.inventory.upstreams import find_upstream, raise_routes
from app.ledger.append import append, own
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.guards import refuse_schema
from app.rules.ids import ActionId, UpstreamId
from app.rules.permissions import Permission
from app.rules.routes import METHODS, Route, Unroutable, clash, parse_template
from app.rules.scopes import is_scope
from app.store.engine import Tx
from app.store.keys import new_id
from app.store.tables import Action, Delegation, Upstream

MOST_ACTIONS = 1_000  # of one tenant: all of them are matched in memory
MOST_COST = 1_000_000
#: Bytes of one tenant's request schemas together: whoever acts there has all of them at hand.
MOST_SCHEMAS = 512 * 1024


def define_action(
    tx: Tx,
    caller: Caller,
    upstream_id: UpstreamId,
    *,
    scope: str,
    method: str | None,
    path: str | None,
    cost_units: int,
    response_mode: str,
    idempotent: bool,
    request_schema: object = None,
) -> Action | Refusal:
    """A new action of an upstream of the caller's tenant."""
    caller.require(Permission.UPSTREAMS)
    lock_tenant(tx, caller.tenant_id)
    upstream = find_upstream(tx, caller, upstream_id)
    if upstream is None:
        return Refusal(Code.NOT_FOUND, "upstreamId names no upstream of your tenant", ("upstreamId",))
    if refusal := _refuse(scope, method, cost_units, response_mode):
        return refusal
    if request_schema is not None and (refusal := _refuse_schema(tx, caller, request_schema)):
        return refusal
    assert method is not None
    if refusal := _refuse_path(tx, upstream, method, path):
        return refusal
    assert path is not None
    action = Action(
        id=ActionId(new_id("act")),
        tenant_id=caller.tenant_id,
        upstream_id=upstream.id,
        scope=scope,
        method=method,
        path=path,
        cost_units=cost_units,
        response_mode=response_mode,
        idempotent=idempotent,
        request_schema=request_schema,
        created_at=tx.now(),
    )
    tx.add(action)
    raise_routes(tx, caller.tenant_id)
    details = {
        "actionId": action.id,
        "upstreamId": upstream.id,
        "scope": scope,
        "method": method,
        "path": path,
        "costUnits": cost_units,
        "hasRequestSchema": request_schema is not None,
    }
    append(tx, [own(Event.ACTION_DEFINED, caller.tenant_id, caller.subject, action.created_at, **details)])
    return action


def remove_action(tx: Tx, caller: Caller, action_id: ActionId) -> ActionId | Refusal:
    """Takes an action away; from its commit on nobody is admitted to it (promise 1)."""
    caller.require(Permission.UPSTREAMS)
    lock_tenant(tx, caller.tenant_id)
    mine_living = Delegation.delegator_id == caller.tenant_id, Delegation.ended_at.is_(None)
    tx.lock(tx.scalars(select(Delegation.id).where(*mine_living)))
    mine = select(Action).where(Action.id == action_id, Action.tenant_id == caller.tenant_id)
    action = tx.scalars(mine).one_or_none()
    if action is None:
        return Refusal(Code.NOT_FOUND, "actionId names no action of your tenant", ("actionId",))
    tx.delete(action)
    raise_routes(tx, caller.tenant_id)
    details = {"actionId": action.id, "upstreamId": action.upstream_id, "scope": action.scope}
    append(tx, [own(Event.ACTION_REMOVED, caller.tenant_id, caller.subject, tx.now(), **details)])
    return action.id


def _refuse(scope: str, method: str | None, cost_units: int, response_mode: str) -> Refusal | None:
    if not is_scope(scope):
        message = f"scope {scope!r}: give resource:verb in lower case, as in receipts:write"
        return Refusal(Code.INVALID, message, ("scope",))
    if method not in METHODS:
        return Refusal(Code.INVALID, f"method: give one of {', '.join(METHODS)}", ("method",))
    if not 1 <= cost_units <= MOST_COST:
        return Refusal(
            Code.INVALID, f"costUnits is {cost_units}: give a number from 1 to {MOST_COST}", ("costUnits",)
        )
    if response_mode != "BUFFERED":
        message = f"responseMode {response_mode} is not supported yet: use BUFFERED"
        return Refusal(Code.NOT_SUPPORTED, message, ("responseMode",))
    return None


def _refuse_path(tx: Tx, upstream: Upstream, method: str, path: str | None) -> Refusal | None:
    try:
        segments = parse_template(path or "")
    except Unroutable as why:
        return Refusal(Code.INVALID, f"path {why}", ("path",))
    mine = Action.tenant_id == upstream.tenant_id
    if (tx.scalar(select(func.count()).select_from(Action).where(mine)) or 0) >= MOST_ACTIONS:
        return Refusal(Code.LIMIT_REACHED, f"your tenant has {MOST_ACTIONS} actions: that is the most")
    # Not whole actions: their schemas take their time, and say nothing of paths.
    beside = select(Action.id, Action.method, Action.path).where(Action.upstream_id == upstream.id)
    return clash(segments, (_placed(*row) for row in tx.execute(beside)), method)


def _placed(id: ActionId, method: str, path: str) -> Route:
    """An action as far as its place goes."""
    return Route(id, "", "", method, path, parse_template(path), False, 1, None, False)


def _refuse_schema(tx: Tx, caller: Caller, schema: object) -> Refusal | None:
    if refusal := refuse_schema(schema):
        return refusal
    size = func.length(type_coerce(Action.request_schema, Text))
    known = tx.scalar(select(func.sum(size)).where(Action.tenant_id == caller.tenant_id)) or 0
    if known + len(orjson.dumps(schema)) > MOST_SCHEMAS:
        message = f"requestSchema: your tenant's schemas take {MOST_SCHEMAS} bytes, which is the most"
        return Refusal(Code.LIMIT_REACHED, message, ("requestSchema",))
    return None


def route(action: Action, upstream: Upstream) -> Route:
    """An action as the proxy matches it."""
    schema = action.request_schema
    return Route(
        action_id=action.id,
        upstream_name=upstream.name,
        scope=action.scope,
        method=action.method,
        template=action.path,
        segments=parse_template(action.path),
        idempotent=action.idempotent,
        cost_units=action.cost_units,
        schema=None if schema is None else orjson.dumps(schema, option=orjson.OPT_SORT_KEYS).decode(),
        has_sandbox=upstream.sandbox_base_url is not None,
    )
