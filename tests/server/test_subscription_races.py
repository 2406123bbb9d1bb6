"""What a stream must not do while others write: leave something out, or go on after its key."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from app.delivery import feed
from app.identity.callers import Caller
from app.ledger.read import Wanted, head, page
from app.ledger.wake import Wake
from app.store.engine import Store, Tx
from app.store.tables import LedgerEntry
from tests.server.client import ask, data
from tests.server.conftest import Here, House, Opening, Proving
from tests.server.lending import Loan
from tests.server.streams import LAST, events, until_its_key_is_revoked, writing
from tests.upstreams import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

BURST = 24


async def test_a_feed_is_gap_free_where_one_that_reads_the_head_apart_is_not(
    here: Opening, service: Upstream, monkeypatch: pytest.MonkeyPatch, proven: Proving
) -> None:
    with monkeypatch.context() as variant:
        variant.setattr("app.api.subscriptions.follow", with_the_head_read_apart)
        async with here() as it:
            loan = await it.lending.loan(service.port)
            needed = 1
            while not await gaps(it, loan):
                needed += 1
                assert needed < 200, "the variant bears all of it: this test proves nothing"
    bears = max(20, 20 * needed)
    async with here() as it:
        loan = await it.lending.loan(service.port)
        for _ in range(bears):
            assert await gaps(it, loan) == set()
    proven("a feed that reads the head apart", needed, bears)


async def gaps(it: House, loan: Loan) -> set[int]:
    """What a subscriber missed of a burst of dispatches."""
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
    await asyncio.gather(*(ask(it.port, "GET", loan.at(), [loan.bearer]) for _ in range(BURST)))
    while not following.done():  # what comes now tells that all of the burst has come, or never will
        await ask(it.port, "GET", loan.at(), [loan.bearer])
    await following
    return set(range(first, first + BURST)) - seen


async def with_the_head_read_apart(
    store: Store, wake: Wake, caller: Caller, after: int | None, wanted: Wanted
) -> AsyncGenerator[LedgerEntry, None]:
    """The variant: how far it has read is asked for in a snapshot of its own."""
    with wake.watch(caller.tenant_id):
        reached = after or 0
        while True:
            bell = wake.bell(caller.tenant_id)
            tail = await store.read(feed._tail, caller, reached, wanted)
            for entry in tail.entries:
                yield entry
            last = await store.read(head, caller.tenant_id)
            if last == reached:
                await bell.wait()
            reached = last


async def test_nothing_follows_a_keys_end_where_a_check_apart_lets_something(
    here: Opening, service: Upstream, monkeypatch: pytest.MonkeyPatch, proven: Proving
) -> None:
    with monkeypatch.context() as variant:
        variant.setattr("app.api.subscriptions.follow", with_the_key_checked_apart)
        async with here() as it:
            needed = await ends(it, service, 200)
            assert needed < 200, "the variant bears all of it: this test proves nothing"
    bears = max(20, 20 * needed)
    async with here() as it:
        assert await ends(it, service, bears) == bears
    proven("a feed that checks the key apart", needed, bears)


async def ends(it: Here, service: Upstream, most: int) -> int:
    """How many keys were ended under their stream until one delivered what came after."""
    loan = await it.lending.loan(service.port)
    async with writing(it.port, loan):
        for number in range(1, most + 1):
            delivered, ended, revocation = await until_its_key_is_revoked(it, loan, "sse")
            assert ended == "UNAUTHENTICATED"
            if delivered[-1] >= revocation:  # the entry that tells of it is one of those after it
                return number
    return most


async def with_the_key_checked_apart(
    store: Store, wake: Wake, caller: Caller, after: int | None, wanted: Wanted
) -> AsyncGenerator[LedgerEntry, None]:
    """The variant: whether the key still opens is asked in a snapshot of its own."""
    with wake.watch(caller.tenant_id):
        reached = after or 0
        while True:
            bell = wake.bell(caller.tenant_id)
            await store.read(feed._from_now, caller)  # raises where the key has ended
            for entry in await store.read(_unchecked, caller, reached, wanted):
                yield entry
                reached = entry.seq
            if reached == await store.read(head, caller.tenant_id):
                await bell.wait()


def _unchecked(tx: Tx, caller: Caller, after: int, wanted: Wanted) -> list[LedgerEntry]:
    found = page(tx, caller.tenant_id, wanted, limit=100, after=after, before=None, backward=False)
    return found.entries
