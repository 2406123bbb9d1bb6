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

#: Of a store's few readers, one tenant's operations and feeds keep at most so many busy: its others wait.
READS = 2


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


class FairReads:
    """One tenant's reads of a store: some of them go on, the rest wait in the order in which they came."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turns = asyncio.Semaphore(READS)

    async def read(self, query: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `query` in a snapshot, when it is its turn."""
        async with self._turns:
            return await self._store.read(query, *args, **kwargs)
