"""What guards a request's content: `denyPatterns` and a `condition` of the terms, and the action's `requestSchema`.

Whoever writes these and whoever sends the bodies may be strangers, or in league; the gateway is everybody's. So each
guard knows beforehand what it may cost, and what would cost too much is denied, or refused when it is agreed on: no
request takes more than about 100 ms, an ordinary one some 30 µs. What cannot be read, judged or computed is denied: no
guard lets through what it does not understand.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import orjson

from app.rules.content import bodies, conditions, patterns, schemas
from app.rules.content.bodies import GUARDED_BYTES, Body, Size
from app.rules.content.condition_facts import Request
from app.rules.content.denials import Denial
from app.rules.errors import Code, Refusal
from app.rules.ids import Instant

__all__ = ["Denial", "Guards", "Seen", "checks", "is_heavy", "refuse_guards", "refuse_schema"]

#: Microseconds by the estimates below, which are of the worst that there may be: some 50 times what a body of 3 KB takes.
#: What may take longer is not done where others wait.
HEAVY = 10_000


class Seen(NamedTuple):
    """What guards see of a request: `path` as on the wire, `query` without its question mark."""

    method: str
    path: str
    query: str
    content_type: str | None
    body: bytes
    address: IPv4Address | IPv6Address | None


class Guards(NamedTuple):
    """The guards of one version of the terms."""

    deny_patterns: tuple[str, ...]
    condition: str | None


@lru_cache(maxsize=1024)
def refuse_guards(deny_patterns: tuple[str, ...], condition: str | None) -> Refusal | None:
    """The first thing that is wrong with the guards of an offer or amendment, or None. May take a second: whoever asks
    in a transaction has asked beforehand, and gets what is remembered.
    """
    return patterns.refuse(deny_patterns) or (None if condition is None else conditions.refuse(condition))


def refuse_schema(schema: object) -> Refusal | None:
    """What is wrong with an action's requestSchema, or None. As `refuse_guards`."""
    return _refuse_schema(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=1024)
def _refuse_schema(text: bytes) -> Refusal | None:
    return schemas.refuse(orjson.loads(text))


def checks(
    guards: Guards, schema: str | None, seen: Seen, *, scope: str, delegation_id: str, now: Instant
) -> Iterator[tuple[str, Denial | None]]:
    """What each guard that is set says, in order, each as it is asked for. `schema` is the JSON text of the action's
    schema. Never raises.

    A body that cannot be read is denied by each guard that needs it.
    """
    if not _any(guards, schema):
        return
    met = _met(guards, schema)
    if not met.before:
        met.before, met.light = True, _light(guards, schema)
    judging = _Judging(guards, schema, seen, scope, delegation_id, now)
    if guards.deny_patterns:
        yield "denyPatterns", _closed(Code.PATTERN_DENIED, judging.by_patterns)
    if schema is not None:
        yield "requestSchema", _closed(Code.SCHEMA_MISMATCH, judging.by_schema)
    if guards.condition is not None:
        yield "condition", _closed(Code.CONDITION_NOT_MET, judging.by_condition)


def is_heavy(guards: Guards, schema: str | None, seen: Seen) -> bool:
    """Whether judging may take long, as it does the first time, when guards are compiled."""
    if not _any(guards, schema):
        return False
    if len(seen.body) > GUARDED_BYTES:
        return False  # which is denied for that
    met = _met(guards, schema)
    if not met.before:
        return True
    if max(len(seen.body), len(seen.path), len(seen.query)) <= met.light:
        return False
    size = bodies.size_at_most(seen.body)
    return _longest(guards, schema, size, max(size.bytes, len(seen.path), len(seen.query))) > HEAVY


def _any(guards: Guards, schema: str | None) -> bool:
    return bool(guards.deny_patterns) or guards.condition is not None or schema is not None


class _Met:
    """Whether guards have judged before, so that they are compiled by now; and up to how many bytes they do in time."""

    __slots__ = ("before", "light")

    def __init__(self) -> None:
        self.before = False
        self.light = 0


#: Fewer than stay compiled: what has judged before never compiles where others wait.
@lru_cache(maxsize=128)
def _met(_guards: Guards, _schema: str | None) -> _Met:
    return _Met()


def _longest(guards: Guards, schema: str | None, size: Size, text: int) -> float:
    """Microseconds that judging may take, where the body is of this size and no text is longer."""
    total = bodies.longest(size)
    try:
        if guards.deny_patterns:
            total += patterns.longest(guards.deny_patterns, size.bytes)
        if schema is not None:
            total += schemas.longest(schema, size)
        if guards.condition is not None:
            total += conditions.longest(guards.condition, size.nodes, text)
    except Exception:  # noqa: BLE001  # of guards that were stored although they are none: judging them denies
        return HEAVY + 1
    return total


def _light(guards: Guards, schema: str | None) -> int:
    """Bytes of which whatever they are is judged in time: most requests are no larger, and need no counting."""
    size = 64
    while size < GUARDED_BYTES and _longest(guards, schema, bodies.worst(2 * size), 2 * size) <= HEAVY:
        size *= 2
    return size if _longest(guards, schema, bodies.worst(size), size) <= HEAVY else 0


class _Judging:
    """One request, as its guards judge it. Its body is read once, when the first of them needs it."""

    def __init__(
        self, guards: Guards, schema: str | None, seen: Seen, scope: str, delegation_id: str, now: Instant
    ) -> None:
        self._guards = guards
        self._schema = schema or "false"
        self._condition = guards.condition or "false"
        self._seen = seen
        self._scope = scope
        self._delegation_id = delegation_id
        self._now = now
        self._body: Body | Denial | None = None

    def _read(self) -> Body | Denial:
        if self._body is None:
            self._body = bodies.read(self._seen.body, self._seen.content_type)
        return self._body

    def by_patterns(self) -> Denial | None:
        body = self._read()
        return body if isinstance(body, Denial) else patterns.judge(self._guards.deny_patterns, body)

    def by_schema(self) -> Denial | None:
        body = self._read()
        return body if isinstance(body, Denial) else schemas.judge(self._schema, body)

    def by_condition(self) -> Denial | None:
        body = self._read() if conditions.asks_for_body(self._condition) else bodies.EMPTY
        return body if isinstance(body, Denial) else conditions.judge(self._condition, self._request(body))

    def _request(self, body: Body) -> Request:
        seen = self._seen
        return Request(
            *(seen.method, seen.path, seen.query, len(seen.body)),
            None if seen.address is None else str(seen.address),
            body,
            self._scope,
            self._delegation_id,
            self._now,
        )


def _closed(code: Code, judged: Callable[[], Denial | None]) -> Denial | None:
    """What a guard says. One that fails denies."""
    try:
        return judged()
    except BaseException as error:
        # A panic of a library in Rust is no Exception, and no reason to let a request through or to end the process.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        return Denial(
            code, "This request could not be judged by a guard of its terms or action, so it is denied."
        )
