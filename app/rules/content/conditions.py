"""A `condition` of the terms: CEL that must be true of a request.

It sees `request.method`, `request.path` (as on the wire), `request.query` (names and values, decoded), `request.body`
(JSON; null if there is none), `request.bytes`, `request.ip` (null if not known), `action.scope`, `delegation.id` and
`now`. What of CEL may be written is in `condition_syntax`. Only what a condition names is looked at; that may be 1,000
nodes and 16 KiB at most, and what macros do is counted before it is done.

All that is not exactly true denies: a value that is not there, types that do not fit, an overflow. Numbers compare by
value, whether JSON writes 12 or 12.0.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from app.rules.content import condition_syntax, patterns
from app.rules.content.bodies import too_large, unreadable
from app.rules.content.condition_facts import ABSENT, MOST_MATCHING, Request, answers
from app.rules.content.condition_kinds import without_value
from app.rules.content.condition_lexemes import LONGEST, Malformed
from app.rules.content.condition_syntax import Expression, Fact, Loop
from app.rules.content.denials import Denial
from app.rules.errors import Code, Refusal
from app.rules.texts import shown

if TYPE_CHECKING:
    from cel import Program

#: What a condition looks at, together: a conversion of 2 ms.
MOST_NODES = 1_000
MOST_BYTES = 16 * 1024
#: What its macros do, in characters that are evaluated for an item, at 20 ns: 10 ms.
MOST_STEPS = 500_000
#: Of a pattern in `matches`.
MOST_INSTRUCTIONS = 1_000

_FIELD = "constraints.condition"
_PATH = ("constraints", "condition")
_LARGE = ("request.body", "request.query")


class Compiled(NamedTuple):
    """A condition, ready to judge."""

    program: "Program"
    expression: Expression
    asks_for_body: bool


def asks_for_body(condition: str) -> bool:
    """Whether a condition looks at the body's content. Raises ValueError as `compiled` does."""
    return compiled(condition).asks_for_body


