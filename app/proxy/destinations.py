"""Where actions lead: each tenant's routes and upstreams, parsed once per revision.

Nothing here is a decision from a cache: the transaction that admits reads the tenant's revision, and a table of
another revision is not used (promise 2).
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag

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


@dataclass(frozen=True, slots=True)
class Catalog:
    """One tenant's routes and upstreams at one revision."""

    revision: int
    routes: RouteTable
    upstreams: Mapping[str, Destination]


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
        mine = (_route(row) for row in routes if row[0] == tenant_id)
        destinations = {row[2]: self._destination(*row) for row in upstreams if row[0] == tenant_id}
        return Catalog(revision, RouteTable(mine), destinations)

    def _destination(
        self, tenant_id: str, id: str, name: str, base_url: str, header: str | None, sealed: str | None
    ) -> Destination:
        if header is None or sealed is None:
            return Destination(name, base_url, None)
        try:
            return Destination(name, base_url, (header, self._keys.open(sealed, tenant_id, id).decode()))
        except (
            InvalidTag
        ):  # sealed for another row, or under another secret: never sent, so the upstream refuses
            return Destination(name, base_url, None)


def _route(row: Iterable[object]) -> Route:
    _, id, upstream_name, scope, method, path, idempotent = row
    template = str(path)
    return Route(
        ActionId(str(id)),
        str(upstream_name),
        str(scope),
        str(method),
        template,
        parse_template(template),
        bool(idempotent),
    )
