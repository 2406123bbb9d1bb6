"""How a process ends, and how it lives when there is room for nobody else."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.rules.entries import Outcome
from tests.server.client import Answer, Connection, Gone, ask
from tests.server.conftest import lending_in
from tests.server.waiting import until, until_settled
from tests.serving import Installation, Served
from tests.upstreams import Hang, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_terminated_gateway_answers_what_is_under_way_and_closes_its_store(
    installation: Installation, service: Upstream
) -> None:
    service.play = hang = Hang()
    async with installation.serving() as served:
        async with lending_in(installation) as lending:
            loan = await lending.loan(service.port)
        asking = asyncio.ensure_future(ask(served.port, "GET", loan.at(), [loan.bearer]))
        await hang.reached.wait()
        stopping = asyncio.ensure_future(served.stop())
        await until_it_takes_no_more(served)
        hang.release()
        assert (await asking).status == 200
        assert await stopping == 0
        assert "Traceback" not in served.log.read_text()
    assert not any(path.stat().st_size for path in installation.data_dir.glob("*-wal"))
    async with lending_in(installation) as lending:
        (dispatch,) = (await until_settled(lending, loan)).values()
    assert dispatch.outcome is Outcome.COMPLETED


async def test_a_second_interrupt_ends_a_gateway_that_still_waits(tmp_path: Path, service: Upstream) -> None:
    installation = Installation(tmp_path)
    service.play = hang = Hang()
    async with installation.serving() as served:
        async with lending_in(installation) as lending:
            loan = await lending.loan(service.port)
        async with Connection(served.port) as connection:
            asking = asyncio.ensure_future(connection.ask("GET", loan.at(), [loan.bearer]))
            await hang.reached.wait()
            served.interrupt()
            await until_it_takes_no_more(served)
            assert not asking.done(), "it waits for what is under way"
            served.interrupt()
            assert await served.ended() == 0
            answer = await asking
            assert (answer.status, answer.code) == (503, "UNAVAILABLE"), "it is told that nobody knows"
        assert "Traceback" not in served.log.read_text()
    async with installation.serving(), lending_in(installation) as lending:
        (dispatch,) = (await until_settled(lending, loan)).values()
    assert dispatch.outcome is not Outcome.COMPLETED


async def until_it_takes_no_more(served: Served) -> None:
    async def refuses() -> bool:
        try:
            async with Connection(served.port):
                return False
        except ConnectionError:
            return True

    await until(refuses)


async def test_a_gateway_full_of_connections_says_so_and_recovers(tmp_path: Path) -> None:
    installation = Installation(tmp_path, files=256)
    async with installation.serving() as served:
        async with AsyncExitStack() as guests:
            inside = [await guests.enter_async_context(Connection(served.port)) for _ in range(128)]
            for guest in inside:
                assert (await guest.ask("GET", "/healthz")).status == 200
            answers = [await told(served.port) for _ in range(300)]
            assert answers[0] is not None
            assert answers[0].code == "UNAVAILABLE"
            assert {answer.status for answer in answers if answer is not None} == {503}
            assert (await inside[-1].ask("GET", "/readyz")).status == 200, "those who are in are served"

        async def recovered() -> bool:
            answer = await told(served.port)
            return answer is not None and answer.status == 200

        await until(recovered)
        assert "Too many open files" not in served.log.read_text()


async def told(port: int) -> Answer | None:
    """What a newcomer is told, if anything: beyond some, they are cut off."""
    try:
        return await ask(port, "GET", "/healthz")
    except (ConnectionError, asyncio.IncompleteReadError, Gone):
        return None
