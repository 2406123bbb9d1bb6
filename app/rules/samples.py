"""A sample of each event, for whoever writes what receives them. It stands in no ledger, and says so.

Its members are those that the real one has; `details.test` is true and its ids, but for its own, are those of nothing.
"""

from typing import Any

from app.rules.entries import Event, Outcome
from app.rules.errors import Code
from app.rules.ids import DAY, HOUR, MINUTE, EntryId, Instant
from app.rules.instants import rfc3339
from app.rules.lifecycle import Party
from app.rules.windows import WindowKind

_NOTHING = "_00000000-0000-7000-8000-000000000000"
_DELEGATE = "ten_00000000-0000-7000-8000-000000000001"

_CALL: dict[str, object] = {
    "bindingId": f"bnd{_NOTHING}",
    "upstreamName": "receipts",
    "method": "GET",
    "path": "/v1/receipts/1",
    "requestBytes": 0,
    "termsVersion": 1,
}
_TERMS: dict[str, object] = {"termsVersion": 1, "termsHash": "0" * 64, "scopes": ["receipts:read"]}
_TRUST: dict[str, object] = {
    "bindingId": f"bnd{_NOTHING}",
    "requireTrustScoreAbove": 50,
    "termsVersion": 1,
}
_KEY: dict[str, object] = {
    "apiKeyId": f"key{_NOTHING}",
    "name": "a reader",
    "subject": "reader",
    "role": "AUDITOR",
}
_UPSTREAM: dict[str, object] = {
    "upstreamId": f"ups{_NOTHING}",
    "name": "receipts",
    "baseUrl": "https://receipts.example.com",
    "hasCredential": True,
    "sandboxBaseUrl": None,
    "hasSandboxCredential": False,
    "guardrailUrl": None,
}
_ENDPOINT: dict[str, object] = {
    "endpointId": f"whk{_NOTHING}",
    "url": "https://hooks.example.com/crossgrant",
    "events": ["delegation.*"],
    "status": "ENABLED",
}
_AGENT: dict[str, object] = {"agentId": f"agt{_NOTHING}", "scopes": ["receipts:read"]}
_REASON: dict[str, object] = {"reason": "a test"}

#: Facts with an agent that acts.
_WITH_AGENT = frozenset(
    {
        *(Event.ACCEPTED, Event.ACTION, Event.DENIED, Event.BINDING_CREATED, Event.BINDING_REVOKED),
        *(Event.TRUST_LOST, Event.TRUST_REGAINED, Event.TOKEN_ISSUED, Event.TOKEN_ROTATED),
    }
)
_OF_A_DISPATCH: dict[Event, dict[str, object]] = {
    Event.ACTION: {"outcome": Outcome.COMPLETED, "code": None},
    Event.DENIED: {"outcome": Outcome.REFUSED, "code": Code.CAP_HOUR},
}


def sample(event: Event, id: EntryId, now: Instant) -> dict[str, Any]:
    """An entry of this event as it could stand in the delegator's ledger, or, of a token, in the delegate's."""
    between = event.startswith(("delegation.", "binding.", "token."))
    dispatched = _OF_A_DISPATCH.get(event)
    tenant_id = f"ten{_NOTHING}"
    return {
        "id": id,
        "seq": 1,
        "pairId": f"par{_NOTHING}",
        "event": event.value,
        "occurredAt": rfc3339(now),
        "tenantId": _DELEGATE if event.startswith("token.") else tenant_id,
        "delegationId": f"dlg{_NOTHING}" if between else None,
        "dispatchId": f"dsp{_NOTHING}" if dispatched else None,
        "actingTenantId": _DELEGATE if between else tenant_id,
        "targetTenantId": tenant_id,
        "actingAgentId": f"agt{_NOTHING}" if event in _WITH_AGENT else None,
        "actor": None,
        "action": "receipts:read" if dispatched else None,
        **(dispatched or {"outcome": None, "code": None}),
        "details": {**_details(event, now), "test": True},
    }


def _details(event: Event, now: Instant) -> dict[str, object]:
    instants = {name: rfc3339(Instant(now + after)) for name, after in _LATER.get(event, {}).items()}
    return {**_DETAILS[event], **instants}


