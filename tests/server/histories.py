"""Histories: callers in a loop while their right is ended under them; and what none of them may show.

A history is judged by three orders that have nothing to do with each other: the callers' own clock, the seq of both
ledgers, and the clock of the store, read under its locks.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from app.rules.entries import Outcome
from app.rules.ids import DispatchId
from app.rules.instants import parse_rfc3339
from app.rules.permissions import Role
from app.store.tables import Dispatch
from tests.server.client import Answer, Connection, graphql
from tests.server.conftest import Here
from tests.server.lending import Entry, Loan, ended
from tests.upstreams import Line, Play, Seen, Upstream

CLIENTS = 64
AT_ONCE = 8  # histories


@dataclass(frozen=True, slots=True)
class Ending:
    """A way to end a right: what is asked and of what, which entry tells it, in whose ledgers, and what later calls are
    told.
    """

    mutation: str
    of: Callable[[Loan], str]
    event: str
    in_both: bool
    status: int
    #: Whether somebody asks who is neither party.
    by_authority: bool = False


REVOKE = Ending(
    'mutation ($id: ID!) { revokeDelegation(input: {delegationId: $id, reason: "enough"}) '
    "{ receipt { inFlightAborted drained } userErrors { code } } }",
    lambda loan: loan.id,
    "delegation.revoked",
    in_both=True,
    status=403,
)
UNBIND = Ending(
    'mutation ($id: ID!) { revokeBinding(input: {bindingId: $id, reason: "enough"}) { userErrors { code } } }',
    lambda loan: loan.binding_id,
    "binding.revoked",
    in_both=True,
    status=403,
)
ROTATE = Ending(
    "mutation ($id: ID!) { rotateToken(input: {bindingId: $id}) { userErrors { code } } }",
    lambda loan: loan.binding_id,
    "token.rotated",
    in_both=False,
    status=401,
)
SUSPEND = Ending(
    'mutation ($id: ID!) { suspendDelegation(input: {delegationId: $id, reason: "enough"}) '
    "{ userErrors { code } } }",
    lambda loan: loan.id,
    "delegation.suspended",
    in_both=True,
    status=403,
)
AMEND = Ending(
    'mutation ($id: ID!) { amendDelegation(input: {delegationId: $id, expectedVersion: 1, scopes: ["receipts:write"]}) '
    "{ userErrors { code } } }",
    lambda loan: loan.id,
    "delegation.amended",
    in_both=True,
    status=404,
)
DISTRUST = Ending(
    'mutation ($id: ID!) { reportTrustScore(input: {agentId: $id, score: 10, reason: "enough"}) '
    "{ userErrors { code } } }",
    lambda loan: loan.actor.id,
    "binding.trust_lost",
    in_both=True,
    status=403,
    by_authority=True,
)


@dataclass(frozen=True, slots=True)
class History:
    """What the callers of one delegation saw, and when they could know that its right had ended."""

    loan: Loan
    ending: Ending
    answers: Sequence[Answer]
    receipt: dict[str, object]
    known_at: float


class Unsteady(Play):
    """Takes a moment, never the same."""

    @override
    async def __call__(self, line: Line, seen: Seen) -> None:
        await asyncio.sleep(random.random() * 0.004)
        await line.answer(200, b"{}")


async def lived(it: Here, loan: Loan, ending: Ending) -> History:
    """Callers ask until they are refused; somewhere among their first requests the right ends."""
    answers: list[Answer] = []
    due, enough = random.randint(0, 3 * CLIENTS // AT_ONCE), asyncio.Event()

    async def call() -> None:
        async with Connection(it.port) as connection:
            while True:
                answer = await connection.ask("GET", loan.at(), [loan.bearer])
                answers.append(answer)
                if len(answers) >= due:
                    enough.set()
                if answer.status != 200:
                    return

    calls = [asyncio.ensure_future(call()) for _ in range(CLIENTS // AT_ONCE)]
    if due:
        await enough.wait()
    receipt, known_at = await _end(it, loan, ending)
    await asyncio.gather(*calls)
    return History(loan, ending, answers, receipt, known_at)


async def _end(it: Here, loan: Loan, ending: Ending) -> tuple[dict[str, object], float]:
    key = (loan.delegator if ending.in_both else loan.delegate).key
    if ending.by_authority:
        key = (await it.lending.key(await it.lending.tenant(), Role.TRUST_AUTHORITY)).text
    answer = await graphql(it.port, key, ending.mutation, id=ending.of(loan))
    (payload,) = answer.json["data"].values()
    assert payload["userErrors"] == []
    return payload.get("receipt", {}), answer.ended


@dataclass(frozen=True, slots=True)
class Records:
    """What is known of a history: its admitted dispatches, each ledger's entries about it, what the service saw."""

    rows: dict[DispatchId, Dispatch]
    ledgers: Sequence[Sequence[Entry]]
    seen: Sequence[str]

    @property
    def completed(self) -> set[DispatchId]:
        return {row.id for row in self.rows.values() if row.outcome is Outcome.COMPLETED}


