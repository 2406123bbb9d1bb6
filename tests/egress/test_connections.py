"""A kept connection is used again, never repeats a request, and never carries one call's business into another."""

import asyncio
from collections.abc import Callable, Coroutine

import aiohttp
import pytest

from app.egress.client import Answer, Egress, NotSent, Outbound, Unknown
from app.rules.errors import Code
from tests.egress.peers import LOOPS, OK, Line, Loop, Peer, answers, call, get, opened, peer, silent


async def test_a_connection_is_used_again(egress: Egress) -> None:
    async with peer(answers()) as near:
        for _ in range(5):
            assert isinstance(await get(egress, near.url()), Answer)
        assert (near.lines, len(near.requests)) == (1, 5)


async def hangs_up_on_the_second(line: Line) -> None:
    await line.request()
    await line.say(OK)
    await line.request()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize("body", [b"", b"x"])
async def test_a_request_is_sent_once_also_where_its_connection_drops(
    egress: Egress, method: str, body: bytes
) -> None:
    async with peer(hangs_up_on_the_second) as near:
        assert isinstance(await get(egress, near.url("/first")), Answer)
        outcome = await call(egress, Outbound(method, near.url("/once"), (), body))
        assert isinstance(outcome, Unknown)
        assert outcome.code is Code.UPSTREAM_BROKEN
        assert _requests_for(near, b"/once") == 1


async def test_aiohttp_by_itself_would_send_it_twice() -> None:
    async with peer(hangs_up_on_the_second) as near, aiohttp.ClientSession() as broken:
        async with broken.get(near.url("/first")) as response:
            await response.read()
        async with broken.put(near.url("/once"), data=b"x") as response:
            await response.read()
        assert _requests_for(near, b"/once") == 2


FORGED = OK.replace(b"ok", b"no")


class Forger:
    """Answers, and then answers once more although nobody asked. `forged` is set when that has left."""

    def __init__(self) -> None:
        self.go, self.forged = asyncio.Event(), asyncio.Event()

    async def play(self, line: Line) -> None:
        await line.request()
        await line.say(OK)
        await self.go.wait()
        if not self.forged.is_set():
            await line.say(FORGED)
            self.forged.set()
        while await line.request():
            await line.say(OK)


async def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_one(egress: Egress) -> None:
    forger = Forger()
    async with peer(forger.play) as near:
        await get(egress, near.url())
        await _forge(forger)
        after = await get(egress, near.url())
        assert isinstance(after, Answer)
        assert after.body == b"ok"
        assert (near.lines, len(near.requests)) == (2, 2)


async def test_whoever_speaks_before_it_is_asked_gets_no_request(egress: Egress) -> None:
    async def greet(line: Line) -> None:
        await line.say(b"220 mail.test ESMTP\r\n")
        await line.request()

    async with peer(greet) as near:
        outcome = await get(egress, near.url())
        if isinstance(outcome, NotSent):  # else it spoke a moment too late to be heard before
            assert outcome == NotSent(Code.UPSTREAM_UNREACHABLE, "it spoke before it was asked")
        else:
            assert isinstance(outcome, Unknown)
            assert outcome.code is Code.UPSTREAM_BROKEN


async def test_aiohttp_by_itself_would_take_it() -> None:
    forger = Forger()
    async with peer(forger.play) as near, aiohttp.ClientSession() as broken:
        async with broken.get(near.url()) as response:
            await response.read()
        await _forge(forger)
        async with broken.get(near.url()) as response:
            assert await response.read() == b"no"


@LOOPS
def test_a_cancelled_call_closes_its_connection(loop: Loop) -> None:
    async def main() -> None:
        async with peer(silent()) as near, opened() as egress:
            for calls in (1, 2):
                near.asked.clear()
                near.left.clear()
                task = asyncio.create_task(get(egress, near.url()))
                await near.asked.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await near.left.wait()
                assert near.lines == calls

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


async def test_a_call_cancelled_within_its_answer_closes_its_connection(egress: Egress) -> None:
    begun = asyncio.Event()

    async def play(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        begun.set()
        await line.hung_up()

    async with peer(play) as near:
        task = asyncio.create_task(get(egress, near.url()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await near.left.wait()
        assert near.lines == 1


BODY = bytes(1_000_000)


@LOOPS
def test_after_a_cancel_no_more_of_the_request_leaves(loop: Loop) -> None:
    async def main() -> None:
        async with opened() as egress:
            came = await _came_after_cancel(lambda url: call(egress, Outbound("POST", url, (), BODY)))
            assert came < len(BODY)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


async def test_aiohttp_by_itself_would_still_send_all_of_it() -> None:
    async with aiohttp.ClientSession() as broken:
        assert await _came_after_cancel(lambda url: _post(broken, url)) == len(BODY)


async def _post(session: aiohttp.ClientSession, url: str) -> None:
    async with session.post(url, data=BODY) as response:
        await response.read()


async def _came_after_cancel(post: Callable[[str], Coroutine[object, object, object]]) -> int:
    """How much of a body reaches a peer that begins to read it only when the call has been cancelled."""
    cancelled, came = asyncio.Event(), -1

    async def play(line: Line) -> None:
        nonlocal came
        await line.reader.readuntil(b"\r\n\r\n")
        line.peer.asked.set()
        await cancelled.wait()
        came = await line.hung_up()

    async with peer(play, window=4096) as near:
        task = asyncio.create_task(post(near.url()))
        await near.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled.set()
        await near.left.wait()
    return came


async def test_an_answer_before_the_end_of_the_request_leaves_nothing_behind(egress: Egress) -> None:
    answered, rest = asyncio.Event(), -1

    async def play(line: Line) -> None:
        nonlocal rest
        await line.reader.readuntil(b"\r\n\r\n")
        await line.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await answered.wait()
        rest = await line.hung_up()

    async with peer(play, window=4096) as near:
        outcome = await call(egress, Outbound("POST", near.url(), (), bytes(20_000_000)))
        assert isinstance(outcome, Answer)
        assert outcome.status == 413
        answered.set()
        await near.left.wait()
        assert rest < 500_000


async def test_many_calls_at_once_each_get_their_own_answer(egress: Egress) -> None:
    async def play(line: Line) -> None:
        while True:
            asked = (await line.request()).split(b" ")[1]
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(asked), asked))

    async def one(number: int) -> None:
        path = f"/{'x' * (number % 7)}{number}"
        outcome = await get(egress, near.url(path))
        assert isinstance(outcome, Answer)
        assert outcome.body == path.encode()

    async with peer(play) as near:
        await asyncio.gather(*(one(number) for number in range(500)))
        assert len(near.requests) == 500
        assert near.lines <= 250


def _requests_for(near: Peer, path: bytes) -> int:
    return sum(request.split(b" ")[1] == path for request in near.requests)


async def _forge(forger: Forger) -> None:
    """Until what was forged has come over: a round trip on another connection is behind it on this loop."""
    forger.go.set()
    await forger.forged.wait()
    async with peer(answers()) as other, aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.get(other.url()) as response:
                await response.read()
