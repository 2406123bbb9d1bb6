"""What a client learns of an error: a code always, the text only where it is meant for them.

    GatewayError                 its own message and code; of Unavailable also `retryAfter`, in seconds,
                                 of SlowReader `cursor`
    a store that is away         UNAVAILABLE, and that nobody knows what became of it; the log has the rest
    a fault in the document      GraphQL's message, BAD_USER_INPUT, or QUERY_TOO_COMPLEX where a limit refused it
    a wrong value                what `values` says of it, BAD_USER_INPUT
    anything else                "Internal error", INTERNAL and the request's id; the log has the rest

Resolvers raise GatewayErrors. A bare GraphQLError out of one counts as a fault of ours.
"""

import re
from collections.abc import Iterator

from graphql import GraphQLError, GraphQLSyntaxError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from strawberry.exceptions import MissingQueryError, StrawberryInputCoercionError
from strawberry.extensions import SchemaExtension
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionResult, StreamExecutionResult
from strawberry.types.execution import PreExecutionError
from typing_extensions import override

from app.api.values import Types, placed
from app.rules.errors import Code, GatewayError, SlowReader, Unavailable
from app.rules.texts import LONGEST_MESSAGE, shown
from app.telemetry import get_logger, request_id

log = get_logger()

#: GraphQL shows the object in which it found a fault, and a credential may stand beside it.
_WHOLE_INPUT = re.compile(r"(?:[.?] Found)?: [\[{].*", re.DOTALL)

#: Strawberry's own complaints about a request: nothing in it that can run, a null for what may only be left out.
_ABOUT_THE_REQUEST = (
    CannotGetOperationTypeError,
    InvalidOperationTypeError,
    MissingQueryError,
    StrawberryInputCoercionError,
)

_STORE_AWAY = (OperationalError, InterfaceError, PoolTimeout, ConnectionError)
_UNKNOWN = "the gateway lost its database midway: look whether this was done before you try again"
_RETRY_AFTER = 5  # seconds
_NO_TYPES: Types = {}

#: Every transport takes queries and mutations; one answer is not enough for a subscription.
_MANY_RESULTS = (
    "a subscription has many results: POST it with Accept: text/event-stream, use a WebSocket, or have them POSTed "
    "to a callback (Accept: application/json;callbackSpec=1.0)"
)


class PublicError(GraphQLError):
    """An error in its final form: code set, nothing inside."""


class PublicErrors(SchemaExtension):
    """Makes every error of every result public, also those of a subscription's later events."""

    @override
    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:
        self._publish(result)
        yield

    @override
    def on_operation(self) -> Iterator[None]:
        yield
        self._publish(self.execution_context.result)  # what `schema.execute` returns

    def _publish(self, result: object) -> None:
        if errors := getattr(result, "errors", None):
            types = self.execution_context.schema._schema.type_map
            result.errors = [public(error, types) for error in errors]  # type: ignore[attr-defined]  # it has them


def public(error: GraphQLError, types: Types = _NO_TYPES) -> PublicError:
    """The form of an error that a client may see. Logs, once, what stays inside."""
    if isinstance(error, PublicError):
        return error
    origin = _origin(error)
    if _is_store_away(origin):
        # What the store knows to have done nothing it tells as Unavailable; this may have been its COMMIT.
        log.error("graphql.store_away", path=error.path, exc_info=origin)
        origin = Unavailable(_UNKNOWN, _RETRY_AFTER)
    if isinstance(origin, Unavailable):
        return _public(error, origin.message, origin.code, retryAfter=origin.retry_after)
    if isinstance(origin, SlowReader):
        return _public(error, origin.message, origin.code, cursor=origin.cursor)
    if isinstance(origin, GatewayError):
        return _public(error, origin.message, origin.code)
    if _is_the_callers(error, origin):
        message = _MANY_RESULTS if isinstance(origin, InvalidOperationTypeError) else error.message
        return _public(error, _WHOLE_INPUT.sub(".", placed(message, types)), _code(error))
    log.error("graphql.internal_error", path=error.path, exc_info=origin)
    return _public(error, "Internal error", Code.INTERNAL, requestId=request_id())


def failure(error: Exception) -> PreExecutionError:
    """The result of an operation that ended before it had any."""
    wrapped = error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)
    return PreExecutionError(data=None, errors=[public(wrapped)])


def refused(code: Code, message: str) -> PublicError:
    """An error of a request that never became an operation."""
    return PublicError(message, extensions={"code": code.value})


def retry_after(result: ExecutionResult) -> int | None:
    """The seconds after which to try again, where the store was away for all that was asked."""
    waits = [(error.extensions or {}).get("retryAfter") for error in result.errors or ()]
    known = [wait for wait in waits if wait is not None]
    return max(known) if known and len(known) == len(waits) and result.data is None else None


def before_data(result: ExecutionResult) -> bool:
    """Whether the request failed as a whole: GraphQL gives every other error the path of its field."""
    return result.data is None and all(error.path is None for error in result.errors or ())


def code_of(result: ExecutionResult) -> Code:
    """The code of a failed result's first error."""
    first = next(iter(result.errors or ()))
    return Code((first.extensions or {})["code"])


def _public(error: GraphQLError, message: str, code: Code, **more: object) -> PublicError:
    return PublicError(
        shown(message, LONGEST_MESSAGE),
        error.nodes,
        error.source,
        error.positions,
        error.path,
        extensions={"code": code.value, **more},
    )


def _origin(error: Exception) -> Exception:
    while isinstance(error, GraphQLError) and error.original_error is not None:
        error = error.original_error
    return error


def _is_store_away(origin: Exception) -> bool:
    # asyncpg's connection errors have no class of their own in SQLAlchemy.
    return isinstance(origin, _STORE_AWAY) or (
        isinstance(origin, DBAPIError) and origin.connection_invalidated
    )


def _is_the_callers(error: GraphQLError, origin: Exception) -> bool:
    if isinstance(origin, _ABOUT_THE_REQUEST):
        return True
    # During execution GraphQL blames the document by pointing into it (an argument that is null, say).
    # Without nodes of its own it came from a resolver or from a value of ours that would not serialise.
    return isinstance(origin, GraphQLError) and (error.path is None or bool(origin.nodes))


def _code(error: GraphQLError) -> Code:
    if isinstance(error, GraphQLSyntaxError) and error.message.endswith("Parsing aborted."):
        return Code.QUERY_TOO_COMPLEX  # the parser's own limits: tokens, length, nesting
    return Code((error.extensions or {}).get("code", Code.BAD_USER_INPUT))
