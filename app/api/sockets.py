"""graphql-transport-ws: Strawberry's handler with what it lacks.

Messages are checked before they are believed; what breaks the protocol closes with the protocol's code, never with a
traceback. An operation fails alone, and has a caller and a context of its own.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import orjson
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect, WebSocketState
from starlette.websockets import WebSocketDisconnected as AlreadyClosed
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import NonJsonMessageReceived, NonTextMessageReceived, WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import Operation as Running
from strawberry.subscriptions.protocols.graphql_transport_ws.types import (
    ConnectionInitMessage,
    Message,
    SubscribeMessage,
)
from typing_extensions import override

from app.api.answers import errors_of
from app.api.batches import Batch
from app.api.errors import failure, refused
from app.api.followers import RESTARTING, UNAUTHORIZED
from app.api.requests import Operation, decoded, operation_of
from app.edge.frames import TEXTS
from app.rules.errors import BadInput, Code, RateLimited, Unauthenticated, Unavailable
from app.telemetry import get_logger

if TYPE_CHECKING:
    from app.api.view import View

log = get_logger()

LARGEST_MESSAGE = 64 * 1024  # bytes
MOST_OPERATIONS = 100  # at once on one connection
LONGEST_REASON = 123  # bytes of a close frame's text (RFC 6455 5.5); more would break the connection

MESSAGE_TOO_BIG = 1009  # RFC 6455 7.4.1
FAULT_OF_OURS = 1011
TRY_AGAIN_LATER = 1013
FORBIDDEN = 4403  # graphql-transport-ws


@dataclass(slots=True)
class Connection:
    """What outlives an operation: the handshake and what `connection_init` said."""

    request: HTTPConnection
    connection_params: dict[str, object] = field(default_factory=dict)
    #: What is let go when the connection ends.
    held: ExitStack = field(default_factory=ExitStack)

    @property
    def credentials(self) -> Mapping[str, str]:
        """As headers, since a browser cannot send headers with its handshake."""
        key = self.connection_params.get("apiKey")
        return {"x-api-key": key} if isinstance(key, str) else {}


class Frames(ASGIWebSocketAdapter):
    """One connection's frames, bounded. Sending and closing may come late: the peer may be gone by then."""

    @override
    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:
        while self.ws.application_state is WebSocketState.CONNECTED:
            message = await self.ws.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                raise NonTextMessageReceived
            if len(text) > LARGEST_MESSAGE or len(text.encode()) > LARGEST_MESSAGE:
                await self.close(MESSAGE_TOO_BIG, f"a message has at most {LARGEST_MESSAGE} bytes")
                return
            yield _decoded(text)

    @override
    async def send_json(self, message: Mapping[str, object]) -> None:
        await self.send_texts([orjson.dumps(message)])

    async def send_texts(self, messages: Sequence[bytes]) -> None:
        """Messages in UTF-8; in one write where our own server has the connection."""
        try:
            if TEXTS in self.ws.scope.get("extensions", ()):
                await self.ws.send({"type": "websocket.send", "texts": messages})
                return
            for message in messages:
                await self.ws.send_text(message.decode())
        except (WebSocketDisconnect, AlreadyClosed) as error:
            raise WebSocketDisconnected from error

    @override
    async def close(self, code: int, reason: str) -> None:
        if self.ws.application_state is WebSocketState.CONNECTED:
            short = reason.encode()[:LONGEST_REASON].decode(errors="ignore")
            await self.ws.close(code, short)


def _decoded(text: str) -> object:
    try:
        return decoded(text)
    except ValueError as error:
        raise NonJsonMessageReceived from error


class TransportWS(BaseGraphQLTransportWSHandler[Any, None]):
    """One connection."""

    view: "View[Any, Any]"
    websocket: Frames
    context: Connection

    @override
    async def handle(self) -> None:
        with self.context.held:
            await super().handle()

    @override
    async def handle_message(self, message: Message) -> None:
        if malformed := _malformed(message):
            await self.handle_invalid_message(malformed)
        else:
            await super().handle_message(message)

    @override
    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        try:
            await super().handle_connection_init(message)
        except WebSocketDisconnected:
            raise
        except Unauthenticated as no:
            await self.websocket.close(FORBIDDEN, no.message)
        except (RateLimited, Unavailable) as no:
            await self.websocket.close(TRY_AGAIN_LATER, no.message)
        except Exception:
            log.exception("graphql.connection_init_failed")
            await self.websocket.close(FAULT_OF_OURS, "Internal error")

    @override
    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        # Before connection_ack and for an id in use, Strawberry closes the connection.
        is_refused = not self.connection_acknowledged or message["id"] in self.operations
        if is_refused or len(self.operations) < MOST_OPERATIONS:
            await super().handle_subscribe(message)
        else:
            text = f"this connection runs {MOST_OPERATIONS} operations, the most it may: complete one first"
            errors = [refused(Code.RATE_LIMITED, text).formatted]
            await self.send_message({"id": message["id"], "type": "error", "payload": errors})

    @override
    async def run_operation(self, operation: Running[Any, None]) -> None:
        asked = Operation(operation.query, operation.variables or {}, operation.operation_name)
        try:
            async with aclosing(self.view.operate(self.context, asked)) as batches:
                await self._send_batches(operation, batches)
        except WebSocketDisconnected:
            pass  # the reader of this connection notices too, and ends its other operations
        except Unauthenticated as no:
            await _send_errors(operation, errors_of(failure(no)))
            await self.websocket.close(UNAUTHORIZED, no.message)  # nothing more can come of this connection
        except Exception as error:  # noqa: BLE001  # failure() logs it
            await _send_errors(operation, errors_of(failure(error)))

    async def _send_batches(
        self, operation: Running[Any, None], batches: AsyncGenerator[Batch, None]
    ) -> None:
        async for batch in batches:
            if batch.errors:
                await self._end_operation(operation, batch)
                return
            if not operation.completed:
                await self.websocket.send_texts(batch.messages(operation.id))
        await operation.send_operation_message({"id": operation.id, "type": "complete"})

    async def _end_operation(self, operation: Running[Any, None], batch: Batch) -> None:
        if batch.close is None or batch.close.code != RESTARTING:
            await _send_errors(operation, batch.errors)
        if batch.close:
            await self.websocket.close(batch.close.code, batch.close.reason)

    @override
    async def cleanup_operation(self, operation_id: str) -> None:
        # The id may be used again at once, so nothing late may go out under it.
        if operation := self.operations.get(operation_id):
            operation.completed = True
        await super().cleanup_operation(operation_id)


async def _send_errors(operation: Running[Any, None], errors: Sequence[object]) -> None:
    await operation.send_operation_message(
        cast(Message, {"id": operation.id, "type": "error", "payload": errors})
    )


def _malformed(message: object) -> str | None:
    """What is wrong with a client's message by the protocol, if anything. Unknown types are Strawberry's to name."""
    match message:
        case {"type": "subscribe", "id": str(), "payload": payload}:
            try:
                operation_of(payload)
            except BadInput as bad:
                return bad.message
        case {"type": "subscribe"}:
            return "subscribe needs an id, a string, and a payload"
        case {"type": "complete", "id": str()}:
            return None
        case {"type": "complete"}:
            return "complete needs the id of an operation, a string"
        case {"type": str()}:
            return None
        case _:
            return "a message is a JSON object with a type"
    return None
