"""A tenant's own guardrail: asked about each action in its upstream, after the admission and before anything is sent.

The gateway POSTs what would be done as JSON, with `Crossgrant-Assertion` as the upstream would get it, and no credential.
It lets the action through on status 200 and `{"decision": "allow"}` within 500 ms, and on nothing else: `"deny"` is
GUARDRAIL_DENIED, everything else (another answer, none, too late, an address that may not be called) is
GUARDRAIL_UNAVAILABLE. Either way nothing was sent, and the reservation goes back.
"""

from base64 import b64encode
from typing import Any

import orjson

from app.egress.client import Egress
from app.egress.outcomes import Answer, NotSent, Outbound
from app.proxy.attempts import Barred, Content, Go
from app.rules.content.bodies import GUARDED_BYTES
from app.rules.errors import Code
from app.telemetry import get_logger

log = get_logger()

SECONDS = 0.5
_LARGEST = 16 * 1024  # bytes of its answer


async def ask_guardrail(egress: Egress, url: str, go: Go, content: Content, assertion: str) -> Barred | None:
    """None where the guardrail allows the action, or why it does not go on."""
    headers = [
        ("content-type", "application/json"),
        ("crossgrant-dispatch-id", go.attempt.id),
        ("crossgrant-assertion", assertion),
    ]
    asked = Outbound("POST", url, headers, orjson.dumps(_question(go, content)))
    answer = await egress.send(asked, total=SECONDS, idle=SECONDS, limit=_LARGEST)
    code = (
        _read(answer.body)
        if isinstance(answer, Answer) and answer.status == 200
        else Code.GUARDRAIL_UNAVAILABLE
    )
    if code is Code.GUARDRAIL_UNAVAILABLE:
        reason = f"status {answer.status}, no decision" if isinstance(answer, Answer) else answer.reason
        log.warning("guardrail.unavailable", dispatch_id=go.attempt.id, reason=reason)
    if isinstance(answer, NotSent) and answer.code is Code.UPSTREAM_DENIED:
        return Barred(Code.GUARDRAIL_UNAVAILABLE, f"{url} was not called: {answer.reason}")
    return Barred(code) if code else None


def _question(go: Go, content: Content) -> dict[str, Any]:
    """What is asked. The body is there as it is, and not parsed: the guardrail reads what the upstream would."""
    types = (value for name, value in content.headers if name == "content-type")
    return {
        "dispatchId": go.attempt.id,
        "delegationId": go.row.delegation_id,
        "termsVersion": go.row.terms_version,
        "actingTenantId": go.row.delegate_id,
        "actingAgentId": go.agent_id,
        "action": go.route.scope,
        "upstreamName": go.route.upstream_name,
        "method": go.attempt.method,
        "path": go.attempt.path,
        "query": content.query,
        "contentType": next(types, None),
        **_body(content.body),
    }


def _body(body: bytes) -> dict[str, str]:
    # A large body of what JSON escapes would take six times its room.
    if len(body) <= GUARDED_BYTES:
        try:
            return {"body": body.decode()}
        except UnicodeDecodeError:
            pass  # sent as what it is
    return {"bodyBase64": b64encode(body).decode()}


def _read(body: bytes) -> Code | None:
    try:
        decision = orjson.loads(body)["decision"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return Code.GUARDRAIL_UNAVAILABLE
    verdicts = {"allow": None, "deny": Code.GUARDRAIL_DENIED}
    return (
        verdicts.get(decision, Code.GUARDRAIL_UNAVAILABLE)
        if isinstance(decision, str)
        else Code.GUARDRAIL_UNAVAILABLE
    )
