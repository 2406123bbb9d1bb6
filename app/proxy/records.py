"""What a dispatch leaves behind: its row, and its entry in both ledgers."""

from collections.abc import Mapping
from typing import Any

from app.ledger.append import Draft, new_pair, pair
from app.rules.entries import Event, Outcome
from app.rules.ids import AgentId, DispatchId, Instant, TenantId


def action_entries(
    row: Mapping[str, Any],
    agent_id: AgentId,
    outcome: Outcome,
    code: str | None,
    now: Instant,
    status: int | None,
    size: int | None,
) -> tuple[Draft, Draft]:
    """The `delegation.action` pair with which an admitted dispatch ends (promise 6). `row` is its Dispatch row."""
    details = {
        **_asked(row),
        "upstreamStatus": status,
        "responseBytes": size,
        "requestedAt": row["requested_at"],
    }
    return _pair(Event.ACTION, row, agent_id, outcome, code, now, details)


def denied_entries(row: Mapping[str, Any], agent_id: AgentId, now: Instant) -> tuple[Draft, Draft]:
    """The `delegation.denied` pair of a refused dispatch."""
    return _pair(Event.DENIED, row, agent_id, Outcome.REFUSED, row["code"], now, _asked(row))


def _asked(row: Mapping[str, Any]) -> dict[str, object]:
    return {
        "bindingId": row["binding_id"],
        "upstreamName": row["upstream_name"],
        "method": row["method"],
        "path": row["path"],
        "requestBytes": row["request_bytes"],
        "termsVersion": row["terms_version"],
    }


def _pair(
    event: Event,
    row: Mapping[str, Any],
    agent_id: AgentId,
    outcome: Outcome,
    code: str | None,
    now: Instant,
    details: Mapping[str, object],
) -> tuple[Draft, Draft]:
    delegate_id: TenantId = row["delegate_id"]
    draft = Draft(
        event=event,
        occurred_at=now,
        tenant_id=delegate_id,
        acting_tenant_id=delegate_id,
        target_tenant_id=row["delegator_id"],
        pair_id=new_pair(),
        actor=row["actor"],
        delegation_id=row["delegation_id"],
        dispatch_id=DispatchId(row["id"]),
        acting_agent_id=agent_id,
        action=row["scope"],
        outcome=outcome,
        code=code,
        details=details,
    )
    return pair(draft, row["delegator_id"])
