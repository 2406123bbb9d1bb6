"""What a request contains is judged before its admission and never within a batch: guards take their time.

Which guards are in force is known for certain only under the lock. So a request is judged by those that its token met
last, and the batch says whether they still are those; where not, it is judged once more. Nothing is decided here: a
judgement counts only where the batch finds the same guards in force (promise 2).
"""

import asyncio
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.proxy.attempts import Admission, Attempt, ByToken, Content
from app.proxy.committer import Committer
from app.rules.admission import Ask, Judged, Unjudged
from app.rules.errors import Unavailable
from app.rules.guards import Seen, checks, is_heavy
from app.rules.ids import ActionId, Instant, TenantId
from app.rules.routes import fits
from app.store.engine import wall_clock

_MOST = 10_000  # tokens and bindings whose guards are remembered
_ACTIONS = 16  # of each
_TRIES = 4  # whoever amends faster than that refuses themselves
_THREADS = 2
_QUEUE = 256  # in one lane

T = TypeVar("T")

#: A tenant, and what it does: its agents' requests do not wait for its questions.
Lane = tuple[TenantId, str]

_Met = OrderedDict[ActionId, Unjudged]


class Judges:
    """One per process."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._met: OrderedDict[str, _Met] = OrderedDict()
        self._waiting: Counter[Lane] = Counter()
        self._lanes: dict[Lane, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._threads = ThreadPoolExecutor(_THREADS, "guards")

    async def admit(self, attempt: Attempt, content: Content) -> Admission:
        """Waits for the commit that admits or refuses. Raises Unavailable as the committer does."""
        judged = self._beforehand(attempt, content)
        for _ in range(_TRIES):
            admission = await self._committer.admit(_with(attempt, judged) if judged else attempt)
            if not isinstance(admission, Unjudged):
                return admission
            self._meet(attempt, admission)
            judged = await self._judge(admission, _seen(attempt, content))
        raise Unavailable("the terms change faster than the request can be judged: nothing was sent")

    def _beforehand(self, attempt: Attempt, content: Content) -> Judged | None:
        """A judgement by the guards that were met last, where it takes no time: who has no right asks for none."""
        if not (by := self._known(attempt)):
            return None
        seen = _seen(attempt, content)
        if is_heavy(by.guards, by.route.schema, seen):
            return None
        return judgement(by._replace(now=wall_clock()), seen)

    async def _judge(self, by: Unjudged, seen: Seen) -> Judged:
        if not is_heavy(by.guards, by.route.schema, seen):
            return judgement(by, seen)
        since = time.monotonic_ns()

        def late() -> Judged:
            waited = (time.monotonic_ns() - since) // 1000
            return judgement(by._replace(now=Instant(by.now + waited)), seen)

        return await self.aside((by.delegate_id, "acts"), late)

    async def aside(self, lane: Lane, work: Callable[[], T]) -> T:
        """Does what may take long on a thread that is there for it, in each lane one at a time: who is slow waits for
        themselves, and nobody else does. Raises Unavailable where too many wait in the lane already.
        """
        if self._waiting[lane] >= _QUEUE:
            raise Unavailable(
                "too much is under way that takes long for your tenant: nothing was done; try again"
            )
        self._waiting[lane] += 1
        try:
            turn = self._lanes[lane]
            await turn.acquire()
            job = asyncio.get_running_loop().run_in_executor(self._threads, work)
            # Who leaves gives back no thread that still works.
            job.add_done_callback(lambda _: turn.release())
            return await asyncio.shield(job)
        finally:
            self._waiting[lane] -= 1
            if not self._waiting[lane]:
                del self._waiting[lane]
                if not self._lanes[lane].locked():
                    del self._lanes[lane]

    def close(self) -> None:
        """Judges nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _known(self, attempt: Attempt) -> Unjudged | None:
        met = self._met.get(_name(attempt))
        if met:
            for each in met.values():
                if fits(each.route, attempt.ask.target):
                    return each
        return None

    def _meet(self, attempt: Attempt, by: Unjudged) -> None:
        met = self._met.setdefault(_name(attempt), OrderedDict())
        met.pop(by.route.action_id, None)
        met[by.route.action_id] = by
        self._met.move_to_end(_name(attempt))
        for kept, most in ((met, _ACTIONS), (self._met, _MOST)):
            while len(kept) > most:
                kept.popitem(last=False)


def _seen(attempt: Attempt, content: Content) -> Seen:
    types = (value for name, value in content.headers if name == "content-type")
    return Seen(
        attempt.method, attempt.path, content.query, next(types, None), content.body, attempt.ask.address
    )


def _with(attempt: Attempt, judged: Judged) -> Attempt:
    # Not by `_replace`, which takes several times as long.
    id, by, ask, upstream_name, method, path, key = attempt
    judged_ask = Ask(ask.target, ask.address, ask.request_bytes, judged)
    return Attempt(id, by, judged_ask, upstream_name, method, path, key)


def judgement(by: Unjudged, seen: Seen) -> Judged:
    """What the guards say of a request, each up to the first that denies it."""
    results = []
    for name, denial in checks(
        by.guards, by.route.schema, seen, scope=by.route.scope, delegation_id=by.delegation_id, now=by.now
    ):
        results.append((name, denial))
        if denial:
            break
    return Judged(by.guards, by.route.schema, by.route.scope, by.now, results)


def _name(attempt: Attempt) -> str:
    return attempt.by.token_hash if isinstance(attempt.by, ByToken) else attempt.by.binding_id
