"""What judging by a schema costs each node of a body, each number, each byte of its strings and each pair of items.

Every node of a body is judged at one place; of the schemas that judge the same node the costs add up, and of those that
judge different ones the most counts. References cost what they lead to, each time anew, so that what grows
exponentially is seen to grow.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from operator import mul
from typing import Any, NamedTuple

import orjson
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from app.rules.content.bodies import Size
from app.rules.content.schema_keywords import FORMATS, ONE, Fault, at, led, places, step
from app.rules.texts import shown

MOST_REGEXES = 20

_LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}

# What a keyword costs at worst, measured, in units of 10 ns. Numbers are compared as exact fractions where one of them
# is a fraction, which takes microseconds.
_STEP = Size(1)
_COMPARED = 3  # each node of a value that is no scalar
_LIMIT, _LIMIT_FRACTION = Size(1, fractions=60), Size(1, integers=450, fractions=450)
_EQUAL, _EQUAL_FRACTION = Size(1, fractions=750), Size(1, integers=750, fractions=750)
_MULTIPLE, _MULTIPLE_FRACTION = Size(4, fractions=150), Size(4, integers=1000, fractions=1000)
_UNIQUE = Size(15, fractions=50, pairs=2)  # lists that are alike but for their brackets hash alike
_FORMAT = Size(1, bytes=1)
#: The smallest program that a regular expression fits into, in bytes, and what it costs for each byte of a string.
_REGEX = {1024: 20, 2048: 40, 4096: 75, 8192: 150, 16384: 300, 32768: 600, 65536: 2500}
_LARGEST_REGEX = max(_REGEX)


class _Cost(NamedTuple):
    """What a schema costs the node that it is applied to, and the one below that it costs most."""

    here: Size
    below: Size

    @property
    def most(self) -> Size:
        return _larger(self.here, self.below)


_NO_SIZE = Size(0)


def _sum(*sizes: Size) -> Size:
    return Size(*map(sum, zip(*sizes, strict=True)))


def _larger(*sizes: Size) -> Size:
    return Size(*map(max, zip(*sizes, strict=True)))


def work(cost: Size, size: Size) -> int:
    """What judging a body of this size costs, in units of 10 ns."""
    return sum(map(mul, cost, size))


def cost(schema: dict[str, Any] | bool) -> Size:
    """What the schema costs at most. Raises Fault for what is not supported. Its keywords' values have the right types."""
    return _Walk(schema).cost("#").most


def validator(text: str, regex: int = _LARGEST_REGEX) -> Draft202012Validator:
    """Compiles a schema's JSON text. Raises ValueError for what is none. No program of a pattern has more bytes."""
    return Draft202012Validator(
        text,
        validate_formats=True,
        pattern_options=RegexOptions(size_limit=regex, dfa_size_limit=_LARGEST_REGEX),
        offline=True,
    )


