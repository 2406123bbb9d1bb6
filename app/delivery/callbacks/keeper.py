"""What this process keeps of the subscriptions that are sent to routers: whose turn it is, who lives, how far each is.

A position is saved after the router has answered, many together: what was taken since then is sent once more after a
crash, and nothing is left out.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from app.delivery.callbacks.rows import claim, look, release, rows_of, save, verifier_of
from app.delivery.callbacks.sending import Heard, Post, Router
from app.rules.ids import ApiKeyId, BootId, CallbackId, TenantId
from app.rules.permissions import Role
from app.store.engine import Store
from app.store.keys import Keys
from app.store.tables import CallbackSubscription
from app.telemetry import get_logger

_TICK = 0.5  # seconds between saves
_LOOKS = 4  # ticks between looks for what other processes left
#: Routers give up where nothing came for a heartbeat's interval: it is sent a quarter of it earlier, 5 s at most.
_EARLY, _EARLIEST = 0.25, 5.0
#: Entries that none of it wants, after which a position moves all the same: a restart need not read them again.
_FAR = 2_000
_SOON = 0.5  # seconds within which the first is sent for what another process left

log = get_logger()


@dataclass(slots=True, eq=False)
class Held:
    """One subscription. `beat` is the seconds from one heartbeat to the next; 0: there are none."""

    id: CallbackId
    router: Router
    key_id: ApiKeyId
    role: Role
    query: str
    variables: str
    name: str | None
    seq: int
    beat: float
    #: Up to where there is nothing more to send; 0 where that is not known now.
    passed: Callable[[], int] = lambda: 0  # a default
    is_over: bool = False
    timer: asyncio.TimerHandle | None = None
    tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    @property
    def tenant_id(self) -> TenantId:
        """Whose it is."""
        return self.router.tenant_id


#: Runs a subscription until it is over, by `Keeper.tell` and `Keeper.complete`.
Follow = Callable[[Held], Awaitable[None]]


class Keeper:
    """One per process."""

    def __init__(self, store: Store, keys: Keys, boot_id: BootId, post: Post, follow: Follow) -> None:
        self._store = store
        self._keys = keys
        self._boot_id = boot_id
        self._post = post
        self._follow = follow
        self._held: dict[CallbackId, Held] = {}
        self._moved: dict[CallbackId, int] = {}
        self._ended: set[CallbackId] = set()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, row: CallbackSubscription, *, fresh: bool = True) -> None:
        """Sends it from here on, unless it does already. A `fresh` one's router was asked just now."""
        if row.boot_id != self._boot_id or row.id in self._held or row.id in self._ended:
            return
        held = self._held[row.id] = self._of(row)
        self._begin(held, self._follow(held))
        if held.beat:
            self._beat_in(held, held.beat if fresh else random.uniform(0, _SOON))  # noqa: S311  # spreads load

    def has_ended(self, row: CallbackSubscription) -> bool:
        """Whether it is over, and its row only not deleted yet."""
        return row.id in self._ended

    def _of(self, row: CallbackSubscription) -> Held:
        router = Router(row.tenant_id, row.url, row.subscription_id, verifier_of(row, self._keys))
        seconds = row.heartbeat_ms / 1000
        beat = seconds - min(_EARLY * seconds, _EARLIEST)
        operation = row.query, row.variables, row.operation_name
        return Held(row.id, router, row.key_id, row.role, *operation, row.seq, beat)

    async def tell(self, held: Held, document: bytes, seq: int) -> None:
        """Sends a result, and remembers that the router has it."""
        if await self._insist(held, held.router.next(document)):
            held.seq = self._moved[held.id] = seq

    async def complete(self, held: Held, errors: Sequence[object]) -> None:
        """Ends it, and tells the router why."""
        if await self._insist(held, held.router.complete(errors)):
            self._end(held)

    async def _insist(self, held: Held, message: bytes) -> bool:
        """Whether the router has it; if not, it wants no more."""
        if await self._post.insist(held.router, message) is Heard.TAKEN:
            return True
        self._end(held)
        return False

    def _end(self, held: Held) -> None:
        if not held.is_over:
            self._ended.add(held.id)
            self._drop(held)

    def _drop(self, held: Held) -> None:
        """Sends nothing more of it."""
        held.is_over = True
        self._held.pop(held.id, None)
        self._moved.pop(held.id, None)
        if held.timer is not None:
            held.timer.cancel()
        for task in held.tasks - {asyncio.current_task()}:
            task.cancel()

    def _begin(self, held: Held, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        held.tasks.add(task)
        task.add_done_callback(held.tasks.discard)

    def _beat_in(self, held: Held, seconds: float) -> None:
        held.timer = asyncio.get_running_loop().call_later(seconds, self._beat, held)

    def _beat(self, held: Held) -> None:
        self._beat_in(held, held.beat)
        if len(held.tasks) < 2:  # else the last one has no answer yet
            self._begin(held, self._check(held))

    async def _check(self, held: Held) -> None:
        await self._insist(held, held.router.check())

    async def run(self) -> None:
        """Saves and takes, for ever; when it is cancelled others may take what it had."""
        ticks = 0
        try:
            while True:
                try:
                    await self.save()
                    if ticks % _LOOKS == 0:
                        await self._look()
                except Exception:
                    log.exception("callbacks.tick_failed")  # what was to be saved is saved by the next
                ticks += 1
                await asyncio.sleep(_TICK)
        finally:
            await self._stop()

    async def save(self) -> None:
        """Saves how far each is, and deletes those that have ended."""
        moved, ended = self._moved, frozenset(self._ended)
        if not moved and not ended:
            return
        self._moved = {}
        try:
            await self._store.write(save, self._boot_id, moved, ended)
        except BaseException:
            self._moved = moved | self._moved
            raise
        self._ended -= ended

    def _pass(self) -> None:
        for held in self._held.values():
            if (to := held.passed()) - held.seq > _FAR:
                held.seq = self._moved[held.id] = to

    async def _look(self) -> None:
        self._pass()
        # Its lock goes with its connection, which nobody else opens again on a node without dispatches.
        await self._store.hold()
        known = set(self._held)
        found = await self._store.read(look, self._boot_id)
        for id in known - found.owned:
            if held := self._held.get(id):
                self._drop(held)  # another process has taken it
        if missing := found.owned - self._held.keys() - self._ended:  # who asked left before it began
            self._take(await self._store.read(rows_of, self._boot_id, missing))
        while found.free and (taken := await self._store.write(claim, self._boot_id, found.free)):
            self._take(taken)

    def _take(self, rows: Iterable[CallbackSubscription]) -> None:
        for row in rows:
            self.hold(row, fresh=False)

    async def _stop(self) -> None:
        """What is under way may have been taken; it is sent again by whoever is next."""
        tasks = [task for held in self._held.values() for task in held.tasks]
        for held in list(self._held.values()):
            if held.timer is not None:
                held.timer.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self.save()
            await self._store.write(release, self._boot_id)
        except Exception:
            log.exception("callbacks.not_given_up")  # others take them once this process is gone
