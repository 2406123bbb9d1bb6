"""Group commit: everything that waits is committed as one batch, and the next batch forms meanwhile.

There is no timer: alone, an item is a batch of one. A batch that fails admits nothing and releases nothing; what it may
have left behind is settled as soon as the store answers again (promise 6).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.proxy.attempts import Admission, Attempt, Completed, Completion, Go, Lost
from app.proxy.batch import Outcomes, commit
from app.proxy.destinations import Destinations
from app.proxy.leads import Leads
from app.proxy.settle import Doubt
from app.rules.errors import Unavailable
from app.rules.ids import BootId
from app.store.engine import Facts, Store
from app.store.hot import Batch
from app.telemetry import (
    ADMISSION_SECONDS,
    BATCH_SIZE,
    COMPLETION_SECONDS,
    LEDGER_APPEND_LAG_SECONDS,
    QUEUE_DEPTH,
    get_logger,
)

#: Admissions that may wait; one more is told to come back.
QUEUE = 1024
#: Items in one transaction: more would only make each of them wait longer.
_BATCH = 512
#: Turns of the event loop before a batch is asked for: what is about to come goes along, so that there are fewer batches,
#: each with a cost of its own. Alone, an item waits a tenth of a millisecond for it.
_TURNS = 4

T = TypeVar("T")
R = TypeVar("R")

log = get_logger()


@dataclass(slots=True)
class _Waiting(Generic[T, R]):
    item: T
    done: "asyncio.Future[R]"
    since: float


@dataclass(slots=True)
class _Taken:
    """What a batch took from the queues when it began."""

    admissions: list[_Waiting[Attempt, Admission]] = field(default_factory=list)
    completions: list[_Waiting[Completion, Completed]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.admissions) + len(self.completions)

    def halves(self) -> "tuple[_Taken, _Taken]":
        """Two that are together as much as this one, each with less."""
        a, c = (len(self.admissions) + 1) // 2, len(self.completions) // 2
        return (
            _Taken(self.admissions[:a], self.completions[:c]),
            _Taken(self.admissions[a:], self.completions[c:]),
        )


class Committer:
    """One per process. `run` is its loop; `doubtful` is told what a failed batch may have left behind."""

    def __init__(
        self, store: Store, boot_id: BootId, destinations: Destinations, doubtful: Callable[[Doubt], None]
    ) -> None:
        self._store = store
        self._boot_id = boot_id
        self._destinations = destinations
        self._leads = Leads()
        self._doubtful = doubtful
        self._admissions: deque[_Waiting[Attempt, Admission]] = deque()
        self._completions: deque[_Waiting[Completion, Completed]] = deque()
        self._bell = asyncio.Event()
        self._asked = False  # whether a batch is asked for that has not begun

    async def admit(self, attempt: Attempt) -> Admission:
        """Waits for the commit that admits or refuses. Raises Unavailable where too many wait, or it failed."""
        if len(self._admissions) >= QUEUE:
            raise Unavailable("the gateway is at its limit: nothing was sent; try again")
        waiting: _Waiting[Attempt, Admission] = _Waiting(
            attempt, asyncio.get_running_loop().create_future(), time.perf_counter()
        )
        self._admissions.append(waiting)
        self._bell.set()
        return await waiting.done

    async def complete(self, completion: Completion) -> Completed:
        """Waits for the commit that releases or withholds. Never refused: it was admitted."""
        waiting: _Waiting[Completion, Completed] = _Waiting(
            completion, asyncio.get_running_loop().create_future(), time.perf_counter()
        )
        self._completions.append(waiting)
        self._bell.set()
        return await waiting.done

    def abandon(self, go: Go) -> None:
        """Has it settled: nobody will complete it."""
        self._doubtful(Doubt(unfinished=[go.attempt.id]))

    async def run(self) -> None:
        """Commits batch after batch, for ever: one under way, and one asked for that takes what waits by then."""
        await asyncio.gather(self._commit_waiting(), self._commit_waiting())

    async def _commit_waiting(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            if self._asked:
                continue  # the other's batch has not begun: it takes what waits
            self._asked = True
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            await self._batch(_Taken())
            if (
                self._admissions or self._completions
            ):  # more than a batch takes: nobody else rings for the rest
                self._bell.set()

    async def _batch(self, taken: _Taken) -> None:
        try:
            outcomes = await self._store.commit(lambda: self._begin(taken))
        except Exception as error:
            log.exception(
                "committer.batch_failed", admissions=len(taken.admissions), completions=len(taken.completions)
            )
            await self._failed(taken, error)
        else:
            self._deliver(outcomes, taken)

    async def _failed(self, taken: _Taken, error: Exception) -> None:
        if not taken:
            self._take(taken)  # the store did not even begin: whoever waits for it is told so
        if len(taken) < 2 or isinstance(error, Unavailable):
            self._give_up(taken)
            return
        # One item may have failed all of them. Should COMMIT have been carried out all the same, nothing happens twice:
        # a dispatch has one row, and only what is still PENDING is completed.
        for half in taken.halves():
            await self._batch(half)

    def _begin(self, taken: _Taken) -> Batch[Outcomes]:
        # On the store's thread. Nobody else takes from the queues while it runs, so their ends are safe to take from.
        if not taken:
            self._take(taken)
        return commit(
            [each.item for each in taken.admissions],
            [each.item for each in taken.completions],
            self._boot_id,
            self._leads,
            self._destinations,
        )

    def _take(self, taken: _Taken) -> None:
        self._asked = (
            False  # first: who comes from now on, and may be too late for this batch, asks for the next
        )
        taken.completions = _take(self._completions)
        # A caller who has left asks for nothing any more. What was sent for them is recorded all the same.
        taken.admissions = [each for each in _take(self._admissions) if not each.done.done()]

    def _deliver(self, outcomes: Outcomes, taken: _Taken) -> None:
        now = time.perf_counter()
        for waiting, admission in zip(taken.admissions, outcomes.admissions, strict=True):
            ADMISSION_SECONDS.observe(now - waiting.since)
            if waiting.done.done() and isinstance(admission, Go):
                # Its caller was cancelled while it was admitted: nobody else will answer for it.
                self._doubtful(Doubt(unsent=[waiting.item.id]))
            _resolve(waiting.done, admission)
        for completing, completed in zip(taken.completions, outcomes.completions, strict=True):
            COMPLETION_SECONDS.observe(now - completing.since)
            _resolve(completing.done, completed)
        QUEUE_DEPTH.set(len(self._admissions) + len(self._completions))
        BATCH_SIZE.observe(len(taken.admissions) + len(taken.completions))
        if taken.completions:
            LEDGER_APPEND_LAG_SECONDS.observe(now - taken.completions[0].since)
        self._store.on_commit(Facts(appended=outcomes.appended))

    def _give_up(self, taken: _Taken) -> None:
        # COMMIT may have been carried out although its answer was lost: only the store can tell.
        self._doubtful(
            Doubt(
                unsent=[each.item.id for each in taken.admissions],
                unfinished=[each.item.go.attempt.id for each in taken.completions],
            )
        )
        for waiting in taken.admissions:
            if not waiting.done.done():
                waiting.done.set_exception(
                    Unavailable("the request could not be recorded: nothing was sent; try again")
                )
        for completing in taken.completions:
            _resolve(completing.done, Lost())


def _take(queue: deque[_Waiting[T, R]]) -> list[_Waiting[T, R]]:
    return [queue.popleft() for _ in range(min(_BATCH, len(queue)))]


def _resolve(future: "asyncio.Future[R]", result: R) -> None:
    if not future.done():  # its caller may have been cancelled
        future.set_result(result)
