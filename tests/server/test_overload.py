"""More than the store can take, and a store that takes nothing: everybody is answered, and nothing is lost."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from app.proxy import committer
from app.proxy.answers import Denied
from app.proxy.attempts import Attempt, ByToken, Content
from app.proxy.batch import commit
from app.rules.admission import Ask
from app.rules.errors import Code
from app.rules.ids import DispatchId
from app.rules.routes import ByPath
from app.store import sqlite
from app.store.keys import new_id
from tests.server.client import Answer, ask
from tests.server.conftest import Here, Opening, opened_here
from tests.server.holding import away, held
from tests.server.lending import SERVICE, Loan, ended
from tests.server.waiting import until, until_settled
from tests.serving import Installation
from tests.upstreams import Hang, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUEUE = 8


async def test_whoever_finds_the_queue_full_is_told_to_come_back_and_nothing_is_lost(
    here: Opening, installation: Installation, service: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "QUEUE", QUEUE)
    async with here() as it:
        loan = await it.lending.loan(service.port)
        async with held(installation):
            calls = [asyncio.ensure_future(read(it, loan)) for _ in range(50)]
            turned_away = [await next(asyncio.as_completed(calls))]
            await until(lambda: _all_but(QUEUE * 2, calls))
            assert service.seen == [], "nothing was admitted yet"
        answers = await asyncio.gather(*calls)
        turned_away = [answer for answer in answers if answer.status != 200]
        released = [answer.dispatch_id for answer in answers if answer.status == 200]

        assert {(answer.status, answer.code) for answer in turned_away} == {(503, "OVERLOADED")}
        assert {answer.headers["retry-after"] for answer in turned_away} == {"1"}
        assert len(released) >= QUEUE
        await agree(it, loan, service, set(released))
        assert (await read(it, loan)).status == 200, "the queue is open again"


async def _all_but(few: int, calls: list["asyncio.Task[Answer]"]) -> bool:
    return sum(call.done() for call in calls) >= len(calls) - few


async def test_a_burst_larger_than_a_batch_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = Gate()
    monkeypatch.setattr("app.proxy.committer.commit", idle.before_the_first_empty(commit))
    async with opened_here(Installation(tmp_path)) as it:
        loan = await it.lending.loan()
        it.gateway.performer._committer._bell.set()  # as a turn that was rung for while another took what waited
        await idle.reached()
        # All in one turn of the loop, as hundreds of sockets that are ready at once make them.
        calls = [asyncio.ensure_future(asked_within(it, loan)) for _ in range(committer.QUEUE)]
        for _ in range(3):  # turns: they ask, the committer hears of them, and goes to the store
            await asyncio.sleep(0)
        idle.open()
        done, waiting = await asyncio.wait(calls, timeout=30)
        for call in waiting:
            call.cancel()
    assert {call.result() for call in done} == {Code.ACTION_NOT_FOUND}
    assert not waiting, f"{len(waiting)} of {len(calls)} were left waiting"


async def asked_within(it: Here, loan: Loan) -> Code:
    """What the proxy does with a request that it has read."""
    target = ByPath(SERVICE, "DELETE", ("v1", "receipts", "1"))
    attempt = Attempt(
        id=DispatchId(new_id("dsp")),
        by=ByToken(it.lending.keys.hash(loan.token)),
        ask=Ask(target, None, 0),
        upstream_name=SERVICE,
        method="DELETE",
        path="/v1/receipts/1",
    )
    result = await it.gateway.performer.perform(attempt, Content("", (), b""))
    assert isinstance(result, Denied)
    return result.code


async def test_a_store_that_turns_a_batch_away_leaves_nobody_waiting(
    here: Opening, installation: Installation, service: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY", 0.1)
    async with here() as it:
        loan = await it.lending.loan(service.port)
        async with away(installation), asyncio.timeout(15):
            answers = await asyncio.gather(*(read(it, loan) for _ in range(5)))
        assert {answer.status for answer in answers} == {503}
        assert all("retry-after" in answer.headers for answer in answers)
        assert service.seen == [], "nothing was sent"

        async def back() -> str | None:
            return (await read(it, loan)).dispatch_id

        first = await until(back)
        await agree(it, loan, service, {first})


async def test_answers_that_cannot_be_completed_are_withheld_and_settled_later(
    here: Opening, installation: Installation, service: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY", 0.1)
    async with here() as it:
        loan = await it.lending.loan(service.port)
        hang = service.on("/v1/receipts/1", Hang())
        calls = [asyncio.ensure_future(read(it, loan)) for _ in range(5)]
        await service.saw(5)
        async with away(installation), asyncio.timeout(15):
            hang.release()
            answers = await asyncio.gather(*calls)
        assert {(answer.status, answer.code) for answer in answers} == {(503, "COMPLETION_LOST")}
        rows = await until_settled(it.lending, loan, 5)
        assert set(rows) == set(service.dispatch_ids)
        assert {row.outcome for row in rows.values()} == {"INDETERMINATE"}
        for entries in await it.lending.ledgers(loan):
            assert sorted(ended(entries)) == sorted(rows)


class Gate:
    """Holds the first batch that finds nothing to do, until it is opened."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    def before_the_first_empty(self, commit: Any) -> Any:
        def gated(attempts: list[object], completions: list[object], *rest: Any) -> Any:
            if not attempts and not completions and not self._reached.is_set():
                self._reached.set()
                self._open.wait(20)
            return commit(attempts, completions, *rest)

        return gated

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 20)

    def open(self) -> None:
        self._open.set()


async def read(it: Here, loan: Loan) -> Answer:
    return await ask(it.port, "GET", loan.at(), [loan.bearer])


async def agree(it: Here, loan: Loan, service: Upstream, released: set[str | None]) -> None:
    """Client, service, dispatches and both ledgers know the same, and all of it is COMPLETED."""
    rows = await it.lending.admitted(loan)
    assert released == set(service.dispatch_ids) == set(rows)
    assert len(service.seen) == len(rows)
    assert {row.outcome for row in rows.values()} == {"COMPLETED"}
    for entries in await it.lending.ledgers(loan):
        assert sorted(ended(entries)) == sorted(rows)
