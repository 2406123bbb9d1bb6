"""`crossgrant agent`."""

from app.cli.store import or_fail, show, with_store
from app.delegations.trust import report_trust
from app.rules.ids import AgentId
from app.store.engine import Store
from app.store.keys import Keys


def trust(agent: str, score: int, reason: str, *, as_json: bool) -> None:
    """Sets an agent's trust score."""

    async def run(store: Store, _keys: Keys) -> dict[str, object]:
        row = or_fail(await store.write(report_trust, None, AgentId(agent), score, reason))
        return {"agentId": row.id, "tenantId": row.tenant_id, "trustScore": row.trust_score}

    show(with_store(run), as_json=as_json)
