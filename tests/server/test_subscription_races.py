"""What a stream must not do while others write: leave something out, or go on after its key."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import pytest

from app.delivery.feed import News, Tail
from app.ledger.read import head
from tests.conftest import FULL, HEAVY_ON_SQLITE
from tests.server.client import ask, data
from tests.server.conftest import Here, House, Opening, Proving
from tests.server.lending import Loan
from tests.server.streams import LAST, events, until_its_key_is_revoked, writing
from tests.upstreams import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

BURST = 24
KEYS, BURSTS = (400, 40) if FULL else (15, 8)


@HEAVY_ON_SQLITE
async def test_a_feed_is_gap_free_where_one_that_reads_the_head_apart_is_not(
    here: Opening, service: Upstream, monkeypatch: pytest.MonkeyPatch, proven: Proving
) -> None:
    with monkeypatch.context() as variant:
        read = asyncio.Event()
        variant.setattr(Tail, "_read", with_the_head_read_apart(read))
        async with here() as it:
            loan = await it.lending.loan(service.port)
            assert await gaps(it, loan, read), "the variant bears it: this test proves nothing"
    async with here() as it:
        loan = await it.lending.loan(service.port)
        for _ in range(BURSTS):
            assert await gaps(it, loan) == set()
    proven("a feed that reads the head apart", 1, BURSTS)


async def gaps(it: House, loan: Loan, read: asyncio.Event | None = None) -> set[int]:
    """What a subscriber missed of a burst of dispatches, which waits until its tail has `read` once, if that is given."""
    start = (await data(it.port, loan.delegator.key, LAST))["edges"][0]
    first = start["node"]["seq"] + 1
    seen: set[int] = set()

    async def follow() -> None:
        async with aclosing(events(it.port, loan.delegator.key, "sse", after=start["cursor"])) as stream:
            async for edge in stream:
                if edge["node"]["seq"] >= first + BURST:
                    return
                seen.add(edge["node"]["seq"])

    following = asyncio.ensure_future(follow())
    if read is not None:
        await read.wait()
    await asyncio.gather(*(ask(it.port, "GET", loan.at(), [loan.bearer]) for _ in range(BURST)))
    while not following.done():  # what comes now tells that all of the burst has come, or never will
        await ask(it.port, "GET", loan.at(), [loan.bearer])
    await following
    return set(range(first, first + BURST)) - seen


READ = Tail._read


def with_the_head_read_apart(read: asyncio.Event) -> Callable[[Tail], Awaitable[News]]:
    """The variant: how far it has read is asked for in a snapshot of its own, between which and the entries' somebody
    commits.
    """

    async def apart(tail: Tail) -> News:
        news = await READ(tail)
        reached = news.reached
        while reached == news.reached and not tail._wake.closed:
            bell = tail._wake.bell(tail._tenant_id)
            reached = await tail._store.read(head, tail._tenant_id)
            read.set()
            if reached == news.reached:
                await bell.wait()
        return replace(news, reached=reached)

    return apart


@HEAVY_ON_SQLITE
async def test_nothing_follows_a_keys_end_where_a_check_apart_lets_something(
    here: Opening, service: Upstream, monkeypatch: pytest.MonkeyPatch, proven: Proving
) -> None:
    # A second guard, which reads what an entry points to, would keep the first one's failure from being seen.
    monkeypatch.setattr("app.api.groups.standing", lambda _tx, judged: judged)
    with monkeypatch.context() as variant:
        checked = asyncio.Event()
        variant.setattr(Tail, "_read", with_the_keys_asked_apart(checked))
        async with here() as it:
            assert not await ends(it, service, 1, checked), "the variant bears it: this test proves nothing"
    async with here() as it:
        assert await ends(it, service, KEYS)
    proven("a feed that checks the key apart", 1, KEYS)


async def ends(it: Here, service: Upstream, keys: int, at: asyncio.Event | None = None) -> bool:
    """Whether so many keys, each ended under its stream, delivered nothing that came after."""
    loan = await it.lending.loan(service.port)
    async with writing(it.port, loan):
        for _ in range(keys):
            delivered, ended, revocation = await until_its_key_is_revoked(it, loan, "sse", at)
            assert ended == "UNAUTHENTICATED"
            if delivered[-1] >= revocation:  # the entry that tells of it is one of those after it
                return False
    return True


def with_the_keys_asked_apart(checked: asyncio.Event) -> Callable[[Tail], Awaitable[News]]:
    """The variant: which keys live is asked in a snapshot of its own, and one of them ends right after."""

    async def read(tail: Tail) -> News:
        before = await READ(tail)
        checked.set()
        while before.standing and (await READ(tail)).standing:
            await tail._wake.bell(tail._tenant_id).wait()
        return replace(await READ(tail), asked=before.asked, standing=before.standing)

    return read
