"""What a dispatch is while it is on its way: asked for, admitted, answered, completed.

Attempt ──admit──> Go ──send──> Completion ──complete──> Released
           ├─────> No                          ├───────> Withheld
           ├─────> Replay                      └───────> Lost
           └─────> Unjudged ──judge──> Attempt
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from app.egress.outcomes import Outcome as Sent
from app.identity.callers import Caller
from app.proxy.destinations import Destination
from app.rules.admission import Ask, Unjudged
from app.rules.entries import Outcome
from app.rules.errors import Code
from app.rules.ids import AgentId, BindingId, DispatchId, TenantId
from app.rules.routes import Route
from app.store.hot_writes import NewDispatch


class Key(NamedTuple):
    """A caller's Idempotency-Key, and what it stands for: method, path, query and body."""

    hash: str
    fingerprint: str


class ByToken(NamedTuple):
    """At the proxy: whoever holds the scoped token."""

    token_hash: str


class ByCaller(NamedTuple):
    """By `dispatchAction`: an API key of the delegate, for one of its bindings."""

    caller: Caller
    binding_id: BindingId


class Attempt(NamedTuple):
    """A request to perform an action. `path` is what would go on the wire, or what was asked where that is no path."""

    id: DispatchId
    by: ByToken | ByCaller
    ask: Ask
    upstream_name: str
    method: str
    path: str
    key: Key | None = None


@dataclass(slots=True)  # not frozen: every dispatch makes one, and freezing triples what that costs
class Content:
    """What is to be sent beside method and path. `headers` are in lower case and already the allowed ones."""

    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes = field(repr=False)


class Go(NamedTuple):
    """Admitted and committed: the one request may go out. All that its completion needs to know is here."""

    attempt: Attempt
    row: NewDispatch
    agent_id: AgentId
    route: Route
    destination: Destination


class CapHit(NamedTuple):
    """A full window: when it ends, and how long that is from now."""

    name: str
    cap: int
    window_seconds: int
    resets_in: int


class No(NamedTuple):
    """Not admitted, and nothing was sent. No `dispatch_id`: nothing was recorded, or it is nobody's business."""

    code: Code
    dispatch_id: DispatchId | None = None
    cap: CapHit | None = None
    detail: str | None = None


class Replay(NamedTuple):
    """The same request has ended already. `answer` is sealed, and there only for what was COMPLETED."""

    dispatch_id: DispatchId
    delegator_id: TenantId
    outcome: Outcome
    code: str | None
    answer: str | None


Admission = Go | No | Replay | Unjudged


class Barred(NamedTuple):
    """The upstream's own guardrail did not let it through, or its right ended meanwhile. No byte went upstream.
    `reason` is why the guardrail was not asked, where the gateway may not call it.
    """

    code: Code
    reason: str | None = None


class Aborted(NamedTuple):
    """The right to it ended while it was under way, and we hung up."""


class Completion(NamedTuple):
    """What came of a Go. `kept` is the answer, sealed for replays, where there is a key and it is small enough."""

    go: Go
    sent: Sent | Aborted | Barred
    kept: str | None = None


class Released(NamedTuple):
    """Committed as COMPLETED: the answer may leave."""


class Withheld(NamedTuple):
    """Committed as anything else: no answer leaves, and `code` says why."""

    outcome: Outcome
    code: Code


class Lost(NamedTuple):
    """Not committed by us: no answer leaves, and it is, or will be, settled."""


Completed = Released | Withheld | Lost
