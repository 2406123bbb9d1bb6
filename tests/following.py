"""A subscriber without GraphQL: its own pages, then the tail."""

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

from app.delivery.feed import Feed, News, Position, Reads, catch_up
from app.identity.callers import Caller
from app.ledger.read import Wanted, wants
from app.ledger.wake import Wake
from app.rules.errors import Unauthenticated
from app.rules.ids import ApiKeyId
from app.store.tables import LedgerEntry


class Reader:
    """An audience of one."""

    def __init__(self, caller: Caller, since: int) -> None:
        self.since = since
        self.came: asyncio.Queue[LedgerEntry | None] = asyncio.Queue()
        self.is_over = False
        self._key = caller.key_id

    @property
    def keys(self) -> Collection[ApiKeyId]:
        return [self._key]

    async def hear(self, news: News) -> bool:
        self.is_over |= self._key not in news.standing
        for entry in () if self.is_over else news.entries:
            self.came.put_nowait(entry)
        if self.is_over:
            self.close()
        return False

    def close(self) -> None:
        self.came.put_nowait(None)


async def followed(
    store: Reads, wake: Wake, caller: Caller, after: int | None, wanted: Wanted
) -> AsyncGenerator[LedgerEntry, None]:
    """What a subscriber is shown, until the process stops. Raises Unauthenticated when the key has ended."""
    feed = Feed(wake)
    reader: Reader | None = None
    position = Position()

    def join(reached: int) -> int:
        nonlocal reader
        tail = feed.tail(store, caller.tenant_id, reached)
        reader = Reader(caller, tail.reached)
        tail.add(reader)
        return reader.since

    async with aclosing(catch_up(store, caller, after, wanted, join, position)) as own:
        async for entry in own:
            yield entry
    assert reader is not None
    try:
        while (entry_or_end := await reader.came.get()) is not None:
            if wants(wanted)(entry_or_end) and entry_or_end.seq > position.reached:
                yield entry_or_end
        if reader.is_over:
            raise Unauthenticated("the key has ended")
    finally:
        feed.tail(store, caller.tenant_id, 0).remove(reader)
