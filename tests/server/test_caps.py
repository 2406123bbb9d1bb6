"""Caps are exact under any concurrency and any number of nodes (DESIGN section 4, promise 3).

They are those of a month, so that no hour ends in the midst of a test.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.proxy import admitting
from app.proxy.attempts import Admission, Attempt
from app.proxy.committer import Committer
from app.rules.ids import DelegationId
from app.rules.windows import WindowKind, windows_at
from app.store.engine import Tx
from app.store.tables import UsageWindow
from tests.conftest import FULL, HEAVY_ON_SQLITE
from tests.server.client import Answer, ask
from tests.server.conftest import Here, Opening, Proving, lending_in
from tests.server.lending import Lending, Loan, ended
from tests.serving import Installation
from tests.upstreams import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_of_a_thousand_at_once_exactly_a_hundred_are_sent(
    installation: Installation, service: Upstream
) -> None:
    nodes = 1 if installation.database_url is None else 2
    async with AsyncExitStack() as stack:
        ports = [(await stack.enter_async_context(installation.serving())).port for _ in range(nodes)]
        lending = await stack.enter_async_context(lending_in(installation))
        loan = await lending.loan(service.port, max_actions_per_month=100, max_actions_per_day=1000)
        answers = await asyncio.gather(*(read(ports[number % nodes], loan) for number in range(1000)))
        await assert_exact(lending, loan, service, answers, 100)


@HEAVY_ON_SQLITE
async def test_a_cap_holds_where_counting_first_and_adding_later_does_not(
    here: Opening, service: Upstream, monkeypatch: pytest.MonkeyPatch, proven: Proving
) -> None:
    with monkeypatch.context() as variant:
        select_then_update(variant)
        async with here() as it:
            needed = 1
            while not await overrun(it, service):
                needed += 1
                assert needed < 100, "the variant bears all of it: this test proves nothing"
    bears = (20 if FULL else 8) * needed
    async with here() as it:
        for _ in range(bears):
            assert not await overrun(it, service)
    proven("counting before the lock", needed, bears)


async def overrun(it: Here, service: Upstream) -> bool:
    """Whether more of 40 at once got through than 5."""
    before = len(service.seen)
    loan = await it.lending.loan(service.port, max_actions_per_month=5)
    answers = await asyncio.gather(*(read(it.port, loan) for _ in range(40)))
    sent = len(service.seen) - before
    if sent == 5:
        await assert_exact(it.lending, loan, service, answers, 5)
    return sent > 5


async def test_a_full_window_and_one_that_is_not_bind_together(here: Opening, service: Upstream) -> None:
    async with here() as it:
        loan = await it.lending.loan(
            service.port, max_actions_per_hour=50, max_actions_per_day=40, max_actions_per_month=20
        )
        answers = await asyncio.gather(*(read(it.port, loan) for _ in range(100)))
        await assert_exact(it.lending, loan, service, answers, 20)
        assert {answer.code for answer in answers if answer.status == 429} == {"CAP_MONTH"}


async def assert_exact(
    lending: Lending, loan: Loan, service: Upstream, answers: list[Answer], cap: int
) -> None:
    """So many were sent and the others refused, and every witness knows the same ones."""
    assert Counter(answer.status for answer in answers) == {200: cap, 429: len(answers) - cap}
    rows = await lending.admitted(loan)
    told = [answer.dispatch_id for answer in answers if answer.status == 200]
    seen = [id for id in service.dispatch_ids if id in rows]
    assert sorted(filter(None, told)) == sorted(seen) == sorted(rows)
    for entries in await lending.ledgers(loan):
        assert sorted(ended(entries)) == sorted(rows)
    assert await lending.used(loan, WindowKind.MONTH) == {cap}


def select_then_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variant: what is used is read when a request arrives, and not under the lock that adds to it."""
    admit, anew = Committer.admit, admitting._anew
    known: dict[str, Counter[tuple[DelegationId, WindowKind]]] = {}

    async def counted_first(self: Committer, attempt: Attempt) -> Admission:
        known[attempt.id] = await self._store.read(_used)
        return await admit(self, attempt)

    def judged_by_it(sight: Any, writes: Any, attempt: Attempt, *rest: Any) -> Any:
        sight.used = known[attempt.id]
        return anew(sight, writes, attempt, *rest)

    monkeypatch.setattr(Committer, "admit", counted_first)
    monkeypatch.setattr(admitting, "_anew", judged_by_it)


def _used(tx: Tx) -> Counter[tuple[DelegationId, WindowKind]]:
    starts = {window.kind: window.start for window in windows_at(tx.now())}
    rows = [row for row in tx.query(UsageWindow) if starts[row.kind] == row.starts_at]
    return Counter({(row.delegation_id, row.kind): row.used for row in rows})


async def read(port: int, loan: Loan) -> Answer:
    return await ask(port, "GET", loan.at(), [loan.bearer])
