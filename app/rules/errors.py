"""Every way in which Crossgrant says no, in one place.

    Refusal                     an expected no: data, never an exception
    └── code: Code              what a program reads
        message, path           what a person reads: what happened, why, what to do next

    GatewayError                an exception: the caller's request could not be judged at all
    ├── Unauthenticated         no caller, or not any more
    ├── Forbidden               a caller without the permission
    ├── BadInput                a value that no state of ours could make right; names the field
    ├── TooComplex              a document that shows more than one may
    ├── RateLimited             the caller has as much under way as anybody may
    ├── SlowReader              a subscriber that does not keep up: it may go on from its cursor
    └── Unavailable             try again: a queue is full, a store is away

`Code` is the one published list: `userErrors.code`, `errors[].extensions.code`, problem+json's `code`,
`Dispatch.code` and the ledger's `code` all come from it.
"""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The published codes. A code is never renamed; clients must accept new ones."""

    # who is asking
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    BAD_USER_INPUT = "BAD_USER_INPUT"
    RATE_LIMITED = "RATE_LIMITED"
    QUERY_TOO_COMPLEX = "QUERY_TOO_COMPLEX"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    SLOW_READER = "SLOW_READER"

    # mutations
    NOT_FOUND = "NOT_FOUND"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    INVALID = "INVALID"
    TAKEN = "TAKEN"
    LIMIT_REACHED = "LIMIT_REACHED"
    SCOPE_NOT_HELD = "SCOPE_NOT_HELD"
    EXPIRY_INVALID = "EXPIRY_INVALID"
    CAP_INVALID = "CAP_INVALID"
    CIDR_INVALID = "CIDR_INVALID"
    CONDITION_INVALID = "CONDITION_INVALID"
    PATTERN_INVALID = "PATTERN_INVALID"
    SCHEMA_INVALID = "SCHEMA_INVALID"
    VERSION_CONFLICT = "VERSION_CONFLICT"
    SELF_DELEGATION = "SELF_DELEGATION"
    OFFER_NOT_ACCEPTABLE = "OFFER_NOT_ACCEPTABLE"
    ACKNOWLEDGEMENT_REQUIRED = "ACKNOWLEDGEMENT_REQUIRED"
    TERMS_CHANGED = "TERMS_CHANGED"
    TOKEN_ALREADY_ISSUED = "TOKEN_ALREADY_ISSUED"
    WRONG_STATE = "WRONG_STATE"
    ROLE_TOO_HIGH = "ROLE_TOO_HIGH"
    PLAN_LIMIT = "PLAN_LIMIT"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"

    # a dispatch that was not admitted
    TOKEN_INVALID = "TOKEN_INVALID"
    DELEGATION_PENDING = "DELEGATION_PENDING"
    DELEGATION_REVOKED = "DELEGATION_REVOKED"
    DELEGATION_EXPIRED = "DELEGATION_EXPIRED"
    DELEGATION_SUSPENDED = "DELEGATION_SUSPENDED"
    BINDING_REVOKED = "BINDING_REVOKED"
    TRUST_TOO_LOW = "TRUST_TOO_LOW"
    IP_NOT_ALLOWED = "IP_NOT_ALLOWED"
    ACTION_NOT_FOUND = "ACTION_NOT_FOUND"
    ACTION_AMBIGUOUS = "ACTION_AMBIGUOUS"
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE"
    NO_SANDBOX = "NO_SANDBOX"
    BODY_UNREADABLE = "BODY_UNREADABLE"
    PATTERN_DENIED = "PATTERN_DENIED"
    SCHEMA_MISMATCH = "SCHEMA_MISMATCH"
    CONDITION_NOT_MET = "CONDITION_NOT_MET"
    GUARDRAIL_DENIED = "GUARDRAIL_DENIED"
    GUARDRAIL_UNAVAILABLE = "GUARDRAIL_UNAVAILABLE"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    ENCODING_NOT_SUPPORTED = "ENCODING_NOT_SUPPORTED"
    CAP_HOUR = "CAP_HOUR"
    CAP_DAY = "CAP_DAY"
    CAP_MONTH = "CAP_MONTH"
    CAP_COST = "CAP_COST"
    IDEMPOTENCY_IN_PROGRESS = "IDEMPOTENCY_IN_PROGRESS"
    ANSWER_NOT_KEPT = "ANSWER_NOT_KEPT"
    OVERLOADED = "OVERLOADED"
    LOOP_DETECTED = "LOOP_DETECTED"

    # an admitted dispatch that was not COMPLETED
    UPSTREAM_DENIED = "UPSTREAM_DENIED"
    UPSTREAM_UNREACHABLE = "UPSTREAM_UNREACHABLE"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT"
    UPSTREAM_BROKEN = "UPSTREAM_BROKEN"
    UPSTREAM_RESPONSE_TOO_LARGE = "UPSTREAM_RESPONSE_TOO_LARGE"
    NOT_SENT = "NOT_SENT"
    COMPLETION_LOST = "COMPLETION_LOST"
    GATEWAY_CRASHED = "GATEWAY_CRASHED"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An expected no. `path` leads to the input field that it is about, as in `["constraints", "expiresAt"]`."""

    code: Code
    message: str
    path: tuple[str, ...] = ()


class GatewayError(Exception):
    """A request that could not be judged. Its text is public."""

    code = Code.INTERNAL

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unauthenticated(GatewayError):
    """No caller, or not any more."""

    code = Code.UNAUTHENTICATED


class Forbidden(GatewayError):
    """The caller's role lacks the permission."""

    code = Code.FORBIDDEN


class BadInput(GatewayError):
    """A value that no state of ours could make right. The message starts with the field's name."""

    code = Code.BAD_USER_INPUT


class TooComplex(GatewayError):
    """The document asks for more than it could be told beforehand that it would."""

    code = Code.QUERY_TOO_COMPLEX


class RateLimited(GatewayError):
    """Not beside what the caller has under way already: something of it has to end first."""

    code = Code.RATE_LIMITED


class Unavailable(GatewayError):
    """Not now: the same request may succeed after `retry_after` seconds."""

    code = Code.UNAVAILABLE

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SlowReader(GatewayError):
    """More waits for a subscriber than may. `cursor` is that of the last event it was sent: it goes on from there."""

    code = Code.SLOW_READER

    def __init__(self, message: str, cursor: str) -> None:
        super().__init__(message)
        self.cursor = cursor
