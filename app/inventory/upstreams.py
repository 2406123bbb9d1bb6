"""Upstreams: a tenant's services. A credential goes in, is replaced or dropped, and never comes out again."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select, update
from yarl import URL

from app.egress.origins import origin_refusal
from app.identity.callers import Caller
from app.identity.tenants import lock_tenant
from app.ledger.append import append, own
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.ids import TenantId, UpstreamId
from app.rules.permissions import Permission
from app.settings import Network
from app.store.engine import Tx
from app.store.keys import Keys, new_id
from app.store.tables import Tenant, Upstream

MOST_UPSTREAMS = 100

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]{1,100}")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,8190}[\x21-\x7e])?")
#: Headers that frame or route a request: a credential may not pose as one (promise 8).
_FRAMING = frozenset(
    {
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "content-type",
        "content-encoding",
        "accept-encoding",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
    }
)


@dataclass(frozen=True, slots=True)
class Credential:
    """The header with which an upstream knows its tenant's gateway."""

    header: str
    value: str = field(repr=False)


def register_upstream(
    tx: Tx,
    caller: Caller,
    keys: Keys,
    allow: Sequence[Network],
    *,
    name: str,
    kind: str,
    base_url: str,
    credential: Credential | None,
) -> Upstream | Refusal:
    """A new service of the caller's tenant. `allow` are the private networks that it may be in."""
    caller.require(Permission.UPSTREAMS)
    lock_tenant(tx, caller.tenant_id)
    if refusal := _refuse_name(tx, caller, name) or _refuse_kind(kind) or refuse_base_url(base_url, allow):
        return refusal
    if credential and (refusal := _refuse_credential(credential)):
        return refusal
    now = tx.now()
    upstream = Upstream(
        id=UpstreamId(new_id("ups")),
        tenant_id=caller.tenant_id,
        name=name,
        kind=kind,
        base_url=base_url.rstrip("/"),
        created_at=now,
    )
    _set_credential(upstream, keys, credential)
    tx.add(upstream)
    raise_routes(tx, caller.tenant_id)
    details = {
        "upstreamId": upstream.id,
        "name": name,
        "baseUrl": base_url,
        "hasCredential": credential is not None,
    }
    append(tx, [own(Event.UPSTREAM_REGISTERED, caller.tenant_id, caller.subject, now, **details)])
    return upstream


def update_upstream(
    tx: Tx,
    caller: Caller,
    keys: Keys,
    allow: Sequence[Network],
    upstream_id: UpstreamId,
    *,
    base_url: str | None,
    credential: Credential | None,
) -> Upstream | Refusal:
    """Moves an upstream or replaces its credential. Another origin drops the stored one unless a new one comes along."""
    caller.require(Permission.UPSTREAMS)
    raise_routes(tx, caller.tenant_id)
    upstream = find_upstream(tx, caller, upstream_id)
    if upstream is None:
        return Refusal(Code.NOT_FOUND, "upstreamId names no upstream of your tenant", ("upstreamId",))
    if base_url is not None and (refusal := refuse_base_url(base_url, allow)):
        return refusal
    if credential and (refusal := _refuse_credential(credential)):
        return refusal
    if base_url is not None:
        moved = URL(base_url).origin() != URL(upstream.base_url).origin()
        upstream.base_url = base_url.rstrip("/")
        if moved:
            _set_credential(upstream, keys, None)
    if credential:
        _set_credential(upstream, keys, credential)
    details = {
        "upstreamId": upstream.id,
        "name": upstream.name,
        "baseUrl": upstream.base_url,
        "credentialReplaced": credential is not None,
        "hasCredential": upstream.sealed_credential is not None,
    }
    append(tx, [own(Event.UPSTREAM_UPDATED, caller.tenant_id, caller.subject, tx.now(), **details)])
    return upstream


def find_upstream(tx: Tx, caller: Caller, upstream_id: UpstreamId) -> Upstream | None:
    """An upstream of the caller's own tenant."""
    mine = select(Upstream).where(Upstream.id == upstream_id, Upstream.tenant_id == caller.tenant_id)
    return tx.scalars(mine).one_or_none()


def raise_routes(tx: Tx, tenant_id: TenantId) -> None:
    """Says that the tenant's routes have changed; also the lock under which they change."""
    raised = Tenant.routes_revision + 1
    tx.execute(update(Tenant).where(Tenant.id == tenant_id).values(routes_revision=raised))


def list_upstreams(tx: Tx, caller: Caller) -> list[Upstream]:
    """The upstreams of the caller's tenant, oldest first."""
    return list(
        tx.scalars(select(Upstream).where(Upstream.tenant_id == caller.tenant_id).order_by(Upstream.id))
    )


def refuse_base_url(base_url: str, allow: Sequence[Network]) -> Refusal | None:
    """Refuses an address that the gateway must not or cannot call."""
    reason = origin_refusal(base_url, allow)
    return Refusal(Code.INVALID, f"baseUrl {reason}", ("baseUrl",)) if reason else None


def _refuse_name(tx: Tx, caller: Caller, name: str) -> Refusal | None:
    if not _NAME.fullmatch(name):
        message = (
            f"name {name!r}: give 1 to 63 lower-case letters, digits and inner hyphens, as in receipts-api"
        )
        return Refusal(Code.INVALID, message, ("name",))
    mine = Upstream.tenant_id == caller.tenant_id
    if tx.scalars(select(Upstream.id).where(mine, Upstream.name == name)).first():
        return Refusal(Code.TAKEN, f"your tenant has an upstream named {name!r} already", ("name",))
    if (tx.scalar(select(func.count()).select_from(Upstream).where(mine)) or 0) >= MOST_UPSTREAMS:
        return Refusal(Code.LIMIT_REACHED, f"your tenant has {MOST_UPSTREAMS} upstreams: that is the most")
    return None


def _refuse_kind(kind: str) -> Refusal | None:
    if kind == "REST":
        return None
    return Refusal(
        Code.NOT_SUPPORTED, f"kind {kind} is not supported yet: register a REST upstream", ("kind",)
    )


def _refuse_credential(credential: Credential) -> Refusal | None:
    header = credential.header
    if (
        not _HEADER.fullmatch(header)
        or header.lower() in _FRAMING
        or header.lower().startswith("crossgrant-")
    ):
        message = (
            f"credential.header {header!r} cannot carry a credential: name a header such as Authorization"
        )
        return Refusal(Code.INVALID, message, ("credential", "header"))
    if not _VALUE.fullmatch(credential.value):
        message = "credential.value: give 1 to 8192 visible ASCII characters (spaces inside are fine)"
        return Refusal(Code.INVALID, message, ("credential", "value"))
    return None


def _set_credential(upstream: Upstream, keys: Keys, credential: Credential | None) -> None:
    upstream.credential_header = credential.header if credential else None
    upstream.sealed_credential = (
        keys.seal(credential.value.encode(), upstream.tenant_id, upstream.id) if credential else None
    )
