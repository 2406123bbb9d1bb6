"""`crossgrant agent`."""

from app.cli.saying import fail
from app.cli.store import Shown, or_fail, show, with_store
from app.delegations.trust import report_trust
from app.rules.ids import AgentId, prefix_of
from app.store.engine import Store
from app.store.keys import Keys


def trust(agent: str, score: int, reason: str, *, as_json: bool) -> None:
    """Sets an agent's trust score."""
    if prefix_of(agent) != "agt":
        fail("AGENT is no agent's id: those begin with agt_")

    async def run(store: Store, _keys: Keys) -> Shown:
        row = or_fail(await store.write(report_trust, None, AgentId(agent), score, reason))
        return {"agentId": row.id, "tenantId": row.tenant_id, "trustScore": row.trust_score}

    show("set", with_store(run), as_json=as_json)