_TOKEN: dict[str, object] = {
    "bindingId": f"bnd{_NOTHING}",
    "tokenId": f"tok{_NOTHING}",
    "prefix": "cgt_live_000000",
}
#: Members of the details that are instants, and how long after the event.
_LATER = {
    Event.OFFERED: {"offerExpiresAt": 7 * DAY},
    Event.ACTION: {"requestedAt": -MINUTE},
    Event.QUOTA_EXHAUSTED: {"resetsAt": HOUR},
    Event.TOKEN_ISSUED: {"expiresAt": 30 * DAY},
    Event.TOKEN_ROTATED: {"expiresAt": 30 * DAY},
}
_DETAILS: dict[Event, dict[str, object]] = {
    Event.OFFERED: {"agentId": f"agt{_NOTHING}", "acceptance": "TOKEN", **_TERMS},
    Event.ACCEPTED: {"termsHash": "0" * 64},
    Event.DECLINED: _REASON,
    Event.LAPSED: {"bindingsEnded": 0},
    Event.AMENDED: {
        "changed": ["maxActionsPerHour"],
        "reason": "a test",
        "discardedHash": None,
        **_TERMS,
        "termsVersion": 2,
        "proposedVersion": None,
        "proposedHash": None,
        "proposedScopes": None,
    },
    Event.TERMS_ACKNOWLEDGED: _TERMS,
    Event.SUSPENDED: _REASON,
    Event.RESUMED: {},
    Event.REVOKED: {"by": Party.DELEGATOR, "reason": "a test", "inFlightAborted": 0},
    Event.EXPIRED: {"bindingsEnded": 1},
    Event.ACTION: {**_CALL, "upstreamStatus": 200, "responseBytes": 17},
    Event.DENIED: _CALL,
    Event.QUOTA_EXHAUSTED: {"kind": WindowKind.HOUR, "limit": 100, "used": 100, "termsVersion": 1},
    Event.BINDING_CREATED: {"bindingId": f"bnd{_NOTHING}"},
    Event.BINDING_REVOKED: {"bindingId": f"bnd{_NOTHING}", "by": Party.DELEGATOR, "reason": "a test"},
    Event.TRUST_LOST: _TRUST,
    Event.TRUST_REGAINED: _TRUST,
    Event.TOKEN_ISSUED: _TOKEN,
    Event.TOKEN_ROTATED: {**_TOKEN, "overlapSeconds": 0},
    Event.AGENT_REGISTERED: {**_AGENT, "name": "Receipts"},
    Event.AGENT_UPDATED: {**_AGENT, "changed": ["scopes"]},
    Event.TRUST_REPORTED: {"agentId": f"agt{_NOTHING}", "score": 60, "before": 50, "reason": "a test"},
    Event.UPSTREAM_REGISTERED: _UPSTREAM,
    Event.UPSTREAM_UPDATED: {**_UPSTREAM, "credentialReplaced": True, "sandboxCredentialReplaced": False},
    Event.ACTION_DEFINED: {
        "actionId": f"act{_NOTHING}",
        "upstreamId": f"ups{_NOTHING}",
        "scope": "receipts:read",
        "method": "GET",
        "path": "/v1/receipts/{id}",
        "costUnits": 1,
        "hasRequestSchema": False,
    },
    Event.ACTION_REMOVED: {
        "actionId": f"act{_NOTHING}",
        "upstreamId": f"ups{_NOTHING}",
        "scope": "receipts:read",
    },
    Event.API_KEY_CREATED: _KEY,
    Event.API_KEY_REVOKED: _KEY,
    Event.WEBHOOK_CREATED: _ENDPOINT,
    Event.WEBHOOK_UPDATED: _ENDPOINT,
    Event.WEBHOOK_DELETED: {"endpointId": f"whk{_NOTHING}"},
    Event.WEBHOOK_SECRET_ROTATED: {"endpointId": f"whk{_NOTHING}", "overlapSeconds": 86_400},
    Event.WEBHOOK_DISABLED: {
        "endpointId": f"whk{_NOTHING}",
        "url": "https://hooks.example.com/crossgrant",
        "reason": "it answered 410 Gone",
        "deliveryId": f"whd{_NOTHING}",
    },
    Event.WEBHOOK_TEST: {"endpointId": f"whk{_NOTHING}"},
}
