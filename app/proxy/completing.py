"""Completing: what was admitted is judged again, recorded in both ledgers, and only then released."""

from app.egress.outcomes import Answer, NotSent, Rejected
from app.proxy.attempts import Aborted, Attempt, Barred, Completed, Completion, Lost, Released, Withheld
from app.proxy.evidence import Sight
from app.proxy.records import action_fact, denied_fact
from app.proxy.writes import Writes
from app.rules.admission import still_holds
from app.rules.entries import Outcome
from app.rules.errors import Code
from app.store.hot_writes import Finished

_Verdict = tuple[Outcome, Code | None]


def complete(sight: Sight, writes: Writes, completion: Completion) -> Completed:
    """Finishes what is still PENDING; of anything else, nothing is released."""
    if completion.go.attempt.id not in sight.pending:
        return Lost()
    outcome, code = _judge(sight, completion)
    _record(sight, writes, completion, outcome, code)
    return Withheld(outcome, code) if code else Released()


def _judge(sight: Sight, completion: Completion) -> _Verdict:
    go = completion.go
    evidence = sight.evidence(sight.standings[go.row.binding_id], go.row.token_id)
    routes = sight.catalogs[go.row.delegator_id].routes
    ended = _caller_ended(sight, go.attempt) or still_holds(
        evidence, go.attempt.ask, go.route, routes, sight.now
    )
    match completion.sent:
        case Answer():
            return (Outcome.WITHHELD, ended) if ended else (Outcome.COMPLETED, None)
        case NotSent(code) | Rejected(code):
            return Outcome.FAILED, code
        case Barred(code=code):
            return Outcome.REFUSED, ended or code
        case Aborted():
            return Outcome.INDETERMINATE, ended or Code.UPSTREAM_BROKEN
        case unknown:
            return Outcome.INDETERMINATE, ended or unknown.code


def _caller_ended(sight: Sight, attempt: Attempt) -> Code | None:
    return None if sight.knows(attempt.by) else Code.UNAUTHENTICATED


def _record(
    sight: Sight, writes: Writes, completion: Completion, outcome: Outcome, code: Code | None
) -> None:
    go = completion.go
    status, size = _status(completion), _size(completion)
    ended = Finished(go.row.id, outcome.value, code and code.value, sight.now, status, size)
    writes.finished.append(ended)
    reason = _reason(completion)
    fact = action_fact(go.row, go.agent_id, outcome, code, sight.now, status, size, reason)
    if outcome is Outcome.REFUSED:
        fact = denied_fact(go.row._replace(code=code and code.value), go.agent_id, sight.now, reason)
    writes.facts.append(fact)
    unsent = isinstance(completion.sent, NotSent | Barred)
    if unsent:
        # No byte went out: the reservation goes back to the windows that it came from (promise 3).
        writes.give_back(go.row)
    if go.attempt.key:
        claim = {
            "binding_id": go.row.binding_id,
            "key_hash": go.attempt.key.hash,
            "dispatch_id": go.attempt.id,
        }
        if unsent:
            writes.frees.append(claim)
        elif outcome is Outcome.COMPLETED and completion.kept:
            writes.keeps.append({**claim, "answer": completion.kept})


def _reason(completion: Completion) -> str | None:
    """What the owner of an upstream has to set right, where the gateway may not call it."""
    match completion.sent:
        case NotSent(Code.UPSTREAM_DENIED, reason):
            return f"{completion.go.destination.base_url} was not called: {reason}"
        case Barred(reason=reason):
            return reason
    return None


def _status(completion: Completion) -> int | None:
    return completion.sent.status if isinstance(completion.sent, Answer | Rejected) else None


def _size(completion: Completion) -> int | None:
    return len(completion.sent.body) if isinstance(completion.sent, Answer) else None
