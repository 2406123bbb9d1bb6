"""What a caller gets back: the shape of answers and refusals, the same at the proxy and in `dispatchAction`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson
from cryptography.exceptions import InvalidTag

from app.egress.outcomes import Answer
from app.proxy.attempts import CapHit
from app.rules.entries import Outcome
from app.rules.errors import Code
from app.rules.ids import DispatchId, TenantId
from app.rules.lifecycle import REFUSES
from app.rules.terms import IPAddress
from app.store.keys import Keys

#: Upstream headers that reach the caller (promise 9): what describes the body, and nothing that acts on a browser.
ALLOWED = frozenset(
    {
        "content-type",
        "content-language",
        "content-encoding",
        "content-disposition",
        "etag",
        "last-modified",
        "retry-after",
    }
)
#: An answer up to this size is kept for a replay of its Idempotency-Key.
KEPT = 64 * 1024


@dataclass(slots=True)  # not frozen: every dispatch makes one, and freezing triples what that costs
class Answered:
    """The upstream's answer, as the caller may have it. Header values have one character for each byte on the wire,
    as ASGI's latin-1. `replayed`: it was given before.
    """

    dispatch_id: DispatchId
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes = field(repr=False)
    replayed: bool = False


class Denied(NamedTuple):
    """No answer. `outcome` is None where nothing was recorded; `address` is the caller's, where that is the reason."""

    code: Code
    dispatch_id: DispatchId | None = None
    outcome: Outcome | None = None
    cap: CapHit | None = None
    address: IPAddress | None = None
    replayed: bool = False
    detail: str | None = None


Result = Answered | Denied

#: The HTTP status and the words for each code. A refusal says what happened and what to do next.
REFUSALS: dict[Code, tuple[int, str]] = {
    Code.TOKEN_INVALID: (
        401,
        "The scoped token is missing, malformed, unknown, rotated or expired. Ask for a new one.",
    ),
    Code.UNAUTHENTICATED: (401, "The API key has been revoked or has expired. Ask an owner for a new one."),
    Code.LOOP_DETECTED: (
        508,
        "The request has come through this gateway before: an upstream's address leads back to it.",
    ),
    Code.DELEGATION_PENDING: (403, "The delegation is not active yet."),
    Code.DELEGATION_REVOKED: (403, "The delegation has ended. A new one is needed."),
    Code.DELEGATION_EXPIRED: (403, "The delegation has expired. A new one is needed."),
    Code.DELEGATION_SUSPENDED: (403, "The delegation is suspended. Its delegator can resume it."),
    Code.BINDING_REVOKED: (403, "The binding is revoked. Create another binding of this delegation."),
    Code.TRUST_TOO_LOW: (
        403,
        "The acting agent's trust score is unknown, or not above what the delegation requires.",
    ),
    Code.IP_NOT_ALLOWED: (403, "The delegation does not allow requests from this address."),
    Code.ACTION_NOT_FOUND: (
        404,
        "The delegation allows no such action. Its `actions` lists those that it does.",
    ),
    Code.ACTION_AMBIGUOUS: (422, "The scope has several actions. Name one with actionId."),
    Code.REQUEST_TOO_LARGE: (413, "The request's body is larger than the delegation or the gateway allows."),
    Code.NO_SANDBOX: (
        502,
        "The delegation is for the upstream's sandbox, and it has none. Its owner has to register one.",
    ),
    Code.BODY_UNREADABLE: (403, "The delegation's guards cannot read the request's body."),
    Code.PATTERN_DENIED: (403, "The request's body matches a pattern that the delegation denies."),
    Code.SCHEMA_MISMATCH: (403, "The request's body is not what the action's schema asks for."),
    Code.CONDITION_NOT_MET: (403, "The delegation's condition is not true of this request."),
    Code.GUARDRAIL_DENIED: (403, "The upstream's guardrail denied the request. Nothing was sent."),
    Code.GUARDRAIL_UNAVAILABLE: (
        503,
        "The upstream's guardrail gave no answer that counts within 500 ms. Nothing was sent. Try again.",
    ),
    Code.REQUEST_TIMEOUT: (408, "The request's body did not arrive in time."),
    Code.ENCODING_NOT_SUPPORTED: (415, "Send the body without Content-Encoding."),
    Code.CAP_HOUR: (429, "The delegation's actions of this hour are used up."),
    Code.CAP_DAY: (429, "The delegation's actions of this day are used up."),
    Code.CAP_MONTH: (429, "The delegation's actions of this month are used up."),
    Code.CAP_COST: (
        429,
        "What is left of the delegation's cost units of this month is less than the action costs.",
    ),
    Code.IDEMPOTENCY_IN_PROGRESS: (409, "A request with this Idempotency-Key is still running."),
    Code.IDEMPOTENCY_KEY_REUSED: (422, "This Idempotency-Key belongs to another request. Use a new one."),
    Code.ANSWER_NOT_KEPT: (409, "This request was completed before; its answer was too large to keep."),
    Code.OVERLOADED: (503, "The gateway is at its limit. Nothing was sent. Try again."),
    Code.UNAVAILABLE: (503, "The request could not be recorded. Nothing was sent. Try again."),
    Code.COMPLETION_LOST: (
        503,
        "The action may have been performed, but could not be recorded as completed.",
    ),
    Code.GATEWAY_CRASHED: (
        502,
        "The action may have been performed; the gateway stopped before it saw an answer.",
    ),
    Code.NOT_SENT: (502, "The action was not performed: the request was not sent."),
    Code.UPSTREAM_DENIED: (
        502,
        "The upstream's address may not be called. Its owner has to correct it, and finds why in their log.",
    ),
    Code.UPSTREAM_UNREACHABLE: (502, "The upstream could not be reached. Nothing was sent."),
    Code.UPSTREAM_BROKEN: (502, "The upstream broke off. The action may have been performed."),
    Code.UPSTREAM_TIMEOUT: (504, "The upstream did not answer in time. The action may have been performed."),
    Code.UPSTREAM_RESPONSE_TOO_LARGE: (
        502,
        "The upstream's answer is over 10 MB, or there is no room for it now. The action may have been performed.",
    ),
}


