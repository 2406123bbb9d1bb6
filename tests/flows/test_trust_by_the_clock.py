"""Trust and the clock: a delegation that has expired is over, whether or not the sweeper has recorded it yet."""

from app.delegations.endings import sweep
from app.rules.entries import Event
from app.rules.ids import DelegationId
from app.store.engine import Tx
from app.store.tables import Delegation, TermsVersion
from tests.world import World


def _expired(tx: Tx, id: DelegationId) -> None:
    past = tx.now()
    terms = tx.get_one(TermsVersion, (id, 1))
    terms.constraints = {**terms.constraints, "expiresAt": past}
    tx.get_one(Delegation, id).expires_at = past


async def test_of_a_delegation_that_the_clock_has_ended_no_binding_regains_trust(world: World) -> None:
    lent = await world.delegation(require_trust_score_above=70)
    await world.write(_expired, lent.id)
    await world.trust(lent.actor, 99)
    await world.write(sweep)
    told = await world.ledger(lent.delegate, Event.TRUST_REGAINED, Event.EXPIRED)
    assert [entry["event"] for entry in told] == [Event.EXPIRED]
