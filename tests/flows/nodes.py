"""A gateway's committer and settler at work on a world, without sockets; and batches that a test stops or spoils."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from app.egress.outcomes import Answer, NotSent, Rejected, Unknown
from app.egress.outcomes import Outcome as Sent
from app.identity.callers import Caller
from app.proxy.attempts import (
    Aborted,
    Admission,
    Attempt,
    ByCaller,
    ByToken,
    Completed,
    Completion,
    Go,
    Key,
    No,
)
from app.proxy.committer import Committer
from app.proxy.destinations import Destinations
from app.proxy.settle import Settler
from app.rules.admission import Ask
from app.rules.errors import Code
from app.rules.ids import DispatchId
from app.rules.paths import parse_path
from app.rules.routes import ByPath, ByScope
from app.store.engine import Store, T
from app.store.hot import Batch, See, Step, Write
from app.store.keys import new_id
from tests.world import SCOPES, Bound, Lent, World

ANSWERED = Answer(200, CIMultiDictProxy(CIMultiDict()), b"{}")
NOT_SENT = NotSent(Code.UPSTREAM_UNREACHABLE, "nobody listens there")
REJECTED = Rejected(Code.UPSTREAM_RESPONSE_TOO_LARGE, "too large", 200)
TIMED_OUT = Unknown(Code.UPSTREAM_TIMEOUT, "it took too long")


class Node:
    """One gateway's committer and settler. Two nodes on one PostgreSQL are two worlds with a node each."""

    def __init__(self, world: World, store: Store | None = None) -> None:
        store = store or world.store
        self._world = world
        self.settler = Settler(store, world.boot_id)
        self.committer = Committer(store, world.boot_id, Destinations(world.keys), self.settler.doubt)

    def attempt(
        self,
        bound: Lent | Bound,
        *,
        method: str = "GET",
        path: str = "/v1/receipts/7",
        key: str | None = None,
        fingerprint: str = "the same request",
        size: int = 0,
        token: str | None = None,
    ) -> Attempt:
        """An attempt as the proxy makes it, by the token of a binding."""
        bound = bound.bound if isinstance(bound, Lent) else bound
        by = ByToken(self._world.keys.hash(bound.token.text if token is None else token))
        ask = Ask(ByPath("receipts-api", method, parse_path(path.encode())), None, size)
        named = Key(self._world.keys.hash(key), fingerprint) if key else None
        return Attempt(DispatchId(new_id("dsp")), by, ask, "receipts-api", method, path, named)

    def attempt_by(self, caller: Caller, lent: Lent, scope: str = SCOPES[0]) -> Attempt:
        """An attempt as `dispatchAction` makes it."""
        ask = Ask(ByScope(scope, None), None, 0)
        by = ByCaller(caller, lent.binding.id)
        return Attempt(DispatchId(new_id("dsp")), by, ask, "receipts-api", "GET", "/v1/receipts/7")

    async def admit(self, bound: Lent | Bound, **given: Any) -> Admission:
        """What is said to an attempt."""
        return await self.committer.admit(self.attempt(bound, **given))

    async def go(self, bound: Lent | Bound, **given: Any) -> Go:
        """An attempt that is admitted."""
        admission = await self.admit(bound, **given)
        assert isinstance(admission, Go), admission
        return admission

    async def no(self, bound: Lent | Bound, **given: Any) -> No:
        """An attempt that is refused."""
        admission = await self.admit(bound, **given)
        assert isinstance(admission, No), admission
        return admission

    async def complete(self, go: Go, sent: Sent | Aborted = ANSWERED, kept: str | None = None) -> Completed:
        """What becomes of an answer."""
        return await self.committer.complete(Completion(go, sent, kept))

    async def perform(
        self, bound: Lent | Bound, sent: Sent | Aborted = ANSWERED, **given: Any
    ) -> Completed | Admission:
        """Both, where it is admitted."""
        admission = await self.admit(bound, **given)
        return await self.complete(admission, sent) if isinstance(admission, Go) else admission


@asynccontextmanager
async def node(world: World, store: Store | None = None, *, settles: bool = True) -> AsyncIterator[Node]:
    """A node at work for the length of a block. One that does not settle leaves its doubts alone."""
    made = Node(world, store)
    await world.store.hold()
    jobs = [made.committer.run(), *([made.settler.run_doubts()] if settles else [])]
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Change = Callable[[Step | See | Write], Iterable[Step | See | Write]]


class Rewired(Store):
    """A store whose batches go through `change`: each statement becomes those, of which the last one answers."""

    def __init__(self, inner: Store, change: Change) -> None:
        super().__init__()
        self._inner = inner
        self.change = change

    async def write(self, flow: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._inner.write(flow, *args, **kwargs)

    async def read(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._inner.read(query, *args, **kwargs)

    async def commit(self, begin: Callable[[], Batch[T]]) -> T:
        return await self._inner.commit(lambda: self._changed(begin()))

    def _changed(self, batch: Batch[T]) -> Batch[T]:
        try:
            statement = next(batch)
            while True:
                rows: Any = []
                for each in self.change(statement):
                    rows = yield each
                statement = batch.send(rows)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def hold(self) -> None:
        await self._inner.hold()

    async def migrate(self) -> None:
        await self._inner.migrate()

    async def close(self) -> None:
        await self._inner.close()
