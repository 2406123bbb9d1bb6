"""Where actions lead: each tenant's routes and upstreams, parsed once per revision.

Nothing here is a decision from a cache: the transaction that admits reads the tenant's revision, and a table of
another revision is not used (promise 2).
"""

from collections import OrderedDict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag

from app.inventory.upstreams import sandbox_of
from app.rules.ids import ActionId, TenantId
from app.rules.routes import Route, RouteTable, parse_template
from app.store.hot import ROUTES, UPSTREAMS, Batch, Rows, step
from app.store.keys import Keys

_MOST = 1_000  # tenants whose tables stay in memory


@dataclass(frozen=True, slots=True)
class Destination:
    """An upstream, ready to be called. `credential` is None where it has none, or none that opens."""

    upstream_name: str
    base_url: str
    credential: tuple[str, str] | None = field(repr=False)
    guardrail_url: str | None


@dataclass(frozen=True, slots=True)
class Catalog:
    """One tenant's routes and upstreams at one revision."""

    revision: int
    routes: RouteTable
    upstreams: Mapping[str, Destination]
    sandboxes: Mapping[str, Destination]

    def destination(self, route: Route, *, sandbox: bool) -> Destination:
        """Where an action leads: never to the live address, nor with its credential, where only the sandbox is lent."""
        return (self.sandboxes if sandbox else self.upstreams)[route.upstream_name]


class Destinations:
    """The catalogs of the tenants most recently acted in."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._catalogs: OrderedDict[TenantId, Catalog] = OrderedDict()

    def learn(self, revisions: Mapping[TenantId, int]) -> Batch[dict[TenantId, Catalog]]:
        """These tenants' catalogs, reading those of which we have none of this revision."""
        unknown = [id for id, revision in revisions.items() if not self._knows(id, revision)]
        if unknown:
            routes = yield step(ROUTES, unknown)
            upstreams = yield step(UPSTREAMS, unknown)
            for tenant_id in unknown:
                self._catalogs[tenant_id] = self._catalog(tenant_id, revisions[tenant_id], routes, upstreams)
        known = {id: self._catalogs[id] for id in revisions}
        self._forget(known)
        return known

    def _knows(self, tenant_id: TenantId, revision: int) -> bool:
        catalog = self._catalogs.get(tenant_id)
        return catalog is not None and catalog.revision == revision

    def _forget(self, used: Iterable[TenantId]) -> None:
        for tenant_id in used:
            self._catalogs.move_to_end(tenant_id)
        while len(self._catalogs) > _MOST:
            self._catalogs.popitem(last=False)

    def _catalog(self, tenant_id: TenantId, revision: int, routes: Rows, upstreams: Rows) -> Catalog:
        live: dict[str, Destination] = {}
        sandboxes: dict[str, Destination] = {}
        for owner, id, name, base_url, header, sealed, *sandbox, guardrail_url in upstreams:
            if owner != tenant_id:
                continue
            credential = self._opened(owner, id, header, sealed)
            live[name] = Destination(name, base_url, credential, guardrail_url)
            sandbox_url, *sandbox_credential = sandbox
            if sandbox_url is not None:
                credential = self._opened(owner, sandbox_of(id), *sandbox_credential)
                sandboxes[name] = Destination(name, sandbox_url, credential, guardrail_url)
        # Routes were read before upstreams: on PostgreSQL one may have changed or gone meanwhile. Of a route there is
        # what there is a destination for.
        mine = (_route(row, sandboxes) for row in routes if row[0] == tenant_id and row[2] in live)
        return Catalog(revision, RouteTable(mine), live, sandboxes)

    def _opened(
        self, tenant_id: str, id: str, header: str | None, sealed: str | None
    ) -> tuple[str, str] | None:
        if header is None or sealed is None:
            return None
        try:
            return header, self._keys.open(sealed, tenant_id, id).decode()
        except (
            InvalidTag
        ):  # sealed for another use, or under another secret: never sent, so the upstream refuses
            return None


def _route(row: Iterable[object], sandboxes: Container[str]) -> Route:
    _, id, upstream_name, scope, method, path, idempotent, cost_units, schema = row
    template = str(path)
    return Route(
        ActionId(str(id)),
        str(upstream_name),
        str(scope),
        str(method),
        template,
        parse_template(template),
        bool(idempotent),
        int(str(cost_units)),
        None if schema is None else str(schema),
        upstream_name in sandboxes,
    )
