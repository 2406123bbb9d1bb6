"""What of JSON Schema's draft 2020-12 an action's requestSchema may hold, and where."""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import orjson

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
#: What the value of a keyword has to be, where it is neither a schema nor anything at all.
_TAKES = {
    "type": (
        "one of array, boolean, integer, null, number, object and string, or a list of several of them, none twice"
    ),
    "enum": "a list of values",
    "required": "a list of names, none twice",
    "dependentRequired": "an object of lists of names, none twice",
    "multipleOf": "a number above 0",
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), "a number"),
    **dict.fromkeys(
        ("minLength", "maxLength", "minProperties", "maxProperties"), "a whole number, 0 or more"
    ),
    **dict.fromkeys(("minItems", "maxItems", "minContains", "maxContains"), "a whole number, 0 or more"),
    **dict.fromkeys(("uniqueItems", "deprecated", "readOnly", "writeOnly"), "true or false"),
    **dict.fromkeys(("pattern", "format", "title", "description", "$comment", "$schema"), "a string"),
    "examples": "a list of values",
    "$id": "an address without a fragment, as in https://example.com/schema",
    "$ref": "a reference such as #/$defs/name",
    **dict.fromkeys(_SEVERAL, "a list of schemas, one or more"),
    **dict.fromkeys(_MAPS, "an object of schemas"),
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
    """Every schema within this one, with its JSON pointer. Raises Fault for what is none, or is not supported."""
    if not isinstance(schema, dict | bool):
        raise Fault(f"{_has(schema, pointer)}, where a schema should stand: give an object or a boolean")
    yield pointer, schema
    for name, value in schema.items() if isinstance(schema, dict) else ():
        _known(name, pointer)
        if name in ONE | _BELOW:
            yield from places(value, step(pointer, name))
        elif name in _SEVERAL:
            for number, each in enumerate(value if isinstance(value, list) else ()):
                yield from places(each, step(pointer, name, str(number)))
        elif name in _MAPS:
            for key, each in value.items() if isinstance(value, dict) else ():
                yield from places(each, step(pointer, name, key))


def led(schema: Mapping[str, Any], pointer: str, schemas: Mapping[str, object]) -> str:
    """Where the `$ref` of a schema at this place leads. Raises Fault where that is to none of the schemas."""
    reference = schema["$ref"]
    if not isinstance(reference, str) or reference not in schemas or not POINTER.fullmatch(reference):
        raise Fault(
            f"has the $ref {_json(reference)}{at(pointer[1:])}, which leads to no schema within it: "
            "refer to #/$defs/… by names of letters, digits, _, . and -"
        )
    return reference


def unfit(path: Sequence[str], value: object, schemas: Container[str]) -> Fault:
    """What to say of a value that the draft does not allow at this place, where all schemas are schemas."""
    keyword = next(path[depth] for depth in reversed(range(len(path))) if step("#", *path[:depth]) in schemas)
    return Fault(
        f"{_has(value, step('#', *path))}, but {keyword} takes {_TAKES.get(keyword, 'another value')}"
    )


def _has(value: object, pointer: str) -> str:
    return f"has {_json(value)}{at(pointer[1:])}"


def _json(value: object) -> str:
    return shown(orjson.dumps(value, default=str).decode(), 60)  # numbers of many digits come as decimals


def _known(name: str, pointer: str) -> None:
    if (name in _KNOWN and (pointer == "#" or name not in _ROOT)) or name.startswith("x-"):
        return
    instead = _INSTEAD.get(name, "leave it out, or begin its name with x-")
    raise Fault(
        f"has{at(pointer[1:])} the keyword {shown(name) or '(empty)'}, which is not supported: {instead}"
    )


def step(pointer: str, *parts: str) -> str:
    """The place that so many steps below another is."""
    return "/".join((pointer, *(part.replace("~", "~0").replace("/", "~1") for part in parts)))


def at(pointer: str) -> str:
    """How a message names a place."""
    return f" at {shown(pointer)}" if pointer else ""