#: Ends of a right: they say nothing yet of an action that was under way.
_ENDS = frozenset(
    {
        *REFUSES.values(),
        *(Code.BINDING_REVOKED, Code.TOKEN_INVALID, Code.ACTION_NOT_FOUND, Code.UNAUTHENTICATED),
        *(Code.TRUST_TOO_LOW, Code.IP_NOT_ALLOWED),
    }
)


def told(denied: Denied) -> tuple[int, str]:
    """The HTTP status, and what a person is told. An action that outlived its right is 403, whatever the right was."""
    status, detail = REFUSALS[denied.code]
    if denied.cap:
        return status, f"{detail} {_resets(denied.cap)}"
    if denied.address:
        return status, f"{detail} The gateway sees {denied.address}."
    if denied.detail:
        return status, denied.detail
    if denied.code in _ENDS and denied.outcome in (Outcome.WITHHELD, Outcome.INDETERMINATE):
        return 403, f"{detail} The action was under way and may have been performed; its answer is withheld."
    return status, detail


def _resets(cap: CapHit) -> str:
    of = {"cost_month": "cost units per month"}.get(cap.name, f"per {cap.name}")
    return f"The limit is {cap.cap} {of}; the next one begins in {cap.resets_in} s."


def answered(id: DispatchId, answer: Answer) -> Answered:
    """What of an upstream's answer may leave."""
    named = [(name.lower(), value) for name, value in answer.headers.items()]
    allowed = [(name, _opaque(value)) for name, value in named if name in ALLOWED]
    return Answered(id, answer.status, allowed, answer.body)


def _opaque(value: str) -> str:
    # Bytes above ASCII need not be text (RFC 9110 section 5.5), and aiohttp's stand-ins for them are none.
    return value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("latin-1")


def seal_answer(keys: Keys, owner: TenantId, answer: Answered) -> str | None:
    """The answer as it is kept for a replay, or None where it is too large."""
    if len(answer.body) > KEPT:
        return None
    head = orjson.dumps([answer.status, answer.headers])
    return keys.seal(head + b"\n" + answer.body, owner, answer.dispatch_id)


def open_answer(keys: Keys, owner: TenantId, id: DispatchId, sealed: str) -> Answered | None:
    """The inverse of `seal_answer`; None where it does not open."""
    try:
        head, body = keys.open(sealed, owner, id).split(b"\n", 1)
    except InvalidTag:
        return None
    status, headers = orjson.loads(head)
    return Answered(id, status, [(name, value) for name, value in headers], body, replayed=True)


def limit_headers(cap: CapHit) -> Iterable[tuple[str, str]]:
    """Retry-After, and the RateLimit headers of draft-ietf-httpapi-ratelimit-headers."""
    yield "retry-after", str(cap.resets_in)
    yield "ratelimit-policy", f'"{cap.name}";q={cap.cap};w={cap.window_seconds}'
    yield "ratelimit", f'"{cap.name}";r=0;t={cap.resets_in}'
