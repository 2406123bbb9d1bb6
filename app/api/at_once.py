"""How much one tenant may have under way at once, so that there is room for the others."""

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

from app.rules.errors import RateLimited
from app.store.engine import Store, Tx

P = ParamSpec("P")
T = TypeVar("T")

#: Of a store's few readers, and of its writers, one tenant keeps at most so many busy: its others wait.
READS = 2
WRITES = 2


class AtMost:
    """Counts what goes on for as long as it does, and refuses what is one too many. `what` names it in the refusal."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._running: Counter[Hashable] = Counter()

    @contextmanager
    def one(self, whose: Hashable) -> Iterator[None]:
        """One more, for the length of a block. Raises RateLimited."""
        if self._running[whose] >= self._most:
            raise RateLimited(
                f"your tenant has {self._most} {self._what} at once, the most it may: end one first"
            )
        self._running[whose] += 1
        try:
            yield
        finally:
            self._running[whose] -= 1
            if not self._running[whose]:
                del self._running[whose]


class FairShare:
    """One tenant's use of a store and of the event loop: some of it goes on, the rest waits in the order in which it came."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = asyncio.Lock()
        self._reads = asyncio.Semaphore(READS)
        self._writes = asyncio.Semaphore(WRITES)

    async def read(self, query: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `query` in a snapshot, when it is its turn."""
        async with self._reads:
            return await self._store.read(query, *args, **kwargs)

    async def write(self, flow: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `flow` in a transaction, when it is its turn."""
        async with self._writes:
            return await self._store.write(flow, *args, **kwargs)

    async def pause(self) -> None:
        """Between two steps that wait for nothing: lets the loop go round, with one of the tenant's steps each time."""
        async with self._turn:
            await asyncio.sleep(0)
