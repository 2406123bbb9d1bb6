"""What of JSON Schema's draft 2020-12 an action's requestSchema may hold, and where."""

import re
from collections.abc import Iterator
from typing import Any

from app.rules.texts import shown

POINTER = re.compile(r"#(?:/[A-Za-z0-9_.$-]+)+")

_NOTES = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"}
_ROOT = {"$schema", "$id"}
_SIMPLE = {
    *("type", "enum", "const", "required", "dependentRequired", "pattern", "format", "multipleOf"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
    *("minProperties", "maxProperties", "minItems", "maxItems", "minContains", "maxContains", "uniqueItems"),
}
ONE = {"not", "if", "then", "else"}
_SEVERAL = {"allOf", "anyOf", "oneOf", "prefixItems"}
_MAPS = {"$defs", "definitions", "properties", "patternProperties", "dependentSchemas"}
_BELOW = {"additionalProperties", "propertyNames", "items", "contains"}
_KNOWN = {"$ref", *_NOTES, *_ROOT, *_SIMPLE, *ONE, *_SEVERAL, *_MAPS, *_BELOW}
FORMATS = {
    *("date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference"),
    *("uuid", "json-pointer"),
}
_INSTEAD = {
    "unevaluatedProperties": "say additionalProperties beside all properties",
    "unevaluatedItems": "say items",
    "$id": "only the root may have one",
    "$anchor": "refer to #/$defs/… by $ref",
    "$dynamicRef": "refer to #/$defs/… by $ref",
    "$dynamicAnchor": "refer to #/$defs/… by $ref",
    "$recursiveRef": "refer to #/$defs/… by $ref",
    "nullable": 'say "type": ["string", "null"]',
    "dependencies": "say dependentRequired or dependentSchemas",
    "additionalItems": "say items beside prefixItems",
}


class Fault(ValueError):
    """What is wrong with a schema."""


def places(schema: Any, pointer: str) -> Iterator[tuple[str, dict[str, Any] | bool]]:
    """Every schema within this one, with its JSON pointer."""
    if not isinstance(schema, dict | bool):  # where it is below `definitions`
        raise Fault(f"has{at(pointer[1:])} neither an object nor a boolean where a schema stands")
    yield pointer, schema
    for name, value in schema.items() if isinstance(schema, dict) else ():
        _known(name, pointer)
        if name in ONE | _BELOW:
            yield from places(value, step(pointer, name))
        elif name in _SEVERAL:
            for number, each in enumerate(value):
                yield from places(each, step(pointer, name, str(number)))
        elif name in _MAPS:
            for key, each in value.items() if isinstance(value, dict) else ():
                yield from places(each, step(pointer, name, key))


def _known(name: str, pointer: str) -> None:
    if (name in _KNOWN and (pointer == "#" or name not in _ROOT)) or name.startswith("x-"):
        return
    instead = _INSTEAD.get(name, "leave it out, or begin its name with x-")
    raise Fault(f"has{at(pointer[1:])} the keyword {shown(name)}, which is not supported: {instead}")


def step(pointer: str, *parts: str) -> str:
    """The place that so many steps below another is."""
    return "/".join((pointer, *(part.replace("~", "~0").replace("/", "~1") for part in parts)))


def at(pointer: str) -> str:
    """How a message names a place."""
    return f" at {shown(pointer)}" if pointer else ""
