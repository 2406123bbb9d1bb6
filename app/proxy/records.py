"""What a dispatch leaves behind: its row, and its entry in both ledgers."""

from collections.abc import Mapping

from app.ledger.append import Fact, Side
from app.proxy.evidence import Standing
from app.rules.entries import Event, Outcome
from app.rules.ids import AgentId, Instant
from app.rules.instants import rfc3339
from app.rules.windows import Window
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
    reason: str | None = None,
) -> Fact:
    """The `delegation.action` with which an admitted dispatch ends (promise 6). `reason` is for the delegator alone:
    it names an address of theirs.
    """
    details = {
        **_asked(row),
        "upstreamStatus": status,
        "responseBytes": size,
        "requestedAt": rfc3339(row.requested_at),
    }
    return _fact(Event.ACTION, row, agent_id, outcome, code, now, details, reason)


def denied_fact(
    row: NewDispatch | Dispatch, agent_id: AgentId, now: Instant, reason: str | None = None
) -> Fact:
    """The `delegation.denied` of a refused dispatch. `reason` as above."""
    return _fact(Event.DENIED, row, agent_id, Outcome.REFUSED, row.code, now, _asked(row), reason)


def exhausted_fact(standing: Standing, window: Window, cap: int, used: int, now: Instant) -> Fact:
    """The `delegation.quota_exhausted` of a window that has filled up, or that first refused."""
    return Fact(
        Event.QUOTA_EXHAUSTED,
        now,
        acting_tenant_id=standing.delegate_id,
        target_tenant_id=standing.delegator_id,
        sides=(Side(standing.delegate_id), Side(standing.delegator_id)),
        delegation_id=standing.delegation_id,
        details={
            "kind": window.kind,
            "limit": cap,
            "used": used,
            "resetsAt": rfc3339(window.end),
            "termsVersion": standing.terms.version,
        },
    )


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
    reason: str | None,
) -> Fact:
    delegate_id, delegator_id = row.delegate_id, row.delegator_id
    own = {"reason": reason} if reason else None
    return Fact(
        event,
        now,
        acting_tenant_id=delegate_id,
        target_tenant_id=delegator_id,
        sides=(Side(delegate_id, row.actor), Side(delegator_id, own=own)),
        delegation_id=row.delegation_id,
        dispatch_id=row.id,
        acting_agent_id=agent_id,
        action=row.scope,
        outcome=outcome,
        code=code,
        details=details,
    )
