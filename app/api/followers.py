"""One subscriber among those who get the same: what waits for it, and how it ends."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

from app.api.batches import Batch, Close, cut
from app.api.pages import log_of
from app.identity.callers import Caller
from app.rules.errors import Forbidden, SlowReader, Unauthenticated
from app.rules.permissions import PERMISSIONS, Role

UNAUTHORIZED = 4401  # graphql-transport-ws
FORBIDDEN = 4403
RESTARTING = 1012  # RFC 6455's registry: clients connect again by themselves


def lost(role: Role, caller: Caller | None) -> Unauthenticated | Forbidden | None:
    """Why whoever began with a role may not go on as this caller: the key has ended, or may less."""
    if caller is None:
        return Unauthenticated("your API key has been revoked or has expired: ask an owner for a new one")
    if PERMISSIONS[caller.role] >= PERMISSIONS[role]:
        return None
    return Forbidden(f"your key's role was {role} and is {caller.role} now: subscribe again")


class Follower:
    """Told by its group, read by its transport. Neither waits for the other."""

    most_waiting = 1024 * 1024  # bytes of events, beside what the transport has taken; and so many batches
    most_batches = 256

    def __init__(self, caller: Caller, after: int, since: int, leave: Callable[["Follower"], None]) -> None:
        self.caller = caller
        #: How far its group had been told when it came.
        self.since = since
        #: How far it has been told by now, of what it wants and of what it does not.
        self.reached = 0
        self._after = after
        self._cursor = log_of(caller.tenant_id).cursor(after)
        self._leave = leave
        self._held: list[Batch] = []
        self._waiting: deque[Batch] = deque()
        self._size = 0
        self._end: Batch | None = None
        self._over = False
        self._more: asyncio.Future[None] | None = None

    @property
    def passed(self) -> int:
        """Up to where its transport has done with everything; 0 while that has anything in hand."""
        waits = self._more is not None and not self._more.done()
        return self.reached if waits and not self._held else 0

    def give(self, batch: Batch) -> None:
        """What it may have."""
        for each in (*self._held, batch):
            self._put(each.after(self._after))
        self._held.clear()

    def hold(self, batch: Batch) -> None:
        """What it may have once its key has been asked for."""
        self._held.append(batch)

    def judge(self, caller: Caller | None) -> bool:
        """Whether it may have what was read when its caller was this; if not, it ends."""
        no = lost(self.caller.role, caller)
        if no is None:
            return True
        code = UNAUTHORIZED if isinstance(no, Unauthenticated) else FORBIDDEN
        self.end(cut(no, Close(code, no.message)))
        return False

    def end(self, batch: Batch | None = None) -> None:
        """Ends it, after what waits; with this, if anything."""
        if not self._over:
            self._over, self._end = True, batch
            self._wake()

    def leave(self) -> None:
        """Nobody reads it any more."""
        self.end()
        self._leave(self)

    def _put(self, batch: Batch) -> None:
        if self._over or not batch.events:
            return
        if self._size + batch.size > self.most_waiting or len(self._waiting) == self.most_batches:
            self._overflow()
            return
        self._waiting.append(batch)
        self._size += batch.size
        self._wake()

    def _overflow(self) -> None:
        message = "events come faster than this subscriber takes them: go on after extensions.cursor"
        self._waiting.clear()
        self.end(cut(SlowReader(message, self._cursor)))

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """What it is given, as it comes."""
        while True:
            while self._waiting:
                batch = self._waiting.popleft()
                self._size -= batch.size
                self._cursor = batch.events[-1].cursor or self._cursor
                yield batch
            if self._over:
                break
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        if self._end is not None:
            yield self._end
