"""Endpoints: where a tenant wants its ledger to be sent to. A secret is shown once and kept sealed."""

import secrets
from base64 import b64decode
from dataclasses import dataclass, field

from sqlalchemy import func, select

from app.delivery.webhooks.unread import unread
from app.egress.origins import Reach
from app.identity.callers import Caller
from app.identity.tenants import lock_tenant
from app.ledger.append import append, own
from app.ledger.read import head
from app.rules.entries import Event
from app.rules.errors import Code, Refusal
from app.rules.ids import DAY, SECOND, EndpointId, Instant, TenantId
from app.rules.permissions import Permission
from app.rules.texts import LONGEST_TEXT, refuse_text
from app.rules.webhooks import (
    SECRET_BYTES,
    SECRET_PREFIX,
    EndpointStatus,
    refuse_events,
    render_secret,
)
from app.store.engine import Tx
from app.store.keys import Keys, new_id
from app.store.tables import WebhookEndpoint

MOST_ENDPOINTS = 50
LONGEST_OVERLAP = 7 * DAY // SECOND  # seconds


@dataclass(frozen=True, slots=True)
class EndpointChanges:
    """What is to change; None leaves as it is."""

    url: str | None = None
    events: list[str] | None = None
    description: str | None = None
    status: EndpointStatus | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """An endpoint with a secret that was made just now. `text` is never stored."""

    endpoint: WebhookEndpoint
    text: str = field(repr=False)


def create_endpoint(
    tx: Tx, caller: Caller, keys: Keys, reach: Reach, asked: EndpointChanges
) -> Secret | Refusal:
    """A new endpoint of the caller's tenant. It is sent what comes after its own `webhook.created`."""
    caller.require(Permission.WEBHOOKS)
    lock_tenant(tx, caller.tenant_id)
    if refusal := _refuse(asked, reach) or _refuse_many(tx, caller.tenant_id):
        return refusal
    now, text = tx.now(), render_secret(secrets.token_bytes(SECRET_BYTES))
    endpoint = WebhookEndpoint(
        id=EndpointId(new_id("whk")),
        tenant_id=caller.tenant_id,
        url=asked.url,
        events=asked.events,
        description=asked.description or None,
        status=EndpointStatus.ENABLED,
        cursor=0,
        created_at=now,
    )
    endpoint.sealed_secret = _sealed(endpoint, keys, text)
    tx.add(endpoint)
    append(tx, [own(Event.WEBHOOK_CREATED, caller.tenant_id, caller.subject, now, **_told(endpoint))])
    endpoint.cursor = head(tx, caller.tenant_id)
    return Secret(endpoint, text)


def update_endpoint(
    tx: Tx, caller: Caller, reach: Reach, endpoint_id: EndpointId, asked: EndpointChanges
) -> WebhookEndpoint | Refusal:
    """Changes an endpoint. One that is disabled waits where it is; enabled again, it goes on from there."""
    caller.require(Permission.WEBHOOKS)
    endpoint = lock_endpoint(tx, caller.tenant_id, endpoint_id)
    if isinstance(endpoint, Refusal):
        return endpoint
    if refusal := _refuse(asked, reach):
        return refusal
    if asked.events is not None:  # new ones are those that happen from now on
        endpoint.cursor = _caught_up(tx, endpoint)
    _change(endpoint, asked, caller)
    append(tx, [own(Event.WEBHOOK_UPDATED, caller.tenant_id, caller.subject, tx.now(), **_told(endpoint))])
    return endpoint


def _caught_up(tx: Tx, endpoint: WebhookEndpoint) -> int:
    """Its cursor, past what it does not want: alone that stays behind while there is nothing to send."""
    [[read]] = unread(tx, [(endpoint, 1)])
    return endpoint.cursor if read.entries else read.cursor


def delete_endpoint(tx: Tx, caller: Caller, endpoint_id: EndpointId) -> EndpointId | Refusal:
    """Takes an endpoint away, with its deliveries; returns its id."""
    caller.require(Permission.WEBHOOKS)
    endpoint = lock_endpoint(tx, caller.tenant_id, endpoint_id)
    if isinstance(endpoint, Refusal):
        return endpoint
    endpoint.deleted_at = tx.now()
    details = {"endpointId": endpoint.id}
    append(tx, [own(Event.WEBHOOK_DELETED, caller.tenant_id, caller.subject, endpoint.deleted_at, **details)])
    return endpoint.id