class _Walk:
    """One walk over a schema whose keywords have values of the right types. Raises Fault for what is not supported."""

    def __init__(self, root: dict[str, Any] | bool) -> None:
        self._schemas = dict(places(root, "#"))
        self._costs: dict[str, _Cost | None] = {}
        self._regexes = 0

    def cost(self, pointer: str) -> _Cost:
        """What the schema at this place costs, with all that it refers to."""
        if pointer in self._costs:
            known = self._costs[pointer]
            if known is None:
                raise Fault(f"refers to itself{at(pointer[1:])}: recursion is not supported")
            return known
        self._costs[pointer] = None
        schema = self._schemas[pointer]
        cost = self._cost(schema, pointer) if isinstance(schema, dict) else _Cost(_STEP, _NO_SIZE)
        self._costs[pointer] = cost
        return cost

    def _cost(self, schema: Mapping[str, Any], pointer: str) -> _Cost:
        """Of schemas that judge the same node, the costs add up; of those that judge different ones, the most counts."""
        beside = [self.cost(other) for other in self._beside(schema, pointer)]
        # These look at all that is below a node.
        deep = _sum(*(_compared(schema[name]) for name in ("enum", "const") if name in schema), _NO_SIZE)
        if schema.get("uniqueItems"):
            deep = _sum(deep, _UNIQUE)
        here = _sum(self._own(schema, pointer), deep, *(cost.here for cost in beside))
        below = _sum(self._children(schema, pointer), deep, *(cost.below for cost in beside))
        return _Cost(here, below)

    def _own(self, schema: Mapping[str, Any], pointer: str) -> Size:
        """What the keywords cost that hold no schemas and look at nothing below a node."""
        names = [name for many in schema.get("dependentRequired", {}).values() for name in many]
        simple = (
            len(schema) + len(schema.get("required", ())) + len(schema.get("properties", ())) + len(names)
        )
        costs = [Size(simple)]
        costs += [
            _LIMIT if isinstance(schema[name], int) else _LIMIT_FRACTION for name in _LIMITS & schema.keys()
        ]
        if "multipleOf" in schema:
            costs.append(_MULTIPLE if isinstance(schema["multipleOf"], int) else _MULTIPLE_FRACTION)
        if "pattern" in schema:
            costs.append(self._regex(schema["pattern"], pointer))
        if "format" in schema:
            if schema["format"] not in FORMATS:
                allowed = ", ".join(sorted(FORMATS))
                raise Fault(
                    f"has the format {shown(schema['format'])}{at(pointer[1:])}, which is not checked here: "
                    f"use {allowed}"
                )
            costs.append(_FORMAT)
        return _sum(*costs)

    def _regex(self, pattern: str, pointer: str) -> Size:
        self._regexes += 1
        if self._regexes > MOST_REGEXES:
            raise Fault(f"has over {MOST_REGEXES} patterns")
        if (cost := _regex_cost(pattern)) is None:
            raise Fault(f"has a pattern{at(pointer[1:])} that is too large: {shown(pattern)}")
        return Size(1, bytes=cost)

    def _children(self, schema: Mapping[str, Any], pointer: str) -> Size:
        """What judging by this schema costs the node below it that it costs most."""
        named = (self._of(pointer, "properties", name) for name in schema.get("properties", ()))
        values = [_larger(*named, self._below(schema, pointer, "additionalProperties"))]
        keys = [self._below(schema, pointer, "propertyNames")]
        for pattern in schema.get("patternProperties", ()):
            values.append(self._of(pointer, "patternProperties", pattern))
            # a key is tried again where additionalProperties asks whether any fits
            keys += [self._regex(pattern, pointer)] * 2
        placed = (
            self._of(pointer, "prefixItems", str(number))
            for number, _ in enumerate(schema.get("prefixItems", ()))
        )
        items = _larger(*placed, self._below(schema, pointer, "items"))
        return _larger(_sum(*values), _sum(*keys), _sum(items, self._below(schema, pointer, "contains")))

    def _below(self, schema: Mapping[str, Any], pointer: str, name: str) -> Size:
        return self._of(pointer, name) if name in schema else _NO_SIZE

    def _of(self, pointer: str, *parts: str) -> Size:
        return self.cost(step(pointer, *parts)).most

    def _beside(self, schema: Mapping[str, Any], pointer: str) -> Iterator[str]:
        """The places of the schemas that judge the same node."""
        for name in ("allOf", "anyOf", "oneOf"):
            yield from (step(pointer, name, str(number)) for number, _ in enumerate(schema.get(name, ())))
        yield from (step(pointer, name) for name in ONE & schema.keys())
        yield from (step(pointer, "dependentSchemas", name) for name in schema.get("dependentSchemas", ()))
        if "$ref" in schema:
            yield led(schema, pointer, self._schemas)


def _compared(value: Any) -> Size:
    """What comparing with a value of `enum` or `const` costs."""
    if isinstance(value, list | dict):
        parts = value if isinstance(value, list) else value.values()
        return _sum(Size(_COMPARED + len(value)), *map(_compared, parts))
    if isinstance(value, float):
        return _EQUAL_FRACTION
    return _EQUAL if isinstance(value, int) and not isinstance(value, bool) else _STEP


@lru_cache(maxsize=512)
def _regex_cost(pattern: str) -> int | None:
    """What a regular expression costs for each byte, by the size that its program needs; None: too large, or none."""
    schema = orjson.dumps({"pattern": pattern}).decode()
    for size, cost in _REGEX.items():
        try:
            validator(schema, size)
        except (ValidationError, ValueError):
            continue
        return cost
    return None
