"""Routes: which action a request to an upstream is, by method and path template.

A template is a path whose segments are literals or parameters: `/v1/receipts/{id}`. Of two templates that fit
one request the literal wins at the first segment where they differ; two that never differ so may not both exist.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from app.rules.errors import Code, Refusal
from app.rules.ids import ActionId
from app.rules.paths import LONGEST, is_plain, wire_path

LONGEST_TEMPLATE = 2_048
MOST_SEGMENTS = 64  # also how deep `_find` goes: a request must not be able to exhaust the stack of its batch

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_COLON = re.compile(r":[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Route:
    """One action, ready to be matched. `segments` holds literals; None stands for a parameter."""

    action_id: ActionId
    upstream_name: str
    scope: str
    method: str
    template: str
    segments: tuple[str | None, ...]
    idempotent: bool
    cost_units: int
    #: The JSON Schema of the request's body, as JSON.
    schema: str | None
    has_sandbox: bool


class ByPath(NamedTuple):
    """A request to the proxy. `segments` is None where the path was not a plain one."""

    upstream_name: str
    method: str
    segments: tuple[str, ...] | None


class ByScope(NamedTuple):
    """A `dispatchAction`. `action_id` is needed where the scope has several actions."""

    scope: str
    action_id: ActionId | None


Target = ByPath | ByScope


class Unroutable(ValueError):
    """A template that is none; the text says why."""


# A tenant that changes one of a thousand actions has the others read again.
@lru_cache(maxsize=8192)
def parse_template(template: str) -> tuple[str | None, ...]:
    """The segments of a template. Raises Unroutable."""
    if not template.startswith("/"):
        raise Unroutable("must start with '/', as in /v1/receipts/{id}")
    parts = template[1:].split("/")
    if len(template) > LONGEST_TEMPLATE or len(parts) > MOST_SEGMENTS:
        raise Unroutable(f"is too long: {LONGEST_TEMPLATE} characters and {MOST_SEGMENTS} segments at most")
    names = parameter_names(template)
    if len(set(names)) != len(names):
        raise Unroutable("names a parameter twice: give each its own name")
    return tuple(None if _PARAMETER.fullmatch(part) else _literal(part) for part in parts)


def parameter_names(template: str) -> list[str]:
    """The parameters of a template, in order."""
    return _PARAMETER.findall(template)


def _literal(part: str) -> str:
    if _COLON.fullmatch(part):  # as other frameworks write it: taken as it stands, nothing would ever match
        raise Unroutable(f"has the segment {part!r}: write the parameter as {{{part[1:]}}}")
    if not is_plain(part) or any(mark in part for mark in "{}?#%;"):
        raise Unroutable(f"has the segment {part!r}: a segment is plain text or one {{parameter}}")
    return part


def clash(segments: Sequence[str | None], others: Iterable[Route], method: str) -> Refusal | None:
    """Refuses a template that an action of the same upstream and method already has, but for names."""
    for other in others:
        if other.method == method and other.segments == tuple(segments):
            return Refusal(
                Code.TAKEN,
                f"{method} {other.template} is already the action {other.action_id}: remove it first",
                ("path",),
            )
    return None


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    parameter: "_Node | None" = None
    routes: dict[str, Route] = field(default_factory=dict)


class RouteTable:
    """The actions of one tenant, by upstream, method and path, and by scope."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._roots: dict[str, _Node] = {}
        self._by_scope: dict[str, list[Route]] = {}
        self._ids: set[ActionId] = set()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._roots.setdefault(route.upstream_name, _Node())
        for segment in route.segments:
            if segment is None:
                node.parameter = node = node.parameter or _Node()
            else:
                node = node.literals.setdefault(segment, _Node())
        node.routes[route.method] = route
        self._by_scope.setdefault(route.scope, []).append(route)
        self._ids.add(route.action_id)

    def __contains__(self, route: object) -> bool:
        """Whether there is this action; one never changes, it is only removed."""
        return isinstance(route, Route) and route.action_id in self._ids

    def find(self, target: Target) -> list[Route]:
        """The actions that this request could be: one by path at most, several by scope."""
        match target:
            case ByPath(upstream_name, method, segments):
                root = self._roots.get(upstream_name)
                route = None if root is None or segments is None else _find(root, method, segments, 0)
                return [route] if route else []
            case ByScope(scope, action_id):
                return [each for each in self._by_scope.get(scope, ()) if action_id in (None, each.action_id)]


def _find(node: _Node, method: str, segments: Sequence[str], at: int) -> Route | None:
    if at == len(segments):
        return node.routes.get(method)
    literal = node.literals.get(segments[at])
    if literal is not None and (route := _find(literal, method, segments, at + 1)):
        return route
    return None if node.parameter is None else _find(node.parameter, method, segments, at + 1)


def fits(route: Route, target: Target) -> bool:
    """Whether a request could be this action. Another one may fit better."""
    match target:
        case ByScope(scope, action_id):
            return route.scope == scope and action_id in (None, route.action_id)
        case ByPath(upstream_name, method, segments):
            if segments is None or len(segments) != len(route.segments):
                return False
            pairs = zip(route.segments, segments, strict=True)
            named = (upstream_name, method) == (route.upstream_name, route.method)
            return named and all(literal in (None, segment) for literal, segment in pairs)


def fill(route: Route, parameters: Mapping[str, str]) -> tuple[str, ...] | Refusal:
    """The path of an action with its parameters' values in place."""
    names = parameter_names(route.template)
    if set(names) != set(parameters):
        wanted = ", ".join(names) or "no parameters"
        return Refusal(Code.INVALID, f"pathParameters must give exactly {wanted}", ("pathParameters",))
    for name in names:
        if not is_plain(parameters[name]):
            message = f"pathParameters.{name} must be one plain path segment, without slashes or dot segments"
            return Refusal(Code.INVALID, message, ("pathParameters", name))
    values = iter(names)
    filled = tuple(parameters[next(values)] if part is None else part for part in route.segments)
    if sum(map(len, filled)) > LONGEST or len(wire_path(filled)) > LONGEST:
        message = f"pathParameters make a path of over {LONGEST} characters: give shorter values"
        return Refusal(Code.INVALID, message, ("pathParameters",))
    return filled
