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


@dataclass(frozen=True, slots=True)
class UpstreamChanges:
    """What is to change; None leaves as it is, and an empty address takes a sandbox or a guardrail away."""

    base_url: str | None = None
    credential: Credential | None = None
    sandbox_base_url: str | None = None
    sandbox_credential: Credential | None = None
    guardrail_url: str | None = None


def register_upstream(
    tx: Tx,
    caller: Caller,
    keys: Keys,
    allow: Sequence[Network],
    *,
    name: str,
    kind: str,
    base_url: str,
    credential: Credential | None = None,
    sandbox_base_url: str | None = None,
    sandbox_credential: Credential | None = None,
    guardrail_url: str | None = None,
) -> Upstream | Refusal:
    """A new service of the caller's tenant. `allow` are the private networks that it may be in."""
    caller.require(Permission.UPSTREAMS)
    lock_tenant(tx, caller.tenant_id)
    asked = UpstreamChanges(base_url, credential, sandbox_base_url, sandbox_credential, guardrail_url)
    if refusal := _refuse_name(tx, caller, name) or _refuse_kind(kind) or _refuse(asked, allow):
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
    if refusal := _change(upstream, asked, keys):
        return refusal
    tx.add(upstream)
    raise_routes(tx, caller.tenant_id)
    append(tx, [own(Event.UPSTREAM_REGISTERED, caller.tenant_id, caller.subject, now, **_told(upstream))])
    return upstream


def update_upstream(
    tx: Tx,
    caller: Caller,
    keys: Keys,
    allow: Sequence[Network],
    upstream_id: UpstreamId,
    asked: UpstreamChanges,
) -> Upstream | Refusal:
    """Moves an upstream or replaces its credentials. Another origin drops the credential that was stored for the one
    before, unless a new one comes along.
    """
    caller.require(Permission.UPSTREAMS)
    lock_tenant(tx, caller.tenant_id)
    upstream = find_upstream(tx, caller, upstream_id)
    if upstream is None:
        return Refusal(Code.NOT_FOUND, "upstreamId names no upstream of your tenant", ("upstreamId",))
    if refusal := _refuse(asked, allow) or _change(upstream, asked, keys):
        tx.expire(upstream)
        return refusal
    raise_routes(tx, caller.tenant_id)
    details = {
        **_told(upstream),
        "credentialReplaced": asked.credential is not None,
        "sandboxCredentialReplaced": asked.sandbox_credential is not None,
    }
    append(tx, [own(Event.UPSTREAM_UPDATED, caller.tenant_id, caller.subject, tx.now(), **details)])
    return upstream


def find_upstream(tx: Tx, caller: Caller, upstream_id: UpstreamId) -> Upstream | None:
    """An upstream of the caller's own tenant."""
    mine = select(Upstream).where(Upstream.id == upstream_id, Upstream.tenant_id == caller.tenant_id)
    return tx.scalars(mine).one_or_none()


def raise_routes(tx: Tx, tenant_id: TenantId) -> None:
    """Says that the tenant's routes have changed. They change under the tenant's lock."""
    raised = Tenant.routes_revision + 1
    tx.execute(update(Tenant).where(Tenant.id == tenant_id).values(routes_revision=raised))


def list_upstreams(tx: Tx, caller: Caller) -> list[Upstream]:
    """The upstreams of the caller's tenant, oldest first."""
    return list(
        tx.scalars(select(Upstream).where(Upstream.tenant_id == caller.tenant_id).order_by(Upstream.id))
    )


def sandbox_of(upstream_id: str) -> str:
    """What the sandbox's credential is sealed for: it does not open as the live one, nor the other way round."""
    return f"{upstream_id}/sandbox"


