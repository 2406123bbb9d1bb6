"""What a stream must not do while others write: leave something out, or go on after its key."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import pytest

from app.delivery import feed
from app.identity.callers import Caller, recheck
from app.ledger.read import Wanted, head, page
from app.ledger.wake import Wake
from app.store.engine import Store, Tx
from app.store.tables import ApiKey, LedgerEntry
from tests.conftest import FULL
from tests.server.client import ask, data
from tests.server.conftest import HEAVY_ON_SQLITE, Here, House, Opening, Proving
from tests.server.lending import Loan
from tests.server.streams import LAST, events, until_its_key_is_revoked, writing
from tests.upstreams import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

BURST = 24
KEYS, BURSTS = (400, 20) if FULL else (15, 6)


@HEAVY_ON_SQLITE
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
                assert needed < 20, "the variant bears all of it: this test proves nothing"
    bears = BURSTS * needed
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
            await bell.wait()  # whoever commits now is between the two
            last = await store.read(head, caller.tenant_id)
            reached = last


@HEAVY_ON_SQLITE
async def test_nothing_follows_a_keys_end_where_a_check_apart_lets_something(
    here: Opening, service: Upstream, monkeypatch: pytest.MonkeyPatch, proven: Proving
) -> None:
    # A second guard, which reads what an entry points to, would keep the first one's failure from being seen.
    monkeypatch.setattr("app.api.context.recheck", lambda _tx, caller: caller)
    with monkeypatch.context() as variant:
        checked = asyncio.Event()
        variant.setattr("app.api.subscriptions.follow", with_the_key_checked_apart(checked))
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


def with_the_key_checked_apart(checked: asyncio.Event) -> Callable[..., AsyncGenerator[LedgerEntry, None]]:
    """The variant: whether the key still opens is asked in a snapshot of its own, and the key ends right after."""

    async def follow(
        store: Store, wake: Wake, caller: Caller, after: int | None, wanted: Wanted
    ) -> AsyncGenerator[LedgerEntry, None]:
        with wake.watch(caller.tenant_id):
            reached = after or 0
            while True:
                await store.read(recheck, caller)
                checked.set()
                while not await store.read(_has_ended, caller):
                    await wake.bell(caller.tenant_id).wait()
                for entry in await store.read(_unchecked, caller, reached, wanted):
                    yield entry
                    reached = entry.seq

    return follow


def _has_ended(tx: Tx, caller: Caller) -> bool:
    return tx.get_one(ApiKey, caller.key_id).revoked_at is not None


def _unchecked(tx: Tx, caller: Caller, after: int, wanted: Wanted) -> list[LedgerEntry]:
    found = page(tx, caller.tenant_id, wanted, limit=1000, after=after, before=None, backward=False)
    return found.entries
