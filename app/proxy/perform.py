"""Performing an action. Both ways in, the proxy and `dispatchAction`, are this one path.

1. Admit: judged, reserved, recorded as PENDING, committed.
2. Send: the upstream's own guardrail is asked, where it has one; then one request, with the target's credential. No
   transaction is open.
3. Complete: judged again, recorded in both ledgers, committed.
4. Release: only now the answer leaves.
"""

import asyncio
import time
from collections import defaultdict
from contextlib import nullcontext

from app.egress.client import CONNECT, Egress
from app.egress.outcomes import Answer, NotSent, Outbound, Unknown
from app.egress.outcomes import Outcome as Sent
from app.proxy.answers import Denied, Result, answered, open_answer, seal_answer
from app.proxy.assertion import Assertions
from app.proxy.attempts import (
    Aborted,
    Attempt,
    Barred,
    Completion,
    Content,
    Go,
    Lost,
    No,
    Released,
    Replay,
    Withheld,
)
from app.proxy.committer import Committer
from app.proxy.guardrail import ask_guardrail
from app.proxy.inflight import Inflight
from app.proxy.judging import Judges
from app.rules.entries import Outcome
from app.rules.errors import Code
from app.rules.ids import DelegationId, Instant, TenantId
from app.store.keys import Keys
from app.telemetry import AGENT_SHARE_UNAUTHORIZED_ATTEMPT, DISPATCHES, UPSTREAM_SECONDS, get_logger

TOTAL = 30.0  # seconds for an upstream's whole answer
IDLE = 15.0  # seconds of silence
LARGEST_ANSWER = 10 * 1024 * 1024  # bytes
LANE = 250  # calls at a time to the services of one tenant

#: Request headers that reach the upstream (promise 9): what describes the request, and nothing that frames or routes.
FORWARDED = frozenset(
    {
        "accept",
        "accept-language",
        "content-type",
        "content-language",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "prefer",
        "traceparent",
        "tracestate",
    }
)

_COMPLETED = DISPATCHES.labels(Outcome.COMPLETED, "")

log = get_logger()


