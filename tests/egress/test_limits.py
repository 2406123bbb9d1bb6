"""Every answer meets its limits of size and time, and the connection of one that does not is closed."""

import asyncio
import gzip

import pytest

from app.egress.client import Answer, Egress, Outbound, Rejected, Unknown
from app.rules.errors import Code
from tests.egress.peers import Line, Play, Stopwatch, call, get, peer

LIMIT = 1000
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


async def test_an_announced_excess_is_refused_before_it_comes(egress: Egress) -> None:
    async with peer(_starts(HEAD + b"Content-Length: 1001\r\n\r\n")) as near:
        assert await get(egress, near.url(), limit=LIMIT) == _too_large(200)
        await near.left.wait()


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001,
        CHUNKED + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501 + b"\r\n",
        CHUNKED + b"1\r\nx\r\n" * 1001,
        HEAD + b"\r\n" + b"x" * 1001,
        HEAD + b"Content-Length: 2000000\r\n\r\n" + b"x" * 1_000_000,
    ],
    ids=["announced", "two chunks", "many chunks", "no length", "large"],
)
async def test_an_excess_is_refused_when_it_comes(egress: Egress, answer: bytes) -> None:
    async with peer(_starts(answer)) as near:
        assert await get(egress, near.url(), limit=LIMIT) == _too_large(200)


async def test_answers_under_way_have_one_budget_and_each_host_a_share(
    egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress._budget, "share", 1_500)
    held, released = asyncio.Event(), asyncio.Event()

    async def play(line: Line) -> None:
        request = await line.request()
        await line.say(HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 900)
        if b"/held" in request:
            held.set()
            await released.wait()
        await line.say(b"x" * 100)

    async with peer(play) as near:
        first = asyncio.ensure_future(get(egress, near.url("/held"), limit=LIMIT))
        await held.wait()
        while not egress._budget.held:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0)
        no_room = await get(egress, near.url("/other"), limit=LIMIT)
        assert isinstance(no_room, Rejected)
        assert "no room" in no_room.reason
        released.set()
        assert isinstance(await first, Answer)
        assert isinstance(await get(egress, near.url("/other"), limit=LIMIT), Answer)
    assert not egress._budget.held
    assert not egress._budget.held_by


async def test_an_endless_answer_is_cut_off(egress: Egress) -> None:
    sent = 0

    async def play(line: Line) -> None:
        nonlocal sent
        await line.request()
        await line.say(CHUNKED)
        while True:
            await line.say(b"400\r\n" + b"x" * 1024 + b"\r\n")
            sent += 1024

    async with peer(play) as near:
        assert await get(egress, near.url(), limit=100_000) == _too_large(200, 100_000)
    assert sent < 50_000_000


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000,
        CHUNKED + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n",
    ],
    ids=["announced", "chunks"],
)
async def test_the_limit_itself_passes(egress: Egress, answer: bytes) -> None:
    async with peer(_starts(answer)) as near:
        outcome = await get(egress, near.url(), limit=LIMIT)
        assert isinstance(outcome, Answer)
        assert outcome.body == b"x" * 1000


async def test_packed_bytes_are_counted_as_they_come(egress: Egress) -> None:
    packed = gzip.compress(b"\0" * 50_000_000)
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with peer(_starts(head + packed)) as near:
        outcome = await get(egress, near.url(), limit=len(packed))
        assert isinstance(outcome, Answer)
        assert outcome.body == packed


async def test_a_refused_answer_keeps_its_status(egress: Egress) -> None:
    async with peer(_starts(b"HTTP/1.1 500 Oh\r\nContent-Length: 5000\r\n\r\n")) as near:
        assert await get(egress, near.url(), limit=LIMIT) == _too_large(500)


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 ", b"x"),
        (HEAD + b"X: ", b"x"),
        (HEAD + b"Content-Length: 100000\r\n\r\n", b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
    ],
    ids=["interim answers", "status", "headers", "body", "chunks"],
)
async def test_a_drip_meets_the_total_deadline(egress: Egress, start: bytes, drop: bytes) -> None:
    async with peer(_drips(start, drop)) as near:
        watch = Stopwatch()
        outcome = await get(egress, near.url(), total=0.3, idle=0.2)
        assert isinstance(outcome, Unknown)
        assert outcome.code is Code.UPSTREAM_TIMEOUT
        assert 0.25 < watch.seconds < 2
        await near.left.wait()


@pytest.mark.parametrize(
    "start", [b"", HEAD, HEAD + b"Content-Length: 10\r\n\r\n12345", CHUNKED + b"1\r\nx\r\n"]
)
async def test_silence_meets_the_idle_deadline(egress: Egress, start: bytes) -> None:
    async with peer(_starts(start)) as near:
        watch = Stopwatch()
        outcome = await get(egress, near.url(), total=60, idle=0.1)
        assert isinstance(outcome, Unknown)
        assert outcome.code is Code.UPSTREAM_TIMEOUT
        assert "silent" in outcome.reason
        assert 0.05 < watch.seconds < 2
        await near.left.wait()


async def test_a_peer_that_does_not_read_meets_the_total_deadline(egress: Egress) -> None:
    async def play(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        await asyncio.Event().wait()

    async with peer(play) as near:
        body = bytes(50_000_000)
        outcome = await call(egress, Outbound("POST", near.url(), (), body), total=0.3, idle=0.1)
        assert isinstance(outcome, Unknown)
        assert outcome.code is Code.UPSTREAM_TIMEOUT


@pytest.mark.parametrize(("total", "idle"), [(0.0, 5.0), (-1.0, 5.0), (5.0, 0.0)])
async def test_no_time_left_is_no_reason_to_wait_for_ever(egress: Egress, total: float, idle: float) -> None:
    async with peer(_starts(b"")) as near:
        watch = Stopwatch()
        assert not isinstance(await get(egress, near.url(), total=total, idle=idle), Answer)
        assert watch.seconds < 2


def _too_large(status: int, limit: int = LIMIT) -> Rejected:
    reason = f"its answer is larger than the {limit} bytes that are relayed"
    return Rejected(Code.UPSTREAM_RESPONSE_TOO_LARGE, reason, status)


def _starts(answer: bytes) -> Play:
    """Says this and no more, and waits for the other side to hang up."""

    async def play(line: Line) -> None:
        await line.request()
        if answer:
            await line.say(answer)
        await line.hung_up()

    return play


def _drips(start: bytes, drop: bytes) -> Play:
    """Says a little every 20 ms until the other side hangs up."""

    async def play(line: Line) -> None:
        await line.request()
        if start:
            await line.say(start)
        gone = asyncio.create_task(line.hung_up())
        while not (await asyncio.wait([gone], timeout=0.02))[0]:
            await line.say(drop)

    return play
