"""What a request contains is judged before its admission and never within a batch: guards take their time.

Which guards are in force is known for certain only under the lock. So a request is judged by those that its token met
last, and the batch says whether they still are those; where not, it is judged once more. Nothing is decided here: a
judgement counts only where the batch finds the same guards in force (promise 2).
"""

import asyncio
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from app.proxy.attempts import Admission, Attempt, ByToken, Content
from app.proxy.committer import Committer
from app.rules.admission import Ask, Judged, Unjudged
from app.rules.errors import Unavailable
from app.rules.guards import Seen, checks, is_heavy
from app.rules.ids import ActionId, TenantId
from app.rules.routes import fits
from app.store.engine import wall_clock

_MOST = 10_000  # tokens and bindings whose guards are remembered
_ACTIONS = 16  # of each
_TRIES = 4  # whoever amends faster than that refuses themselves
_THREADS = 2
_QUEUE = 256  # of one tenant

T = TypeVar("T")

_Met = OrderedDict[ActionId, Unjudged]


class Judges:
    """One per process."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._met: OrderedDict[str, _Met] = OrderedDict()
        self._waiting: Counter[TenantId] = Counter()
        self._lanes: dict[TenantId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._threads = ThreadPoolExecutor(_THREADS, "guards")

    async def admit(self, attempt: Attempt, content: Content) -> Admission:
        """Waits for the commit that admits or refuses. Raises Unavailable as the committer does."""
        judged = None
        if known := self._known(attempt):
            judged = await self.judge(known._replace(now=wall_clock()), attempt, content)
        for _ in range(_TRIES):
            admission = await self._committer.admit(_with(attempt, judged) if judged else attempt)
            if not isinstance(admission, Unjudged):
                return admission
            self._meet(attempt, admission)
            judged = await self.judge(admission, attempt, content)
        raise Unavailable("the terms change faster than the request can be judged: nothing was sent")

    async def judge(self, by: Unjudged, attempt: Attempt, content: Content) -> Judged:
        """What the guards say. Never raises for what a request contains."""
        types = (value for name, value in content.headers if name == "content-type")
        seen = Seen(
            attempt.method,
            attempt.path,
            content.query,
            next(types, None),
            content.body,
            attempt.ask.address,
        )
        if is_heavy(by.guards, by.route.schema, seen):
            return await self.aside(by.delegator_id, partial(judgement, by, seen))
        return judgement(by, seen)

    async def aside(self, whose: TenantId, work: Callable[[], T]) -> T:
        """Does what may take long on a thread that is there for it, for each tenant one at a time: whose guards are
        slow waits for them, and nobody else. Raises Unavailable where too many wait already.
        """
        if self._waiting[whose] >= _QUEUE:
            raise Unavailable("too many requests wait for this tenant's guards: nothing was sent; try again")
        self._waiting[whose] += 1
        try:
            async with self._lanes[whose]:
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting[whose] -= 1
            if not self._waiting[whose]:
                del self._waiting[whose], self._lanes[whose]

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
