"""Requests as the transports bring them: the media types that a client takes, and the operation in a body."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import orjson
from starlette.requests import Request

from app.rules.errors import BadInput, Code
from app.rules.texts import not_json

T = TypeVar("T")

_MANY_DIGITS = re.compile("[0-9]{19}")

_SUBSCRIPTION_SPEC = re.compile(r'subscriptionspec="?1\.0"?')
_CALLBACK_SPEC = re.compile(r'callbackspec="?1\.0"?')
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


class Media(StrEnum):
    """What we answer with. The first is for clients that take anything."""

    JSON = "application/json"
    GRAPHQL = "application/graphql-response+json"
    EVENTS = "text/event-stream"
    MULTIPART = "multipart/mixed"  # of subscriptions alone: `subscriptionSpec="1.0"`
    CALLBACK = "application/json;callbackSpec=1.0"  # of subscriptions alone; the rest is application/json


#: One answer, as JSON.
PLAIN = frozenset({Media.JSON, Media.GRAPHQL})

#: Of many results.
STREAMS = frozenset({Media.EVENTS, Media.MULTIPART})


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client asks to run; `name` says which operation of the document, where it has several."""

    query: str
    variables: dict[str, object]
    name: str | None
    #: What stands in `extensions.subscription`: where a router wants the results, if one asks.
    callback: object = None


class Declined(Exception):
    """A request that is answered before GraphQL sees it, with an HTTP status of its own."""

    def __init__(
        self, status: int, code: Code, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


def negotiate(request: Request) -> Media:
    """The media type of the answer, or Declined: only POST, only JSON, only what we can answer with.

    A form or text body is what another site's page may send in a browser's name without asking (CSRF).
    """
    if request.method != "POST":
        # Also for SSE: a browser's EventSource could not send X-API-Key.
        message = f"{request.method} is not answered here: POST the operation as JSON"
        raise Declined(405, Code.NOT_SUPPORTED, message, {"Allow": "POST"})
    media = preferred(request.headers.getlist("accept"))
    if media is None:
        raise Declined(406, Code.NOT_SUPPORTED, f"Accept takes none of {', '.join(Media)}")
    if not _is_json(request.headers.get("content-type", "")):
        raise Declined(415, Code.NOT_SUPPORTED, "Content-Type must be application/json, in UTF-8")
    return media


def preferred(accept: list[str]) -> Media | None:
    """RFC 9110 12.5.1: by quality, then as the client lists them. No header, or `*/*`, is application/json."""
    ranges = [one.split(";") for one in ",".join(accept or ["*/*"]).lower().split(",")]
    quality = {_named(one): (_quality(one[1:]), -at) for at, one in reversed([*enumerate(ranges)])}
    found = {media: _best_match(media, quality) for media in Media}
    best = max(found, key=found.__getitem__)
    if best in PLAIN and found[Media.CALLBACK][0] > 0:
        best = Media.CALLBACK  # a router adds it to what it takes anyway
    return best if found[best][0] > 0 else None


#: What nobody means by a wildcard.
_EXACT = frozenset({Media.MULTIPART, Media.CALLBACK})


def _best_match(media: Media, quality: dict[str, tuple[float, int]]) -> tuple[float, int]:
    kind = media.partition("/")[0]
    if media in _EXACT:
        return quality.get(media, (0.0, 0))
    matches = (quality[one] for one in (media, f"{kind}/*", "*/*") if one in quality)
    return next(matches, (0.0, 0))


def _named(range: list[str]) -> str:
    """What a range asks for. Without its specification `multipart/mixed` is for another one, such as @defer's."""
    name, *parameters = (part.strip() for part in range)
    if name == Media.MULTIPART and not any(_SUBSCRIPTION_SPEC.fullmatch(one) for one in parameters):
        return "multipart/mixed of another kind"
    if name == Media.JSON and any(_CALLBACK_SPEC.fullmatch(one) for one in parameters):
        return Media.CALLBACK
    return name


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if match := _QUALITY.fullmatch(parameter.strip()):
            return float(match[1])
    return 1.0


def _is_json(content_type: str) -> bool:
    essence, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = [
        part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset=")
    ]
    return essence == "application/json" and set(charsets) <= {"utf-8", "utf8"}


def operation_in(body: bytes) -> Operation:
    """The operation of an HTTP body. Raises BadInput."""
    if not body.strip():
        raise BadInput('the body is empty: send {"query": "…"}')
    try:
        return operation_of(decoded(body.decode()))
    except ValueError as error:
        raise BadInput(f"the body is not JSON in UTF-8, {not_json(body, error)}") from None


def decoded(document: str) -> object:
    """JSON with every integer exact, so that a scalar may refuse one that is too long. Raises ValueError."""
    value: object = orjson.loads(document)
    if not _MANY_DIGITS.search(document):
        return value
    try:
        return json.loads(document)  # orjson would make a float of an integer beyond 64 bits: another number
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def operation_of(payload: object) -> Operation:
    """The operation of a decoded body or `subscribe` payload. Raises BadInput, naming the member that is wrong."""
    if not isinstance(payload, dict):
        raise BadInput("the request must be one JSON object with a `query`; batches are not taken")
    if not isinstance(query := payload.get("query"), str):
        raise BadInput("query must be a string that holds a GraphQL document")
    extensions = _optional(payload, "extensions", dict, "an object") or {}
    variables = _optional(payload, "variables", dict, "an object")
    name = _optional(payload, "operationName", str, "a string")
    return Operation(query, variables or {}, name, extensions.get("subscription"))


def _optional(payload: dict[str, object], name: str, kind: type[T], article: str) -> T | None:
    value = payload.get(name)
    if value is not None and not isinstance(value, kind):
        raise BadInput(f"{name} must be {article} or null")
    return value