async def histories(
    it: Here, service: Upstream, ending: Ending, count: int
) -> AsyncIterator[tuple[History, Records]]:
    """So many histories, some at a time, each batch of them between tenants of its own."""
    for _ in range(0, count, AT_ONCE):
        loans = [loan async for loan in _loans(it, service)]
        first = loans[0]
        before = len(service.seen)
        batch = await asyncio.gather(*(lived(it, loan, ending) for loan in loans))
        seen = service.dispatch_ids[before:]
        whole = [await it.lending.whole_ledger(member) for member in (first.delegator, first.delegate)]
        for history in batch:
            of_it = [[entry for entry in each if entry.delegation_id == history.loan.id] for each in whole]
            yield history, Records(await it.lending.admitted(history.loan), of_it, seen)


async def _loans(it: Here, service: Upstream) -> AsyncIterator[Loan]:
    """Delegations between two tenants, each to an agent of its own that is trusted."""
    first = await it.lending.loan(service.port, require_trust_score_above=50)
    for number in range(AT_ONCE):
        loan = first
        if number:
            actor = await it.lending.agent(first.delegate, [], f"actor {number}")
            loan = await it.lending.another(first, actor, require_trust_score_above=50)
        await it.lending.trust(loan.actor, 80)
        yield loan


def violations(history: History, kept: Records) -> set[str]:
    """Answers that were released although the right had ended, by any of the three orders."""
    late = {
        answer.dispatch_id or ""
        for answer in history.answers
        if answer.status == 200 and answer.began > history.known_at
    }
    for entries in kept.ledgers:
        for end in (entry for entry in entries if entry.event == history.ending.event):
            late |= {entry.dispatch_id or "" for entry in entries if entry.seq > end.seq and released(entry)}
            at = parse_rfc3339(end.body["occurredAt"])
            late |= {id for id in kept.completed if (kept.rows[id].finished_at or 0) > at}
    return late


def released(entry: Entry) -> bool:
    """Whether this entry tells of an answer that was released."""
    return entry.event == "delegation.action" and entry.outcome == Outcome.COMPLETED


def assert_told_alike(history: History, kept: Records) -> None:
    """Callers, service, dispatches and both ledgers know the same."""
    told = [answer.dispatch_id for answer in history.answers if answer.status == 200]
    assert sorted(filter(None, told)) == sorted(kept.completed)
    assert sorted(id for id in kept.seen if id in kept.rows) == sorted(kept.rows)
    for entries in kept.ledgers:
        assert sorted(ended(entries)) == sorted(kept.rows)
    for answer in (answer for answer in history.answers if answer.status != 200):
        withheld = answer.dispatch_id in kept.rows  # it was admitted, with a token that was good then
        assert answer.status == (403 if withheld else history.ending.status), answer


def assert_receipt_is_right(history: History, kept: Records) -> None:
    """What the receipt says was under way is what ended after it."""
    for entries in kept.ledgers:
        (end,) = [entry for entry in entries if entry.event == history.ending.event]
        after = [entry for entry in entries if entry.seq > end.seq and entry.event == "delegation.action"]
        assert history.receipt == {"inFlightAborted": len(after), "drained": not after}
        assert end.body["details"]["inFlightAborted"] == len(after)
