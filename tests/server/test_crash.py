"""kill -9 under load: nothing that was sent is forgotten, nothing that was released is denied (section 4, promise 6)."""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from app.rules.errors import Code
from tests.conftest import FULL, HEAVY_ON_POSTGRES
from tests.postgres import Postgres
from tests.server.conftest import lending_in
from tests.server.histories import Unsteady
from tests.server.lending import Loan
from tests.server.load import Log, assert_nothing_lost
from tests.server.waiting import until_settled
from tests.serving import Installation, Served
from tests.upstreams import Hang, Upstream, upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

KILLS = 20 if FULL else 2
CALLERS = 32


@HEAVY_ON_POSTGRES
async def test_a_process_that_is_killed_under_load_loses_nothing(
    installation: Installation, service: Upstream
) -> None:
    log, left_open = Log(), set()
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(installation.serving())
        lending = await stack.enter_async_context(lending_in(installation))
        loan = await lending.loan(service.port)
        for _ in range(KILLS):
            await loaded_and_killed(served, loan, log, service)
            served = await stack.enter_async_context(installation.serving())
            rows = await until_settled(lending, loan)
            left_open = await assert_nothing_lost(lending, loan, service, log)
            assert {row.code for row in rows.values() if row.id in left_open} <= {Code.GATEWAY_CRASHED}
            assert await lending.used(loan) == {len(rows)}
        assert left_open, "a kill left something under way"
        assert await served.stop() == 0


async def loaded_and_killed(served: Served, loan: Loan, log: Log, service: Upstream) -> None:
    """Callers ask without pause; somewhere among their answers the process dies, with a call under way at least."""
    service.play = Unsteady()
    due = len(log.answers) + random.randint(1, 300)
    calls = [asyncio.ensure_future(log.call(served.port, loan)) for _ in range(CALLERS)]
    await log.answered(due)
    service.play = hang = Hang()
    await hang.reached.wait()
    await served.kill()
    await asyncio.gather(*calls)


async def test_a_surviving_node_settles_what_a_killed_one_left(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, service: Upstream
) -> None:
    log, unharmed = Log(), Log()
    with postgres.database() as dsn:
        nodes = [Installation(tmp_path_factory.mktemp("node"), dsn) for _ in range(2)]
        async with (
            nodes[0].serving() as doomed,
            nodes[1].serving() as survivor,
            lending_in(nodes[1]) as lending,
            upstream() as other_service,
        ):
            other_service.play = Unsteady()
            loan, other = await lending.loan(service.port), await lending.loan(other_service.port)
            calls = [asyncio.ensure_future(unharmed.call(survivor.port, other)) for _ in range(4)]
            await unharmed.answered(10)
            await loaded_and_killed(doomed, loan, log, service)
            await until_settled(lending, loan)
            await unharmed.answered(len(unharmed.answers) + 10)
            await cancelled(calls)
            await until_settled(lending, other)

            assert await assert_nothing_lost(lending, loan, service, log), "the kill left something under way"
            assert await assert_nothing_lost(lending, other, other_service, unharmed) == set()
            assert {answer.status for answer in unharmed.answers.values()} == {200}


async def cancelled(calls: list["asyncio.Task[None]"]) -> None:
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
