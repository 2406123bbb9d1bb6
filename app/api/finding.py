"""From an id to what it names: its prefix says where to look."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from app.api.context import Info
from app.api.loaders import Query
from app.api.types.agents import Agent
from app.api.types.audit import AuditEntry
from app.api.types.bindings import Binding, ScopedToken
from app.api.types.delegations import Delegation
from app.api.types.dispatches import Dispatch
from app.api.types.nodes import Node
from app.api.types.tenants import ApiKey, Tenant
from app.api.types.upstreams import Action, Upstream
from app.api.types.webhooks import WebhookDelivery, WebhookEndpoint
from app.delegations import lent, parts, read
from app.delivery.webhooks.read import deliveries, endpoints
from app.identity.read import keys, tenants
from app.inventory.read import upstreams
from app.ledger.read import entries
from app.proxy.read import dispatches
from app.rules.ids import prefix_of
from app.rules.permissions import Permission

N = TypeVar("N", bound=Node)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one kind of thing is found and shown, and what one must be allowed to."""

    type: type[Node]
    query: Query[Any, [], Any]
    shown: Callable[[Any], Node]
    permission: Permission = Permission.READ


_KINDS = {
    "ten": _Kind(Tenant, tenants, lambda row: Tenant(row=row)),
    "key": _Kind(ApiKey, keys, lambda row: ApiKey(row=row), Permission.KEYS_READ),
    "agt": _Kind(Agent, lent.agents, lambda row: Agent(row=row)),
    "ups": _Kind(Upstream, upstreams, lambda row: Upstream(row=row)),
    "act": _Kind(Action, lent.actions, lambda found: Action(row=found[0], upstream_name=found[1])),
    "dlg": _Kind(Delegation, read.delegations, lambda row: Delegation(row=row)),
    "bnd": _Kind(Binding, parts.bindings, lambda row: Binding(row=row)),
    "tok": _Kind(ScopedToken, parts.tokens, lambda found: ScopedToken(row=found[0], binding=found[1])),
    "dsp": _Kind(Dispatch, dispatches, lambda row: Dispatch(row=row)),
    "aud": _Kind(AuditEntry, entries, lambda row: AuditEntry(row=row), Permission.AUDIT),
    "whk": _Kind(WebhookEndpoint, endpoints, lambda row: WebhookEndpoint(row=row), Permission.WEBHOOKS),
    "whd": _Kind(WebhookDelivery, deliveries, lambda row: WebhookDelivery(row=row), Permission.WEBHOOKS),
}

#: Every type of the interface Node.
NODES = tuple(kind.type for kind in _KINDS.values())


async def find_node(info: Info, id: str) -> Node | None:
    """What an id names, or None where the caller's tenant sees nothing of that id (promise 7)."""
    return await find_a(Node, info, id)


async def find_a(wanted: type[N], info: Info, id: str) -> N | None:
    """The same where a field answers one kind of thing alone."""
    info.context.reading()
    kind = _KINDS.get(prefix_of(id) or "")
    if kind is None or not issubclass(kind.type, wanted):
        return None
    info.context.caller.require(kind.permission)
    found = await info.context.find(kind.query, id)
    return None if found is None else cast(N, kind.shown(found))
