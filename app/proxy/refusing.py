"""Refusing: each refusal has a row and a pair of entries, up to a limit; the rest are counted (promise 6)."""

from collections import Counter
from collections.abc import Sequence

from app.proxy.admitting import Refusal
from app.proxy.attempts import No
from app.proxy.evidence import Sight
from app.proxy.records import denied_fact
from app.proxy.writes import Writes
from app.rules.errors import Code
from app.rules.ids import MINUTE, BindingId, DispatchId
from app.store import hot, hot_writes
from app.store.hot import Batch, step

A_MINUTE = 60  # of one binding and code

_Kind = tuple[BindingId, Code]


def refuse(sight: Sight, writes: Writes, refusals: Sequence[Refusal]) -> Batch[list[No]]:
    """Records the refusals of a batch; says for each what its caller hears."""
    if not refusals:
        return []
    minute = sight.now // MINUTE * MINUTE
    kinds = {_kind(each): each.lead.delegation_id for each in refusals}
    wanted = [{"binding_id": id, "code": code, "minute": minute} for id, code in kinds]
    before: dict[_Kind, int] = {(row[0], Code(row[1])): row[2] for row in (yield step(hot.REFUSALS, wanted))}
    written: Counter[_Kind] = Counter()
    counted: Counter[_Kind] = Counter()
    answers = []
    for each in refusals:
        kind = _kind(each)
        recorded = before.get(kind, 0) + written[kind] < A_MINUTE
        (written if recorded else counted)[kind] += 1
        answers.append(
            No(each.code, _record(sight, writes, each) if recorded else None, each.cap, each.detail)
        )
    yield step(
        hot_writes.COUNT_REFUSALS,
        [
            {
                "binding_id": kind[0],
                "code": kind[1],
                "minute": minute,
                "delegation_id": delegation_id,
                "written": written[kind],
                "counted": counted[kind],
            }
            for kind, delegation_id in kinds.items()
        ],
    )
    return answers


def _record(sight: Sight, writes: Writes, refusal: Refusal) -> DispatchId | None:
    row = writes.dispatch(
        refusal.attempt, refusal.standing, refusal.lead.token_id, refusal.scope, refusal.code, sight.now
    )
    writes.facts.append(denied_fact(row, refusal.standing.agent_id, sight.now))
    # Who shows a dead token learns nothing, not even that it once lived: 401 is one answer.
    return None if refusal.code is Code.TOKEN_INVALID else refusal.attempt.id


def _kind(refusal: Refusal) -> _Kind:
    return refusal.lead.binding_id, refusal.code