def rotate_secret(
    tx: Tx, caller: Caller, keys: Keys, endpoint_id: EndpointId, overlap: int
) -> Secret | Refusal:
    """A new secret. For `overlap` seconds everything is signed with the one before, too; the one before that ends now."""
    caller.require(Permission.WEBHOOKS)
    endpoint = lock_endpoint(tx, caller.tenant_id, endpoint_id)
    if isinstance(endpoint, Refusal):
        return endpoint
    if not 0 <= overlap <= LONGEST_OVERLAP:
        message = f"overlapSeconds: {overlap} is not from 0 to {LONGEST_OVERLAP}"
        return Refusal(Code.INVALID, message, ("overlapSeconds",))
    now, text = tx.now(), render_secret(secrets.token_bytes(SECRET_BYTES))
    endpoint.sealed_old_secret = endpoint.sealed_secret if overlap else None
    endpoint.old_secret_until = Instant(now + overlap * SECOND) if overlap else None
    endpoint.sealed_secret = _sealed(endpoint, keys, text)
    details = {"endpointId": endpoint.id, "overlapSeconds": overlap}
    append(tx, [own(Event.WEBHOOK_SECRET_ROTATED, caller.tenant_id, caller.subject, now, **details)])
    return Secret(endpoint, text)


def lock_endpoint(tx: Tx, tenant_id: TenantId, endpoint_id: EndpointId) -> WebhookEndpoint | Refusal:
    """An endpoint of the tenant, locked: deliveries are made under its lock alone. Before the ledger's head."""
    mine = WebhookEndpoint.id == endpoint_id, WebhookEndpoint.tenant_id == tenant_id
    rows = select(WebhookEndpoint).where(*mine, WebhookEndpoint.deleted_at.is_(None))
    fresh = rows.with_for_update().execution_options(populate_existing=True)
    if found := tx.scalars(fresh).one_or_none():
        return found
    return Refusal(Code.NOT_FOUND, "endpointId names no webhook endpoint of your tenant", ("endpointId",))


def open_secrets(endpoint: WebhookEndpoint, keys: Keys, now: Instant) -> tuple[bytes, ...]:
    """What to sign with now, the newest first."""
    sealed = [endpoint.sealed_secret]
    if endpoint.sealed_old_secret and (endpoint.old_secret_until or 0) > now:
        sealed.append(endpoint.sealed_old_secret)
    texts = (keys.open(one, endpoint.tenant_id, endpoint.id) for one in sealed)
    return tuple(b64decode(text.removeprefix(SECRET_PREFIX.encode())) for text in texts)


def disable(endpoint: WebhookEndpoint, reason: str) -> None:
    """Nothing more is sent to it, until its owner enables it."""
    endpoint.status = EndpointStatus.DISABLED
    endpoint.disabled_reason = reason


def _sealed(endpoint: WebhookEndpoint, keys: Keys, text: str) -> str:
    return keys.seal(text.encode(), endpoint.tenant_id, endpoint.id)


def _change(endpoint: WebhookEndpoint, asked: EndpointChanges, caller: Caller) -> None:
    if asked.url is not None:
        endpoint.url = asked.url
    if asked.events is not None:
        endpoint.events = asked.events
    if asked.description is not None:
        endpoint.description = asked.description or None
    if asked.status is EndpointStatus.ENABLED:
        endpoint.status, endpoint.disabled_reason = EndpointStatus.ENABLED, None
    elif asked.status is EndpointStatus.DISABLED and endpoint.status is EndpointStatus.ENABLED:
        disable(endpoint, f"disabled by {caller.subject}")


def _told(endpoint: WebhookEndpoint) -> dict[str, object]:
    return {
        "endpointId": endpoint.id,
        "url": endpoint.url,
        "events": endpoint.events,
        "status": endpoint.status,
    }


def _refuse(asked: EndpointChanges, reach: Reach) -> Refusal | None:
    if asked.url is not None and (reason := reach.refusal(asked.url)):
        return Refusal(Code.INVALID, f"url {reason}", ("url",))
    if asked.events is not None and (refusal := refuse_events(asked.events)):
        return refusal
    return refuse_text("description", asked.description or "", longest=LONGEST_TEXT, empty=True)


def _refuse_many(tx: Tx, tenant_id: TenantId) -> Refusal | None:
    mine = WebhookEndpoint.tenant_id == tenant_id, WebhookEndpoint.deleted_at.is_(None)
    if (tx.scalar(select(func.count()).select_from(WebhookEndpoint).where(*mine)) or 0) < MOST_ENDPOINTS:
        return None
    message = f"your tenant has {MOST_ENDPOINTS} webhook endpoints: that is the most"
    return Refusal(Code.LIMIT_REACHED, message, ("url",))