class Performer:
    """One per process."""

    def __init__(
        self,
        committer: Committer,
        judges: Judges,
        inflight: Inflight,
        egress: Egress,
        keys: Keys,
        assertions: Assertions,
    ) -> None:
        self._committer = committer
        self._judges = judges
        self._inflight = inflight
        self._egress = egress
        self._keys = keys
        self._assertions = assertions
        self._lanes: dict[TenantId, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(LANE))
        #: When each delegation's scopes were last used, until it is recorded.
        self.used: dict[tuple[DelegationId, str], Instant] = {}
        self._owned: set[asyncio.Future[Result]] = set()

    async def perform(self, attempt: Attempt, content: Content) -> Result:
        """The four steps. Raises Unavailable where nothing was admitted and nothing sent."""
        admission = await self._judges.admit(attempt, content)
        match admission:
            case No():
                address = attempt.ask.address if admission.code is Code.IP_NOT_ALLOWED else None
                return self._denied(
                    Denied(
                        admission.code,
                        admission.dispatch_id,
                        Outcome.REFUSED,
                        admission.cap,
                        address,
                        detail=admission.detail,
                    )
                )
            case Replay():
                return self._replayed(admission)
            case Go():
                return await self._go(admission, content)
            case _:
                raise AssertionError("whoever admits has it judged")

    async def perform_owned(self, attempt: Attempt, content: Content) -> Result:
        """The same in a task of the gateway's own: whoever waits for it may be cancelled, the action is not."""
        task = asyncio.ensure_future(self.perform(attempt, content))
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)
        return await asyncio.shield(task)

    async def _go(self, go: Go, content: Content) -> Result:
        self.used[go.row.delegation_id, go.route.scope] = go.row.requested_at
        try:
            sent = await self._send(go, content)
            answer = answered(go.attempt.id, sent) if isinstance(sent, Answer) else None
            kept = None
            if go.attempt.key and answer:
                kept = seal_answer(self._keys, go.row.delegator_id, answer)
        except BaseException:
            # It was admitted, so it ends in both ledgers, whatever becomes of whoever waits for it (promise 6).
            self._committer.abandon(go)
            raise
        completed = await self._committer.complete(Completion(go, sent, kept))
        match completed:
            case Released():
                assert answer is not None, "only an answer is COMPLETED"
                _COMPLETED.inc()
                return answer
            case Withheld(outcome, code):
                return self._denied(Denied(code, go.attempt.id, outcome))
            case Lost():
                return self._denied(Denied(Code.COMPLETION_LOST, go.attempt.id, Outcome.INDETERMINATE))

    async def _send(self, go: Go, content: Content) -> Sent | Aborted | Barred:
        began = time.perf_counter()
        try:
            if go.destination.guardrail_url is None:
                return await self._inflight.carry(go, self._call(go, content))
            return await self._send_guarded(go, content, go.destination.guardrail_url)
        except Exception:
            log.exception("dispatch.send_failed", dispatch_id=go.attempt.id)
            return Unknown(Code.UPSTREAM_BROKEN, "the call failed in the gateway")
        finally:
            UPSTREAM_SECONDS.observe(time.perf_counter() - began)

    async def _send_guarded(self, go: Go, content: Content, url: str) -> Sent | Aborted | Barred:
        allowed = False

        async def ask_and_call() -> Sent | Barred:
            nonlocal allowed
            assertion = self._assertions.for_binding(go)
            if barred := await ask_guardrail(self._egress, url, go, content, assertion):
                return barred
            allowed = True
            return await self._call(go, content)

        # One flight: a right that ends between the guardrail's answer and the call is not missed.
        sent = await self._inflight.carry(go, ask_and_call())
        return Barred(Code.NOT_SENT) if isinstance(sent, Aborted) and not allowed else sent

    async def _call(self, go: Go, content: Content) -> Sent:
        # A tenant whose services hang takes its own calls' places, and nobody else's.
        lane = self._lanes[go.row.delegator_id]
        try:
            async with asyncio.timeout(CONNECT) if lane.locked() else nullcontext():
                await lane.acquire()
        except TimeoutError:
            return NotSent(Code.UPSTREAM_UNREACHABLE, "too many calls to its tenant's services are under way")
        try:
            return await self._egress.send(
                self._outbound(go, content), total=TOTAL, idle=IDLE, limit=LARGEST_ANSWER
            )
        finally:
            lane.release()

    def _outbound(self, go: Go, content: Content) -> Outbound:
        headers = [
            *content.headers,
            ("crossgrant-dispatch-id", go.attempt.id),
            ("crossgrant-assertion", self._assertions.for_binding(go)),
        ]
        if go.destination.credential:
            name = go.destination.credential[0].lower()
            headers = [header for header in headers if header[0] != name]
            headers.append(go.destination.credential)
        query = f"?{content.query}" if content.query else ""
        return Outbound(
            go.attempt.method, go.destination.base_url + go.attempt.path + query, headers, content.body
        )

    def _replayed(self, replay: Replay) -> Result:
        if replay.outcome is not Outcome.COMPLETED:
            return Denied(
                Code(replay.code or Code.UPSTREAM_BROKEN), replay.dispatch_id, replay.outcome, replayed=True
            )
        opened = None
        if replay.answer:
            opened = open_answer(self._keys, replay.delegator_id, replay.dispatch_id, replay.answer)
        return opened or Denied(Code.ANSWER_NOT_KEPT, replay.dispatch_id, replay.outcome, replayed=True)

    def _denied(self, denied: Denied) -> Denied:
        DISPATCHES.labels(denied.outcome or Outcome.REFUSED, denied.code).inc()
        if denied.outcome is Outcome.REFUSED:
            AGENT_SHARE_UNAUTHORIZED_ATTEMPT.inc()
        log.info("dispatch.denied", dispatch_id=denied.dispatch_id, code=denied.code, outcome=denied.outcome)
        return denied
