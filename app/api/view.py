"""The endpoint: POST and streams over HTTP here, WebSocket in `sockets.py`. What an answer is made of is `answers.py`'s.

A request walks down `_respond`: negotiated, authenticated, read, parsed, run.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Generic, TypeVar, cast

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UNSET, UnsetType
from typing_extensions import override

from app.api.answers import STATUS, answer, refusal
from app.api.at_once import AtMost
from app.api.batches import Batch, single
from app.api.errors import failure
from app.api.guarded import GuardedSchema
from app.api.introspection import PublicSchema
from app.api.requests import Declined, Media, Operation, negotiate, operation_in
from app.api.sockets import Connection, Frames, TransportWS
from app.api.streams import FORMS, Stream
from app.edge.body import Gone, Late, TooLarge, read_body
from app.rules.errors import Code, GatewayError, RateLimited, Unauthenticated, Unavailable

Caller = TypeVar("Caller")
Context = TypeVar("Context")

#: Who calls, from headers. `connection_init`'s `apiKey` comes as the header `x-api-key`.
Authenticate = Callable[[Mapping[str, str]], Awaitable[Caller | None]]
#: What resolvers get as `info.context`; made for each operation anew, so nothing in it outlives one.
ContextFor = Callable[[Caller, HTTPConnection], Context]

#: Has a subscription's results sent to where `operation.callback` says; answers whatever else it is.
CallBack = Callable[[Operation, Context], Awaitable[Response]]

#: How a stream's results are run.
Batches = Callable[[Operation, Context], AsyncGenerator[Batch, None]]

_ONE_ANSWER = frozenset({OperationType.QUERY, OperationType.MUTATION})


class View(GraphQL[Any, None], Generic[Caller, Context]):
    """Serves one schema to whom `authenticate` knows; to others, introspection over HTTP alone."""

    websocket_adapter_class = Frames
    graphql_transport_ws_handler_class = TransportWS

    largest_body = 1024 * 1024  # bytes
    largest_unknown = 16 * 1024  # bytes for whoever has no key, and so asks for the schema alone
    body_seconds = 10.0
    init_seconds = 5.0  # from the handshake to connection_init
    most_streams = 2_000  # at once of one tenant
    most_connections = 2_000
    quiet_seconds = 12.0  # a stream says that it lives; proxies give up at 30 or 60

    schema: GuardedSchema

    def __init__(
        self,
        schema: GuardedSchema,
        *,
        authenticate: Authenticate[Caller],
        context_for: ContextFor[Caller, Context],
        whose: Callable[[Caller], Hashable],
        batches: Batches[Context] | None = None,
        call_back: CallBack[Context] | None = None,
    ) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            allow_queries_via_get=False,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=timedelta(seconds=self.init_seconds),
            max_subscriptions_per_connection=None,  # TransportWS counts, and answers with a code
        )
        self.public = PublicSchema(schema)
        self.whose = whose
        self.batches = batches or self._one_by_one
        self.call_back = call_back
        self.streams = AtMost(self.most_streams, "operations over WebSockets and event streams")
        self.connections = AtMost(self.most_connections, "WebSockets")
        self.authenticate = authenticate
        self.context_for = context_for

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif response := await self._respond(Request(scope, receive)):
            await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response | None:
        media = Media.JSON
        try:
            media = negotiate(request)
            caller = await self.authenticate(request.headers)
            body = await self._body(request, self.largest_body if caller else self.largest_unknown)
            return (
                None
                if isinstance(body, Gone)
                else await self._run(request, caller, operation_in(body), media)
            )
        except Declined as no:
            return refusal(no.status, no.code, no.message, media, no.headers)
        except GatewayError as no:
            return refusal(STATUS.get(no.code, 400), no.code, no.message, media, _headers(no))
        except Exception as error:  # noqa: BLE001  # failure() logs it
            return answer(failure(error), media)

    async def _body(self, request: Request, largest: int) -> bytes | Gone:
        body = await read_body(request.scope, request.receive, limit=largest, seconds=self.body_seconds)
        # What we did not read would be taken for the next request, so these connections end.
        match body:
            case TooLarge(limit):
                message = f"the body has more than {limit} bytes"
                if limit == self.largest_unknown:
                    message += ", which is the most without a valid API key: send one as X-API-Key"
                raise Declined(413, Code.REQUEST_TOO_LARGE, message, {"Connection": "close"})
            case Late(seconds):
                message = f"the body was not complete after {seconds:g} seconds"
                raise Declined(408, Code.REQUEST_TIMEOUT, message, {"Connection": "close"})
        return body

    async def _run(
        self, request: Request, caller: Caller | None, operation: Operation, media: Media
    ) -> Response:
        form = FORMS.get(media)
        if caller is None:
            result = await self.public.result(operation)
            return Stream(_only(result), form, self.quiet_seconds) if form else answer(result, media)
        context = self.context_for(caller, request)
        if form:
            return Stream(self._stream(caller, operation, context), form, self.quiet_seconds)
        if media is Media.CALLBACK and self.call_back is not None:
            return await self.call_back(operation, context)
        async with aclosing(self.schema.results(operation, context, _ONE_ANSWER)) as results:
            return answer(await anext(results), media)

    async def operate(self, connection: Connection, operation: Operation) -> AsyncGenerator[Batch, None]:
        """One operation of a WebSocket, with a caller and a context of its own: a key may have ended meanwhile."""
        caller = await self.authenticate(connection.credentials)
        if caller is None:
            raise Unauthenticated("your API key has been revoked or has expired: connect with a valid one")
        context = self.context_for(caller, connection.request)
        async with aclosing(self._stream(caller, operation, context)) as batches:
            async for batch in batches:
                yield batch

    async def _stream(
        self, caller: Caller, operation: Operation, context: Context
    ) -> AsyncGenerator[Batch, None]:
        try:
            with self.streams.one(self.whose(caller)):
                async with aclosing(self.batches(operation, context)) as batches:
                    async for batch in batches:
                        yield batch
        except RateLimited as no:
            yield single(failure(no))

    async def _one_by_one(self, operation: Operation, context: Context) -> AsyncGenerator[Batch, None]:
        async with aclosing(self.schema.results(operation, context)) as results:
            async for result in results:
                yield single(result)
                await asyncio.sleep(
                    0
                )  # else a source that is always ready would keep the loop from all others

    @override
    async def on_ws_connect(self, context: Connection) -> UnsetType:
        caller = await self.authenticate(context.credentials)
        if caller is None:
            raise Unauthenticated('no valid API key: send {"apiKey": "cgk_…"} as connection_init\'s payload')
        context.held.enter_context(self.connections.one(self.whose(caller)))
        return cast(UnsetType, UNSET)

    @override
    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Connection:
        """Strawberry's context is the connection's; ours is made in `operate`."""
        return Connection(request)


async def _only(result: ExecutionResult) -> AsyncGenerator[Batch, None]:
    yield single(result)


def _headers(no: GatewayError) -> dict[str, str]:
    match no:
        case Unauthenticated():
            return {"WWW-Authenticate": "ApiKey"}  # RFC 9110 15.5.2 asks for one
        case Unavailable():
            return {"Retry-After": str(no.retry_after)}
        case RateLimited():
            return {"Retry-After": "1"}
    return {}
