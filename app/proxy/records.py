"""What a dispatch leaves behind: its row, and its entry in both ledgers."""

from collections.abc import Mapping

from app.ledger.append import Fact, Side
from app.rules.entries import Event, Outcome
from app.rules.ids import AgentId, Instant
from app.rules.instants import rfc3339
from app.store.hot_writes import NewDispatch
from app.store.tables import Dispatch


def action_fact(
    row: NewDispatch | Dispatch,
    agent_id: AgentId,
    outcome: Outcome,
    code: str | None,
    now: Instant,
    status: int | None,
    size: int | None,
) -> Fact:
    """The `delegation.action` with which an admitted dispatch ends (promise 6)."""
    details = {
        **_asked(row),
        "upstreamStatus": status,
        "responseBytes": size,
        "requestedAt": rfc3339(row.requested_at),
    }
    return _fact(Event.ACTION, row, agent_id, outcome, code, now, details)


def denied_fact(row: NewDispatch | Dispatch, agent_id: AgentId, now: Instant) -> Fact:
    """The `delegation.denied` of a refused dispatch."""
    return _fact(Event.DENIED, row, agent_id, Outcome.REFUSED, row.code, now, _asked(row))


def _asked(row: NewDispatch | Dispatch) -> dict[str, object]:
    return {
        "bindingId": row.binding_id,
        "upstreamName": row.upstream_name,
        "method": row.method,
        "path": row.path,
        "requestBytes": row.request_bytes,
        "termsVersion": row.terms_version,
    }


def _fact(
    event: Event,
    row: NewDispatch | Dispatch,
    agent_id: AgentId,
    outcome: Outcome,
    code: str | None,
    now: Instant,
    details: Mapping[str, object],
) -> Fact:
    delegate_id, delegator_id = row.delegate_id, row.delegator_id
    return Fact(
        event,
        now,
        acting_tenant_id=delegate_id,
        target_tenant_id=delegator_id,
        sides=(Side(delegate_id, row.actor), Side(delegator_id)),
        delegation_id=row.delegation_id,
        dispatch_id=row.id,
        acting_agent_id=agent_id,
        action=row.scope,
        outcome=outcome,
        code=code,
        details=details,
    )
