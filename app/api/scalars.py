"""The scalars of the contract. Each refusal says what would have been right.

A type's author annotates with the Python names (`Instant`, `Cidr`, `Scope`, `JSON`, `Int53`); `SCALARS` tells
Strawberry what they are called in the schema.
"""

import math
import re
from collections.abc import Callable
from ipaddress import ip_interface, ip_network
from itertools import chain
from typing import Any, NewType

import orjson
import strawberry
from graphql import GraphQLError, Undefined
from strawberry.types.scalar import ScalarDefinition

from app.rules.ids import Instant
from app.rules.instants import parse_rfc3339, rfc3339
from app.rules.scopes import LONGEST, is_scope
from app.rules.texts import shown

Cidr = NewType("Cidr", str)
Scope = NewType("Scope", str)
JSON = NewType("JSON", object)
Int53 = NewType("Int53", int)

#: Beyond it a JSON number loses digits in clients that read numbers as doubles (RFC 7493 2.2).
LARGEST_INT = 2**53 - 1
#: Levels of lists and objects in one JSON value.
DEEPEST_JSON = 32
#: Bytes of one JSON value, serialised without spaces.
LARGEST_JSON = 64 * 1024

# RFC 3339 5.6 without leap seconds; `-00:00` (offset unknown) is no instant for the DateTime specification.
_DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|(?!-00:00)[+-][0-9]{2}:[0-9]{2})"
)
_FIRST = parse_rfc3339("0001-01-01T00:00:00Z")
_LAST = parse_rfc3339("9999-12-31T23:59:59.999999Z")


def parse_date_time(value: object) -> Instant:
    """An instant with an offset, from year 1 to 9999; what is finer than a microsecond is cut off."""
    if not isinstance(value, str) or not _DATE_TIME.fullmatch(value.upper()):
        raise _wrong("DateTime", value, "an RFC 3339 instant with an offset, such as 2026-12-31T23:59:59Z")
    try:
        at = parse_rfc3339(value.upper())
    except ValueError:
        wanted = "an instant of the calendar, which has no such day, hour, minute, second or offset"
        raise _wrong("DateTime", value, wanted) from None
    if not _FIRST <= at <= _LAST:
        raise _wrong("DateTime", value, "an instant within the years 1 to 9999 in UTC")
    return at


def parse_cidr(value: object) -> Cidr:
    """A network in its one normal form; an address with bits beyond the prefix is no network."""
    example = "a network such as 203.0.113.0/24 or 2001:db8::/32"
    if not isinstance(value, str):
        raise _wrong("Cidr", value, example)
    try:
        return Cidr(str(ip_network(value)))
    except ValueError:
        raise _wrong("Cidr", value, _network_of(value) or example) from None


def _network_of(text: str) -> str | None:
    try:
        return f"a network without host bits: {ip_interface(text).network}"
    except ValueError:
        return None


def parse_scope(value: object) -> Scope:
    """`resource:verb`."""
    if not isinstance(value, str) or not is_scope(value):
        wanted = f"resource:verb in lower case, at most {LONGEST} characters, such as receipts:write"
        raise _wrong("Scope", value, wanted)
    return Scope(value)


def parse_int53(value: object) -> Int53:
    """A whole number that every JSON reader keeps exact."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 5.0 is the integer 5 in JSON
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST_INT:
        raise _wrong("Int53", value, f"a whole number from -{LARGEST_INT} to {LARGEST_INT}")
    return Int53(value)


def parse_json(value: object) -> JSON:
    """Any JSON value that can be written down again: bounded in depth and size, finite, valid Unicode."""
    _refuse_deep_or_endless(value)
    try:
        size = len(orjson.dumps(value, default=_unknown_yet))
    except TypeError:
        raise GraphQLError(
            "JSON: this value cannot be written as JSON: it holds an integer of over 64 bits, which a string can "
            "hold, or half a character, which is no Unicode"
        ) from None
    if size > LARGEST_JSON:
        raise GraphQLError(f"JSON: this value has {size} bytes: {LARGEST_JSON} at most")
    return JSON(value)


def _unknown_yet(value: object) -> None:
    # GraphQL checks a literal before it knows the variables inside, and again when it does.
    if value is not Undefined:
        raise TypeError(f"{type(value).__name__} is no JSON")


def _refuse_deep_or_endless(value: object) -> None:
    # Level by level, not by recursion: a request may nest deeper than Python's stack.
    level = [value]
    for _ in range(DEEPEST_JSON + 1):
        if any(isinstance(node, float) and not math.isfinite(node) for node in level):
            raise GraphQLError("JSON: NaN and Infinity are no JSON numbers: send null or a string")
        lists = [node for node in level if isinstance(node, list)]
        objects = [node for node in level if isinstance(node, dict)]
        if not lists and not objects:
            return
        level = [*chain.from_iterable(lists), *chain.from_iterable(one.values() for one in objects)]
    raise GraphQLError(f"JSON: this value nests deeper than {DEEPEST_JSON} levels")


def _wrong(scalar: str, value: object, wanted: str) -> GraphQLError:
    return GraphQLError(f"{scalar}: {_shown(value)} is not right; give {wanted}")


def _shown(value: object) -> str:
    match value:
        case str():
            return shown(repr(value))
        case dict() | list():
            return "an object" if isinstance(value, dict) else "a list"
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
    return shown(str(value))


def _scalar(
    name: str,
    description: str,
    parse: Callable[[object], object],
    serialize: Callable[[Any], object] = lambda value: value,
    url: str | None = None,
) -> ScalarDefinition:
    return strawberry.scalar(
        name=name, description=description, parse_value=parse, serialize=serialize, specified_by_url=url
    )


#: For `StrawberryConfig.scalar_map`.
SCALARS: dict[object, ScalarDefinition] = {
    Instant: _scalar(
        "DateTime",
        "RFC 3339 instant, UTC.",
        parse_date_time,
        rfc3339,
        "https://scalars.graphql.org/andimarek/date-time",
    ),
    Cidr: _scalar("Cidr", "IPv4 or IPv6 network in CIDR notation.", parse_cidr),
    Scope: _scalar("Scope", "`resource:verb`, lower case.", parse_scope),
    JSON: _scalar("JSON", "Any JSON value: at most 32 levels and 64 KiB.", parse_json),
    Int53: _scalar("Int53", "Integer up to 2^53 - 1, as a JSON number.", parse_int53),
}