def _refuse(asked: UpstreamChanges, allow: Sequence[Network]) -> Refusal | None:
    """Refuses addresses that the gateway must not or cannot call, and what is no credential."""
    addresses = {
        "sandboxBaseUrl": asked.sandbox_base_url or None,
        "guardrailUrl": asked.guardrail_url or None,
    }
    for name, url in {"baseUrl": asked.base_url, **addresses}.items():
        if url is not None and (reason := origin_refusal(url, allow)):
            return Refusal(Code.INVALID, f"{name} {reason}", (name,))
    for name, credential in (
        ("credential", asked.credential),
        ("sandboxCredential", asked.sandbox_credential),
    ):
        if credential and (refusal := _refuse_credential(credential, name)):
            return refusal
    return None


def _change(upstream: Upstream, asked: UpstreamChanges, keys: Keys) -> Refusal | None:
    if asked.base_url is not None:
        if not _same_origin(asked.base_url, upstream.base_url):
            _set_credential(upstream, keys, None)
        upstream.base_url = asked.base_url.rstrip("/")
    if asked.credential:
        _set_credential(upstream, keys, asked.credential)
    if asked.sandbox_base_url is not None:
        if not _same_origin(asked.sandbox_base_url, upstream.sandbox_base_url):
            _set_sandbox_credential(upstream, keys, None)
        upstream.sandbox_base_url = asked.sandbox_base_url.rstrip("/") or None
    if asked.sandbox_credential:
        _set_sandbox_credential(upstream, keys, asked.sandbox_credential)
    if asked.guardrail_url is not None:
        upstream.guardrail_url = asked.guardrail_url or None
    return _refuse_sandbox(upstream)


def _same_origin(one: str, other: str | None) -> bool:
    return bool(one and other) and URL(one).origin() == URL(other or "").origin()


def _refuse_sandbox(upstream: Upstream) -> Refusal | None:
    if upstream.sandbox_base_url is None:
        if upstream.sealed_sandbox_credential is None:
            return None
        message = "sandboxCredential needs a sandboxBaseUrl: it goes nowhere else"
        return Refusal(Code.INVALID, message, ("sandboxCredential",))
    if URL(upstream.sandbox_base_url) == URL(upstream.base_url):
        message = "sandboxBaseUrl is the live address itself: give the sandbox's own"
        return Refusal(Code.INVALID, message, ("sandboxBaseUrl",))
    return None


def _told(upstream: Upstream) -> dict[str, object]:
    return {
        "upstreamId": upstream.id,
        "name": upstream.name,
        "baseUrl": upstream.base_url,
        "hasCredential": upstream.sealed_credential is not None,
        "sandboxBaseUrl": upstream.sandbox_base_url,
        "hasSandboxCredential": upstream.sealed_sandbox_credential is not None,
        "guardrailUrl": upstream.guardrail_url,
    }


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


def _refuse_credential(credential: Credential, name: str) -> Refusal | None:
    header = credential.header
    if (
        not _HEADER.fullmatch(header)
        or header.lower() in _FRAMING
        or header.lower().startswith("crossgrant-")
    ):
        message = f"{name}.header {header!r} cannot carry a credential: name a header such as Authorization"
        return Refusal(Code.INVALID, message, (name, "header"))
    if not _VALUE.fullmatch(credential.value):
        message = f"{name}.value: give 1 to 8192 visible ASCII characters (spaces inside are fine)"
        return Refusal(Code.INVALID, message, (name, "value"))
    return None


def _set_credential(upstream: Upstream, keys: Keys, credential: Credential | None) -> None:
    upstream.credential_header = credential.header if credential else None
    upstream.sealed_credential = (
        keys.seal(credential.value.encode(), upstream.tenant_id, upstream.id) if credential else None
    )


def _set_sandbox_credential(upstream: Upstream, keys: Keys, credential: Credential | None) -> None:
    upstream.sandbox_credential_header = credential.header if credential else None
    upstream.sealed_sandbox_credential = (
        keys.seal(credential.value.encode(), upstream.tenant_id, sandbox_of(upstream.id))
        if credential
        else None
    )
