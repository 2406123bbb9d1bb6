"""What a condition asks of a request, answered.

A query that gives a name twice, in whatever case or with brackets, or that holds a `;`, has no answer where the query
is looked at: an upstream may act on the other value.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from app.rules.content import patterns
from app.rules.content.bodies import Body, too_large
from app.rules.content.condition_syntax import Fact
from app.rules.content.denials import Denial
from app.rules.errors import Code
from app.rules.ids import Instant

#: Instructions times bytes in `matches`, at 5 ns: 5 ms.
MOST_MATCHING = 1_000_000
#: What is not there. CEL takes a variable without a value for an error, as it takes a missing key.
ABSENT = object()

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Request(NamedTuple):
    """What a condition may ask of. `body` is an empty one where the condition does not ask for it."""

    method: str
    path: str
    query: str
    bytes: int
    ip: str | None
    body: Body
    scope: str
    delegation_id: str
    now: Instant


def answers(facts: Sequence[Fact], request: Request) -> dict[Fact, Any] | Denial:
    """What each fact is of this request, or ABSENT."""
    roots: dict[str, Any] = {}
    found: dict[Fact, Any] = {}
    for fact in facts:
        if fact.root not in roots:
            roots[fact.root] = _ROOTS[fact.root](request)
        if isinstance(root := roots[fact.root], Denial):
            return root
        found[fact] = _has(root, fact.path) if fact.has else _below(root, fact.path)
    return _match(found) or found


def _has(value: Any, path: tuple[str | int, ...]) -> Any:
    holder = _below(value, path[:-1])
    return path[-1] in holder if isinstance(holder, dict) else ABSENT


def _below(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        if isinstance(step, str):
            value = value.get(step, ABSENT) if isinstance(value, dict) else ABSENT
        else:
            value = value[step] if isinstance(value, list) and 0 <= step < len(value) else ABSENT
    return value


def _match(found: dict[Fact, Any]) -> Denial | None:
    """Answers what asks for a match."""
    work = 0
    for fact, value in found.items():
        if fact.pattern is None:
            continue
        if not isinstance(value, str):
            found[fact] = ABSENT
            continue
        program, text = patterns.single(fact.pattern), value.encode()
        work += program.size * len(text)
        if work > MOST_MATCHING:
            return too_large("The terms' condition matches patterns with too long a text of this request.")
        found[fact] = program.regexp.search(text) is not None
    return None


def _query(query: str) -> dict[str, str] | Denial:
    if ";" in query:
        return _unclear("holds a `;`, which separates for some")
    values: dict[str, str] = {}
    names: set[str] = set()
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        try:
            name, value = unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")
        except UnicodeDecodeError:
            return _unclear("has escapes that are not UTF-8")
        folded = name.split("[")[0].casefold()
        if folded in names:
            return _unclear("gives a name twice")
        names.add(folded)
        values[name] = value
    return values


def _unclear(why: str) -> Denial:
    return Denial(Code.CONDITION_NOT_MET, f"The terms' condition looks at the query, and this one {why}.")


_ROOTS: dict[str, Callable[[Request], Any]] = {
    "request.method": lambda request: request.method,
    "request.path": lambda request: request.path,
    "request.query": lambda request: _query(request.query),
    "request.body": lambda request: request.body.value,
    "request.bytes": lambda request: request.bytes,
    "request.ip": lambda request: request.ip,
    "action.scope": lambda request: request.scope,
    "delegation.id": lambda request: request.delegation_id,
    "now": lambda request: _EPOCH + timedelta(microseconds=request.now),
}
