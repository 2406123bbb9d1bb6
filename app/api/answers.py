"""Results as JSON, and the answers that hold one."""

from collections.abc import Mapping

import orjson
from starlette.responses import Response
from strawberry.types import ExecutionResult

from app.api.errors import before_data, code_of, failure, refused, retry_after
from app.api.requests import PLAIN, Media
from app.rules.errors import Code

#: HTTP statuses of requests that fail as a whole; every other code is 400.
STATUS: Mapping[Code, int] = {
    Code.UNAUTHENTICATED: 401,
    Code.FORBIDDEN: 403,
    Code.RATE_LIMITED: 429,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
}

#: Bytes of one result: twice what upstreams may answer to one document.
MOST_BYTES = 32 * 1024 * 1024


def encoded(result: ExecutionResult) -> bytes:
    """A result as JSON, of at most MOST_BYTES. GraphQL 7.1: no `data` where nothing was run."""
    try:
        document = orjson.dumps(_document(result))
    except TypeError as error:  # a resolver's value that is no JSON
        document = orjson.dumps(_document(failure(error)))
    return document if len(document) <= MOST_BYTES else _too_large(len(document))


def _too_large(size: int) -> bytes:
    message = (
        f"the answer has {size:,} bytes: {MOST_BYTES:,} at most; what the operation did is done, "
        "so ask for less of it with a query"
    )
    error = refused(Code.QUERY_TOO_COMPLEX, message).formatted
    return orjson.dumps({"errors": [error], "data": None})  # with data: it was run


def _document(result: ExecutionResult) -> dict[str, object]:
    document: dict[str, object] = {}
    if result.errors:
        document["errors"] = errors_of(result)
    if not before_data(result):
        document["data"] = result.data
    return document


def errors_of(result: ExecutionResult) -> list[object]:
    """The errors as clients read them."""
    return [error.formatted for error in result.errors or ()]


def answer(result: ExecutionResult, media: Media) -> Response:
    """The whole answer. Its status is 200 wherever something ran, but for 503 where the store was away for all of it.

    Where nothing did, application/graphql-response+json says so in the status. application/json keeps to 200 as its
    older clients expect (GraphQL over HTTP 6.4.1), unless the fault is ours.
    """
    if wait := retry_after(result):
        headers = {"Retry-After": str(wait)}
        return json_response(encoded(result), media, STATUS[Code.UNAVAILABLE], headers)
    status = STATUS.get(code_of(result), 400) if before_data(result) else 200
    if media is not Media.GRAPHQL and status < 500:
        status = 200
    return json_response(encoded(result), media, status)


def refusal(
    status: int, code: Code, message: str, media: Media, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a request that GraphQL never saw."""
    body = orjson.dumps({"errors": [refused(code, message).formatted]})
    return json_response(body, media, status, headers)


def json_response(
    body: bytes, media: Media, status: int, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON under the media type that the client chose; where that has many results it is application/json."""
    shown = media if media in PLAIN else Media.JSON
    return Response(body, status, headers, f"{shown}; charset=utf-8")
