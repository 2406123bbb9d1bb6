"""Whether a request may have left: known to the moment, so that a failure before it is NotSent."""

import asyncio
import socket
import struct
from contextlib import suppress
from contextvars import ContextVar

from aiohttp import ClientConnectionError, ClientRequest, ClientResponse
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from typing_extensions import override

_NO_TIME = struct.pack("ii", 1, 0)


class Flight:
    """One call on its way. Has `left` once bytes may have, on `transport`."""

    left = False
    transport: asyncio.Transport | None = None
    protocol: ResponseHandler | None = None

    def abort(self) -> None:
        """Only before the loop has turned since aiohttp gave the answer's head: later another call may own this."""
        if self.transport is not None:
            _abort(self.transport)

    def drop(self) -> None:
        """Discards what a closed connection still had to send: by closing alone, it would all go out yet.

        A connection that went back to the pool is not closing and may carry another call: it is left alone.
        """
        if self.transport is not None and self.transport.is_closing():
            _abort(self.transport)

    def was_reset(self) -> bool:
        """Whether the connection ended otherwise than by the peer's orderly close."""
        return self.protocol is not None and isinstance(self.protocol.exception(), OSError)


def _abort(transport: asyncio.Transport) -> None:
    # Lingering for no time makes the kernel forget what it holds, and tells the peer by a reset.
    open_socket = transport.get_extra_info("socket")
    if open_socket is not None:  # None once a TLS connection is lost
        with suppress(OSError, ValueError):  # once a plain one is; uvloop's has no number then
            open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_TIME)
    transport.abort()


#: The call of the running task. aiohttp connects and sends within the task that asks for it.
FLIGHT: ContextVar[Flight] = ContextVar("egress_flight")


class Spoilt(ClientConnectionError):
    """A connection on which the peer spoke before it was asked; nothing was sent on it."""


class Request(ClientRequest):
    """A request that reports to the running task's Flight."""

    @override
    async def send(self, conn: Connection) -> ClientResponse:
        protocol = conn.protocol
        # aiohttp would take an answer that came while the connection was idle for the answer to this request, and
        # that one may have been meant for another tenant.
        if protocol is None or protocol.should_close:
            raise Spoilt
        # Up to its return this has no await that waits; what it raises, it raises in place of writing.
        response = await super().send(conn)
        flight = FLIGHT.get()
        flight.left, flight.transport, flight.protocol = True, protocol.transport, protocol
        return response
