"""The loop on every node: look for what is to be sent, take it, send it, and say what came of it.

One transaction at a time, with whatever has come together meanwhile (as the committer does, without a timer). Each endpoint
has a lane of its own, as wide as it is quick: it grows with each prompt success and halves with each answer that took its
time, so that endpoints that hang hold a connection or two each. What a tenant has under way is bounded, too, since it may
hang when its lanes are wide, or with endpoints that are new again and again: the others do not notice. The more of them
there are, the less each may have (dynamic thresholds; Choudhury and Hahne, 1998): ten of them, even one right after the
other, leave a place for whoever comes next, and more do once attempts of the first have ended.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from app.delivery.webhooks.endpoints import MOST_ENDPOINTS
from app.delivery.webhooks.looking import Looked, Waiting, look
from app.delivery.webhooks.parts import Room, Sender
from app.delivery.webhooks.sending import SECONDS, Ended, Job, attempt
from app.delivery.webhooks.turn import Turn, release, take_turn
from app.egress.client import Egress
from app.rules.ids import SECOND, EndpointId, TenantId
from app.rules.retry import Accepted
from app.settings import Network
from app.store.engine import Store, wall_clock
from app.telemetry import WEBHOOK_ATTEMPT_SECONDS, WEBHOOK_ATTEMPTS, get_logger

POLL = 0.25  # seconds until it looks although nobody woke it
_PAUSE = 0.02  # seconds between looks that found nothing to do: commits may come by the thousand
_AGAIN = 0.5  # seconds after the store failed

_NARROWEST, _FIRST, _WIDEST = 1, 4, 160  # attempts of one endpoint under way
_PROMPT = 1000  # milliseconds
_MOST = 800  # attempts under way
_SHARE = 200  # of one tenant, at most
#: Of these for endpoints that have next to nothing under way, however wide the lanes of the tenant's others are; half of
#: the share, where that is less.
_KEPT = 2 * MOST_ENDPOINTS
_MOST_LANES = 32  # endpoints in one turn

log = get_logger()


@dataclass(slots=True)
class _Lane:
    """What one endpoint has under way, and how much it may."""

    width: int = _FIRST
    first: int = 0
    again: int = 0
    served: int = 0

    def room(self, waiting: Waiting, left: int, spare: int) -> Room:
        """What may begin of what there is: as many more attempts again as half of the lane, so that they hold nothing
        back. Of what is left; where the tenant's other lanes have taken that, one of each of what is to spare.
        """
        first = max(0, min(self.width - self.first, left)) if waiting.first else 0
        again = max(0, min(max(1, self.width // 2) - self.again, left - first)) if waiting.again else 0
        if spare < first + again + 2:
            return Room(first, again)
        return Room(
            max(first, int(waiting.first and not self.first)),
            max(again, int(waiting.again and not self.again)),
        )

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return self.first + self.again > 0

    def count(self, job: Job, by: int) -> None:
        if job.again:
            self.again += by
        else:
            self.first += by

    def learn(self, ended: Ended) -> None:
        if ended.milliseconds >= _PROMPT:
            self.width = max(_NARROWEST, self.width // 2)
        elif isinstance(ended.result, Accepted):
            self.width = min(_WIDEST, self.width + 1)


class Courier:
    """One per process. `seconds` are those of an attempt."""

    def __init__(self, store: Store, egress: Egress, sender: Sender, seconds: float = SECONDS) -> None:
        self._store = store
        self._egress = egress
        self._sender = sender
        self._seconds = seconds
        self._roused = asyncio.Event()
        self._lanes: defaultdict[EndpointId, _Lane] = defaultdict(_Lane)
        self._tenants: frozenset[TenantId] = frozenset()
        self._looked: dict[EndpointId, Looked] = {}
        self._under_way: dict[asyncio.Task[Ended], Job] = {}
        self._ended: list[tuple[Ended, float]] = []
        self._turning: asyncio.Future[Turn] | None = None
        self._turns = 0
        #: Attempts that have ended.
        self.done = 0

    def appended(self, tenants: Iterable[TenantId]) -> None:
        """These tenants' ledgers have grown."""
        if not self._tenants.isdisjoint(tenants):
            self._roused.set()

    async def run(self) -> None:
        """Delivers, for ever; when it is cancelled it gives back what it has under way."""
        try:
            while True:
                try:
                    busy = await self._round()
                except Exception:
                    log.exception("webhooks.round_failed")  # what had ended is settled by the next
                    await asyncio.sleep(_AGAIN)
                    continue
                await self._rest(0.0 if busy else _PAUSE)
        finally:
            await self._stop()

    async def _round(self) -> bool:
        """Whether there was anything to do."""
        self._roused.clear()
        found = await self._store.read(look, self._looked)
        self._tenants, self._looked = found.tenants, found.looked
        self._forget(found.looked.keys())
        rooms = self._rooms(found.wanted)
        for id in rooms:  # also where nothing comes of it: the next turn is for others
            self._lanes[id].served = self._turns
        ended, self._ended = self._ended, []
        if not rooms and not ended:
            return False
        try:
            self._turning = asyncio.ensure_future(self._store.write(take_turn, self._sender, ended, rooms))
            turn = await asyncio.shield(self._turning)
        except BaseException:
            self._ended = ended + self._ended
            raise
        self._turning = None
        self._took(turn)
        return True

    def _forget(self, enabled: Set[EndpointId]) -> None:
        """The lanes of endpoints that are no more."""
        gone = [id for id, lane in self._lanes.items() if id not in enabled and not lane.busy]
        for id in gone:
            del self._lanes[id]

    def _rooms(self, wanted: Mapping[EndpointId, Waiting]) -> dict[EndpointId, Room]:
        """Whoever was served longest ago comes first, of those that have room."""
        left = _MOST - len(self._under_way)
        taken = Counter(job.tenant_id for job in self._under_way.values())
        rooms: dict[EndpointId, Room] = {}
        for id in sorted(wanted, key=self._served):
            tenant_id = wanted[id].tenant_id
            share = _share(taken[tenant_id], left)
            spare = share - taken[tenant_id]
            room = self._lanes[id].room(wanted[id], spare - min(_KEPT, share // 2), spare)
            if room.size and len(rooms) < _MOST_LANES:
                rooms[id] = room
                left -= room.size
                taken[tenant_id] += room.size
        return rooms

    def _served(self, id: EndpointId) -> int:
        return self._lanes[id].served

    def _took(self, turn: Turn) -> None:
        self._turns += 1
        for job in turn.jobs:
            self._begin(job)
        if turn.held:
            self._rouse_in(_PAUSE)
        if turn.due:
            self._rouse_in((min(turn.due) - wall_clock()) / SECOND)

    def _rouse_in(self, seconds: float) -> None:
        if seconds < POLL:  # the poll finds what is later
            asyncio.get_running_loop().call_later(max(0.0, seconds), self._roused.set)

    def _begin(self, job: Job) -> None:
        lane = self._lanes[job.endpoint_id]
        lane.count(job, 1)
        task = asyncio.ensure_future(attempt(self._egress, job, self._seconds))
        self._under_way[task] = job
        task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[Ended]") -> None:
        job = self._under_way.pop(task)
        lane = self._lanes[job.endpoint_id]
        lane.count(job, -1)
        if task.cancelled():
            return
        if error := task.exception():  # never, by what `send` promises; its lease ends
            log.error("webhooks.attempt_failed", exc_info=error)
            return
        self.done += 1
        _measure(task.result())
        lane.learn(task.result())
        self._ended.append((task.result(), random.random()))  # noqa: S311  # spreads load
        self._roused.set()

    async def _rest(self, pause: float) -> None:
        if pause:
            await asyncio.sleep(pause)
        try:
            async with asyncio.timeout(POLL):
                await self._roused.wait()
        except TimeoutError:
            return

    async def _stop(self) -> None:
        """What has not ended is given back; it may have been sent."""
        given_back = await self._last_turn()
        tasks = dict(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._store.write(take_turn, self._sender, self._ended, {})
            given_back += tasks.values()
            await self._store.write(release, [(job.delivery_id, job.claim) for job in given_back])
        except Exception:
            log.exception("webhooks.not_given_back")  # others take it when its lease ends

    async def _last_turn(self) -> list[Job]:
        """What a turn took that was under way when the loop was told to end."""
        if self._turning is None or self._turning.cancelled():
            return []
        began = {(job.delivery_id, job.claim) for job in self._under_way.values()}
        try:
            turn = await self._turning
        except Exception:  # noqa: BLE001  # it took nothing, or its leases end
            return []
        return [job for job in turn.jobs if (job.delivery_id, job.claim) not in began]


def egress_for_webhooks(allow: Sequence[Network], *, require_https: bool = False) -> Egress:
    """Of its own: receivers that hang take no connection from upstreams. Receivers of many tenants may be at one host, so
    nobody waits for a connection there.
    """
    return Egress(allow, _MOST, to_one=_MOST, require_https=require_https)


def _share(taken: int, left: int) -> int:
    """What a tenant may have under way that has `taken`, where `left` are free: half of what the others leave it."""
    return min(_SHARE, (taken + left + 1) // 2)


def _measure(ended: Ended) -> None:
    WEBHOOK_ATTEMPTS.labels(type(ended.result).__name__.lower()).inc()
    WEBHOOK_ATTEMPT_SECONDS.observe(ended.milliseconds / 1000)
