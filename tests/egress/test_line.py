"""What a peer says before and after its answer: a little of it is borne, and nobody else waits for the rest."""

import asyncio
import gc
import logging

import pytest

from app.egress.client import Answer, Egress, Unknown
from app.egress.failures import unknown
from app.rules.errors import Code
from tests.egress.peers import LOOPS, OK, Line, Loop, Stopwatch, answers, get, hangs_up_after, opened, peer

INTERIM = b"HTTP/1.1 100\r\n\r\n"
LONG = b"HTTP/1.1 103 Early Hints\r\n" + (b"Link: " + b"x" * 16_000 + b"\r\n") * 8 + b"\r\n"
CANARY = b"canary-credential-3f9c27d1"


async def test_sixteen_interim_answers_are_borne(egress: Egress) -> None:
    async with peer(answers(INTERIM * 16 + OK)) as near:
        for _ in range(2):
            outcome = await get(egress, near.url())
            assert isinstance(outcome, Answer), outcome
        assert near.lines == 1


@pytest.mark.parametrize("interim", [INTERIM * 17, INTERIM * 60_000, LONG * 3], ids=["17", "60,000", "long"])
async def test_more_of_them_break_the_answer(egress: Egress, interim: bytes) -> None:
    async with peer(answers(interim + OK)) as near:
        outcome = await get(egress, near.url())
        assert isinstance(outcome, Unknown), outcome
        assert outcome.code is Code.UPSTREAM_BROKEN


@pytest.mark.parametrize(
    "endless",
    [INTERIM, OK, b"HTTP/1.1 204\r\n\r\n", b"\r\n"],
    ids=["interim", "answers", "empty", "lines"],
)
@LOOPS
def test_heads_without_end_are_hung_up_on_and_nobody_waits(loop: Loop, endless: bytes) -> None:
    hung_up = asyncio.Event()

    async def flood(line: Line) -> None:
        await line.request()
        try:
            while not line.writer.is_closing():
                await line.say(endless * 4_000)
        except ConnectionError:
            pass
        hung_up.set()

    async def main() -> None:
        async with peer(flood) as near, peer(answers()) as other, opened() as egress:
            flooded = asyncio.create_task(get(egress, near.url()))
            watch = Stopwatch()
            for _ in range(20):
                assert isinstance(await get(egress, other.url()), Answer)
            assert watch.seconds < 2
            async with asyncio.timeout(30):
                await flooded
                await hung_up.wait()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@LOOPS
def test_an_answer_that_breaks_off_is_an_outcome_on_each_loop(loop: Loop) -> None:
    async def main() -> None:
        half = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nhalf"
        async with peer(hangs_up_after(half)) as near, opened() as egress:
            assert isinstance(await get(egress, near.url()), Unknown)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        CANARY + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + CANARY + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + CANARY + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CANARY + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + CANARY + b"\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + CANARY,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: " + CANARY + b"\r\nContent-Length: 1\r\n\r\nx" + CANARY,
        INTERIM * 17 + CANARY,
    ],
)
@LOOPS
def test_nothing_that_a_peer_sent_is_logged(
    loop: Loop, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async def play(line: Line) -> None:
            await line.request()
            await line.say(answer)

        async with peer(play) as near, opened() as egress:
            await get(egress, near.url())

    caplog.set_level(logging.DEBUG)
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    gc.collect()  # what nobody asked for its exception speaks when it goes
    assert CANARY.decode() not in caplog.text


def test_a_failure_of_an_unknown_kind_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    assert unknown(ZeroDivisionError(CANARY)).code is Code.UPSTREAM_BROKEN
    assert "ZeroDivisionError" in caplog.text
    assert CANARY.decode() not in caplog.text
