"""No answer leaves after a right has ended, although nobody is told (DESIGN section 4, promise 1).

The gateway is deaf here: neither its own commits nor the store's say that anything has ended. What is left is the
recheck under the delegation's lock. The variant that rechecks with a plain read fails within a few histories.
"""

import asyncio
from collections.abc import Iterable

import pytest

from app.delegations.standing import terms_of
from app.ledger.wake import Wake
from app.proxy.attempts import Aborted, Completed, Completion
from app.proxy.committer import Committer
from app.proxy.inflight import Inflight
from app.rules.ids import DelegationId, DispatchId
from app.rules.lifecycle import Status
from app.store.engine import Facts, Tx
from app.store.tables import Agent, Binding, Delegation, Dispatch, ScopedToken, TermsVersion
from tests.conftest import FULL, HEAVY_ON_SQLITE
from tests.server.conftest import Here, Opening, Proving
from tests.server.histories import (
    AMEND,
    DISTRUST,
    REVOKE,
    ROTATE,
    SUSPEND,
    UNBIND,
    Ending,
    Unsteady,
    assert_receipt_is_right,
    assert_told_alike,
    histories,
    violations,
)
from tests.upstreams import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

ENDINGS = pytest.mark.parametrize(
    "ending",
    [REVOKE, UNBIND, ROTATE, SUSPEND, AMEND, DISTRUST],
    ids=["revoke", "unbind", "rotate", "suspend", "amend", "distrust"],
)
#: Of a revocation, and of each other ending.
HISTORIES, OTHERS = (2000, 500) if FULL else (32, 16)
#: Within so many histories the variant has to fail; the real one then bears several times what that took.
PATIENCE = 400 if FULL else 80
TIMES = 20 if FULL else 5


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody hears that a right has ended."""

    async def never(_self: object) -> None:
        await asyncio.Event().wait()

    def unheard(_self: object, _what: Facts | Iterable[DelegationId]) -> None: ...

    monkeypatch.setattr(Inflight, "suspect", unheard)
    monkeypatch.setattr(Inflight, "poll", never)
    monkeypatch.setattr(Wake, "committed", unheard)
    monkeypatch.setattr(Wake, "poll", never)


def recheck_by_a_plain_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variant: the right is rechecked by a read before the completion, and not in its transaction."""
    complete = Committer.complete

    async def unlocked(self: Committer, completion: Completion) -> Completed:
        if not await self._store.read(_still_holds, completion.go.attempt.id):
            completion = completion._replace(sent=Aborted())
        return await complete(self, completion)

    monkeypatch.setattr(Committer, "complete", unlocked)
    monkeypatch.setattr("app.proxy.completing.still_holds", lambda *_: None)


def _still_holds(tx: Tx, id: DispatchId) -> bool:
    dispatch = tx.get_one(Dispatch, id)
    token = tx.get_one(ScopedToken, dispatch.token_id)
    delegation = tx.get_one(Delegation, dispatch.delegation_id)
    binding = tx.get_one(Binding, dispatch.binding_id)
    terms = tx.get_one(TermsVersion, (delegation.id, delegation.terms_version))
    return (
        delegation.status is Status.ACTIVE
        and binding.revoked_at is None
        and (token.rotated_at is None or token.rotated_at > tx.now())
        and dispatch.scope in terms.scopes
        and terms_of(terms).trusts(tx.get_one(Agent, binding.agent_id).trust_score)
    )


@HEAVY_ON_SQLITE
@ENDINGS
async def test_no_answer_is_released_after_its_right_has_ended(
    here: Opening,
    deaf: None,
    service: Upstream,
    ending: Ending,
    monkeypatch: pytest.MonkeyPatch,
    proven: Proving,
) -> None:
    service.play = Unsteady()
    with monkeypatch.context() as variant:
        recheck_by_a_plain_read(variant)
        async with here() as it:
            needed = await until_a_violation(it, service, ending)
    bears, caught = max(HISTORIES if ending is REVOKE else OTHERS, TIMES * needed), 0
    async with here() as it:
        async for history, known in histories(it, service, ending, bears):
            assert violations(history, known) == set()
            assert_told_alike(history, known)
            if ending is REVOKE:
                assert_receipt_is_right(history, known)
            caught += len(known.rows) - len(known.completed)
    assert caught, "some were under way when their right ended"
    proven("the recheck by a plain read", needed, bears)


async def until_a_violation(it: Here, service: Upstream, ending: Ending) -> int:
    """How many histories the variant took to release what it must not."""
    number = 0
    async for history, known in histories(it, service, ending, PATIENCE):
        number += 1
        if violations(history, known):
            return number
    pytest.fail(f"the variant bore {PATIENCE} histories: this test proves nothing")
