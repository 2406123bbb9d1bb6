"""Subscribers who must get the same answers: the operation runs once for each event, and all get its bytes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from typing import Concatenate

from app.api.answers import encoded, errors_of
from app.api.batches import Batch, Close, Event, cut
from app.api.context import Context, Gateway
from app.api.errors import before_data
from app.api.followers import RESTARTING, Follower
from app.api.guarded import GuardedSchema
from app.api.pages import log_of
from app.api.requests import Operation
from app.delivery.feed import News, P, T, Tail
from app.identity.callers import Caller, standing
from app.ledger.read import Wanted, wants
from app.rules.errors import Unavailable
from app.rules.ids import ApiKeyId
from app.store.engine import Tx
from app.store.tables import LedgerEntry
from app.telemetry import SUBSCRIBERS, get_logger

log = get_logger()

_CUT = "this stream cannot go on: subscribe again after your last cursor"

_ENDING: set["asyncio.Task[None]"] = set()


class SharedContext(Context):
    """Of an operation that runs for many: whatever it reads says, of the same snapshot, whose keys still live."""

    def __init__(self, gateway: Gateway, caller: Caller) -> None:
        self.judged: dict[ApiKeyId, Caller | None] = {}
        super().__init__(gateway, caller, None)

    def _by_caller(
        self, flow: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Callable[[Tx], T]:
        def rechecked(tx: Tx) -> T:
            living = standing(tx, self.judged)
            self.judged = {key: living.get(key) for key in self.judged}
            return flow(tx, *args, **kwargs)

        return rechecked


class _Given:
    """Entries that the group puts in, each when its answer is wanted."""

    def __init__(self) -> None:
        self.entry: LedgerEntry | None = None

    async def entries(
        self, _after: str | None, _wanted: Wanted, _variable: str | None
    ) -> AsyncGenerator[LedgerEntry, None]:
        while self.entry is not None:
            yield self.entry


class Group:
    """Followers of one tenant, with one role and one operation."""

    def __init__(
        self, schema: GuardedSchema, operation: Operation, context: SharedContext, wanted: Wanted, tail: Tail
    ) -> None:
        self._context = context
        self._given = context.source = _Given()
        self._results = schema.results(operation, context)
        self._wants = wants(wanted)
        self._tail = tail
        self._reached = tail.reached
        self._followers: set[Follower] = set()
        self._turn = asyncio.Lock()
        #: Told when nobody may join any more.
        self.on_over: Callable[[], object] = lambda: None
        tail.add(self)

    @property
    def keys(self) -> Collection[ApiKeyId]:
        """By which its followers are there."""
        return {follower.caller.key_id for follower in self._followers}

    def follow(self, caller: Caller, after: int) -> Follower:
        """One more, who has read up to a place itself, and is told from now on what comes after."""
        follower = Follower(caller, after, self._reached, self._leave)
        self._followers.add(follower)
        SUBSCRIBERS.inc()
        return follower

    def _leave(self, follower: Follower) -> None:
        self._followers.discard(follower)
        SUBSCRIBERS.dec()
        if not self._followers:
            self.on_over()
            self._tail.remove(self)
            ending = asyncio.ensure_future(self._end())
            _ENDING.add(ending)
            ending.add_done_callback(_ENDING.discard)

    async def _end(self) -> None:
        async with self._turn:  # not while it runs
            await self._results.aclose()

    def close(self) -> None:
        """Ends all of it: no stream is ever complete, so each is told that it can go on elsewhere, or later."""
        self.on_over()
        no = Unavailable(_CUT)
        for follower in self._followers:
            follower.end(cut(no, Close(RESTARTING, no.message)))

    async def hear(self, news: News) -> bool:
        """Runs the operation for what is news to it, and gives the answers to all who may have them."""
        async with self._turn:
            self._context.judged = {key: news.standing.get(key) for key in news.asked.intersection(self.keys)}
            batch = await self._answers([entry for entry in news.entries if self._wants(entry)])
            self._reached = news.reached
            return self._give(batch)

    async def _answers(self, entries: Sequence[LedgerEntry]) -> Batch:
        if not entries:
            return Batch(())
        self._context.forget()  # what one batch shows is of one moment
        try:
            return Batch([await self._answer(entry) for entry in entries])
        except Exception:
            log.exception("feed.group_failed")
            self.on_over()
            return cut(Unavailable(_CUT))

    async def _answer(self, entry: LedgerEntry) -> Event:
        self._given.entry = entry
        await self._context.store.pause()  # the tenant's other groups have as much to run
        result = await anext(self._results)
        if before_data(result):
            raise RuntimeError(f"what ran for each of them does not run for all: {errors_of(result)}")
        return Event(encoded(result), entry.seq, log_of(entry.tenant_id).cursor(entry.seq))

    def _give(self, batch: Batch) -> bool:
        held = False
        for follower in [*self._followers]:
            key = follower.caller.key_id
            if batch.errors:
                follower.end(batch)
            elif key not in self._context.judged:
                follower.hold(batch)
                held = True
            elif follower.judge(self._context.judged[key]):
                follower.reached = self._reached
                follower.give(batch)
        return held