def longest(condition: str, nodes: int, size: int) -> float:
    """Microseconds that judging may take, where the body has so many nodes, and it, the path or query so many bytes."""
    expression = compiled(condition).expression
    nodes = min(nodes, MOST_NODES) if any(fact.root in _LARGE for fact in expression.facts) else 0
    steps = sum(
        (loop.over if isinstance(loop.over, int) else nodes)
        * (loop.length + len(loop.facts) * (1 + nodes + size // 32))
        for loop in expression.loops
    )
    sizes = (patterns.single(fact.pattern).size for fact in expression.facts if fact.pattern is not None)
    matching = size * sum(sizes)
    return 10 + 2 * nodes + min(steps, MOST_STEPS) * 0.02 + min(matching, MOST_MATCHING) * 0.005


def refuse(condition: str) -> Refusal | None:
    """What is wrong with a condition, or None."""
    try:
        expression = condition_syntax.parse(condition)
        _check(expression)
    except Malformed as fault:
        return Refusal(Code.CONDITION_INVALID, f"{_FIELD} {fault}", _PATH)
    return None


def _check(expression: Expression) -> None:
    """What only compiling shows, and evaluating what does not depend on a request."""
    for fact in expression.facts:
        if fact.pattern is not None:
            _check_pattern(fact.pattern)
    _compile(expression.text)
    for constant in expression.constants:
        try:
            _compile(constant).execute({})
        except Exception:  # noqa: BLE001  # whatever it is, it would be so for every request
            raise without_value(constant) from None


def _check_pattern(pattern: str) -> None:
    try:
        size = patterns.single(pattern).size
    except ValueError as error:
        raise Malformed(f"has the pattern {shown(pattern)}, which {error}") from None
    if size > MOST_INSTRUCTIONS:
        raise Malformed(
            f"has the pattern {shown(pattern)}, which is too much: use smaller counts and classes"
        )


def _compile(text: str) -> "Program":
    import cel  # not before it is needed: it brings a command line along, and takes a quarter of a second

    try:
        return cel.compile(text)
    except Exception:  # noqa: BLE001  # the library names none, and speaks of the text as it was written anew
        raise Malformed("is not understood by CEL, or too deeply nested: say it in simpler parts") from None


@lru_cache(maxsize=512)
def compiled(condition: str) -> Compiled:
    """A condition, compiled. Raises ValueError for what `refuse` refuses."""
    expression = condition_syntax.parse(condition)
    asks_for_body = any(fact.root == "request.body" for fact in expression.facts)
    return Compiled(_compile(expression.text), expression, asks_for_body)


# --- judging


def judge(condition: str, request: Request) -> Denial | None:
    """Denies a request for which the condition is not true. May raise what the library raises."""
    program, expression, asks_for_body = compiled(condition)
    if asks_for_body and not request.body.is_json:
        return unreadable("the terms' condition looks into it, and it is no JSON")
    values = answers(expression.facts, request)
    if isinstance(values, Denial):
        return values
    if denial := _too_much(expression, values):
        return denial
    named = zip(_NAMES, values.values(), strict=False)
    known = {name: value for name, value in named if value is not ABSENT}
    try:
        met = program.execute(known)
    except Exception:  # noqa: BLE001  # types that do not fit, an overflow: each is a ValueError or another
        return _not_met(_why(values))
    return None if met is True else _not_met("The terms' condition is not met.")


def _not_met(detail: str) -> Denial:
    return Denial(Code.CONDITION_NOT_MET, detail)


def _why(values: Mapping[Fact, Any]) -> str:
    for fact, value in values.items():
        if value is ABSENT:
            name = ".".join((fact.root, *map(str, fact.path)))
            return f"The terms' condition asks for {shown(name)}, which this request does not have in a fitting form."
    return "The terms' condition cannot be computed for this request: a type does not fit, or a value is out of range."


# --- counting beforehand


class _Weight(NamedTuple):
    nodes: int
    bytes: int


_SCALAR = _Weight(1, 0)
#: Characters of a text of which a condition cannot name enough to look at too much.
_SHORT = 32
#: The variables of a condition's facts, of which its length allows fewer.
_NAMES = tuple(f"_{at}" for at in range(LONGEST))


def _is_small(value: Any) -> bool:
    kind = type(value)
    return kind is not list and kind is not dict and (kind is not str or len(value) <= _SHORT)


def _too_much(expression: Expression, values: Mapping[Fact, Any]) -> Denial | None:
    if not expression.loops and all(map(_is_small, values.values())):
        return None
    weights = {fact: _weight(value) for fact, value in values.items()}
    nodes = size = 0
    for weight in weights.values():
        nodes += weight.nodes
        size += weight.bytes
    if nodes > MOST_NODES or size > MOST_BYTES:
        return too_large(
            f"The terms' condition looks at {nodes} nodes and {size} bytes of this request; "
            f"{MOST_NODES} and {MOST_BYTES} are the most."
        )
    steps = sum(_steps(loop, values, weights) for loop in expression.loops)
    if steps > MOST_STEPS:
        return too_large(
            f"The terms' condition takes {steps} steps for the lists of this request; {MOST_STEPS} are the most."
        )
    return None


def _steps(loop: Loop, values: Mapping[Fact, Any], weights: Mapping[Fact, _Weight]) -> int:
    over = values[loop.over] if isinstance(loop.over, Fact) else range(loop.over)
    items = len(over) if isinstance(over, list | dict | range) else 0
    looked_at = (weights[fact] for fact in loop.facts)
    return items * (loop.length + sum(weight.nodes + weight.bytes // 32 for weight in looked_at))


def _weight(value: Any) -> _Weight:
    if isinstance(value, str):
        return _Weight(1, len(value))
    if not isinstance(value, list | dict):
        return _SCALAR
    level: list[Any] = [value]
    nodes = size = 0
    while level and nodes <= MOST_NODES:
        nodes += len(level)
        size += sum(len(each) for each in level if isinstance(each, str))
        level = [part for each in level for part in _parts(each)]
    return _Weight(nodes + len(level), size)


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else ()
