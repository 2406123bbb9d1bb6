"""`requestSchema`: JSON Schema, draft 2020-12, as far as the time that it takes can be bounded beforehand.

A schema is walked once: every keyword is known, every reference leads to a place in the schema that was walked, and
none leads back to itself. The walk adds up what the schema costs each node of a body, each number, each byte of its
strings and each pair of items, at the place where it costs most. A body that has too many of them for that is denied
unjudged; so schemas may be large, and bodies may be large, but not both. Formats are checked, those of linear time.

Not supported: `unevaluatedProperties` and `unevaluatedItems` (exponential in their nesting), `$dynamicRef`, `$anchor`
and `$id` below the root, recursion, look-around in patterns, and keywords that draft 2020-12 does not have: they would
be ignored, and whoever wrote them believes that they guard something. Names that begin with `x-` are notes.
"""

from collections.abc import Container
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind

from app.rules.content import patterns, schema_costs
from app.rules.content.bodies import UNREADABLE, Body, Size, read, too_large, unreadable
from app.rules.content.denials import Denial
from app.rules.content.schema_costs import validator, work
from app.rules.content.schema_keywords import Fault, at, led, places, step, unfit
from app.rules.errors import Code, Refusal
from app.rules.texts import shown

LARGEST_SCHEMA = 16 * 1024
#: In units of 10 ns: 25 ms.
MOST_WORK = 2_500_000
#: A body that every schema can judge in that time.
ORDINARY = Size(nodes=100, integers=20, fractions=10, bytes=1_000, pairs=1_000)
#: To name a mismatch it is looked for once more, and slower: what is found is copied.
MOST_NAMED_WORK = MOST_WORK // 20

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PATH = ("requestSchema",)


class Compiled(NamedTuple):
    """A schema, ready to judge. `nameable`: whether its first mismatch is cheap to name."""

    validator: Draft202012Validator
    cost: Size
    nameable: bool


def refuse(schema: object) -> Refusal | None:
    """What is wrong with a schema, or None."""
    try:
        text = orjson.dumps(schema)
    except (TypeError, ValueError, RecursionError):
        return _refusal("is no JSON: give a JSON Schema, an object or a boolean")
    try:
        compiled.__wrapped__(text.decode())
    except Fault as fault:
        return _refusal(str(fault))
    return None


def _refusal(fault: str) -> Refusal:
    return Refusal(Code.SCHEMA_INVALID, f"requestSchema {fault}", _PATH)


@lru_cache(maxsize=256)
def compiled(text: str) -> Compiled:
    """The schema of a JSON text. Raises ValueError for what `refuse` refuses."""
    schema = _read(text)
    try:
        compiles = validator(text)
    except ValueError as error:
        raise _fault(schema, error) from None
    nameable = '"anyOf"' not in text and '"oneOf"' not in text
    return Compiled(compiles, _cost(schema), nameable)


def _fault(schema: dict[str, Any] | bool, error: ValueError) -> Fault:
    """What to say of a schema that the library refuses. Raises Fault, too."""
    schemas = dict(places(schema, "#"))
    for pointer, each in schemas.items():
        if isinstance(each, dict) and "$ref" in each:
            led(each, pointer, schemas)
    if isinstance(error, ValidationError) and error.instance_path:
        return _unfit(error, schemas)
    if isinstance(schema, dict) and "$id" in schema:
        return unfit(["$id"], schema["$id"], schemas)  # nothing else is an address
    return Fault("is no JSON Schema of draft 2020-12")


def _unfit(error: ValidationError, schemas: Container[str]) -> Fault:
    path = [str(part) for part in error.instance_path]
    if not isinstance(error.kind, ValidationErrorKind.Format):
        return unfit(path, error.instance, schemas)
    pattern = str(error.instance)
    return Fault(f"has the pattern {shown(pattern)}{at(step('', *path))}, which {_unusable(pattern)}")


def _unusable(pattern: str) -> str:
    try:
        patterns.single(pattern)
    except ValueError as error:
        return str(error)
    return "is not understood, or too large: use smaller counts and classes"


def _cost(schema: dict[str, Any] | bool) -> Size:
    cost = schema_costs.cost(schema)
    if work(cost, ORDINARY) > MOST_WORK:
        raise Fault(
            "takes too long to judge by, even an ordinary body: "
            "use fewer alternatives, numbers, references and patterns that judge the same value"
        )
    return cost


def _read(text: str) -> dict[str, Any] | bool:
    if len(text) > LARGEST_SCHEMA:
        raise Fault(f"has {len(text)} bytes as JSON: {LARGEST_SCHEMA} at most")
    body = read(text.encode(), "application/json")
    if isinstance(body, Denial):
        raise Fault(f"cannot be read: {body.detail.removeprefix(UNREADABLE).removesuffix('.')}")
    if not isinstance(body.value, dict | bool):
        raise Fault("is neither an object nor a boolean: give a JSON Schema of draft 2020-12")
    if isinstance(body.value, dict) and str(body.value.get("$schema", _DRAFT)).removesuffix("#") != _DRAFT:
        raise Fault(f"names another $schema: leave it out, or give {_DRAFT}")
    return body.value


# --- judging


def judge(text: str, body: Body) -> Denial | None:
    """Denies a body that the schema does not allow, or that is too large for it."""
    schema = compiled(text)
    if not body.is_json:
        return unreadable("the action has a requestSchema, and it is no JSON")
    steps = work(schema.cost, body.size)
    if steps > MOST_WORK:
        return too_large(
            f"By the action's requestSchema, judging this body takes {steps} steps; {MOST_WORK} are the most."
        )
    if schema.validator.is_valid(body.value):
        return None
    where = _where(schema, body) if schema.nameable and steps <= MOST_NAMED_WORK else ""
    return Denial(Code.SCHEMA_MISMATCH, f"The body does not fit the action's requestSchema{where}.")


def longest(text: str, size: Size) -> float:
    """Microseconds that judging a body of this size may take."""
    return min(work(compiled(text).cost, size), MOST_WORK) * 0.01


def _where(schema: Compiled, body: Body) -> str:
    try:
        schema.validator.validate(body.value)
    except ValidationError as error:
        pointer = "".join(f"/{part}" for part in error.instance_path) or "its root"
        keyword = error.schema_path[-1] if error.schema_path else "false"
        return f" at {shown(pointer)} ({shown(str(keyword))})"
    return ""
