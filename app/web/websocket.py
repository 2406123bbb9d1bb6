"""WebSockets whose peer neither holds a failed handshake open, nor stops reading for ever, nor keeps the event loop.

uvicorn takes in all that has come at once, which may be thousands of frames, and answers pings whether or not anybody
reads its pongs. Here what has come waits (`_unread`), and with it the peer: a piece of it is taken in each turn of the
loop, none while the application has a message to take first, or the peer our answers to read.
"""

import asyncio
from collections.abc import Iterable
from typing import cast

from typing_extensions import override
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Event, State

from app.edge.frames import TEXTS
from app.web.stall import CutsStalled

_MESSAGES = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class BoundedWebSocketProtocol(CutsStalled, WebSocketsSansIOProtocol):
    """For `uvicorn.Config(ws=BoundedWebSocketProtocol)`."""

    #: Bytes taken in per turn of the loop: some 170 frames at most, or a millisecond.
    at_a_time = 1024
    #: Frames in a second that bring the application nothing: pings, and what is but a part of a message. Also the
    #: parts that one message may have.
    most_frames = 256

    _unread = b""
    _next: asyncio.Handle | None = None
    _since = 0.0
    _counted = 0

    @override
    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            self._shake_hands(data)
            return
        self._unread += data
        if self._next is None:
            self._take_in()

    def _shake_hands(self, head: bytes) -> None:
        super().data_received(head)
        # The HTTP protocol hands the whole head over. Where that made no request, uvicorn neither sends the
        # refusal that websockets has ready nor closes, and waits for nothing.
        if not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    @override
    async def run_asgi(self) -> None:
        self.scope["extensions"][TEXTS] = {}
        await super().run_asgi()

    # In pieces

    def _take_in(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._unread and not self._waits():
            piece, self._unread = self._unread[: self.at_a_time], self._unread[self.at_a_time :]
            super().data_received(piece)
        self._pace()

    def _waits(self) -> bool:
        return (
            self.read_paused
            or not self.writable.is_set()
            or not self.handshake_complete
            or self.transport.is_closing()
        )

    def _pace(self) -> None:
        """Has the peer wait for what is unread, and sees to it that this goes on."""
        if self.transport.is_closing():
            self._unread = b""
        elif self._unread:
            self.transport.pause_reading()
            if self._next is None and not self._waits():
                self._next = self.loop.call_soon(self._take_in)
        elif not self.read_paused:
            self.transport.resume_reading()

    @override
    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        self._pace()  # uvicorn may just have resumed reading
        return message

    @override
    async def send(self, message: ASGISendEvent) -> None:
        if (texts := message.get("texts")) is not None:
            await self._send_texts(cast(Iterable[bytes], texts))
            return
        await super().send(message)
        self._pace()  # the handshake may be complete now, or the closing one begun

    async def _send_texts(self, texts: Iterable[bytes]) -> None:
        """Messages in one write, framed without the detours that compression and fragments would need."""
        await self.writable.wait()
        if self.disconnected or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self.transport.write(b"".join(map(_framed, texts)))

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        # At once: whoever waits to write may leave no other moment, and among this may be the pong that we wait for.
        self._take_in()

    # Counted

    @override
    def handle_events(self) -> None:
        if self._are_too_many(self.conn.events):
            self.conn.fail(CloseCode.POLICY_VIOLATION, "too many frames")
            self.handle_parser_exception()
        else:
            super().handle_events()

    def _are_too_many(self, events: Iterable[Event]) -> bool:
        if self.loop.time() >= self._since + 1:
            self._since, self._counted = self.loop.time(), 0
        self._counted += sum(isinstance(one, Frame) and self._brings_nothing(one) for one in events)
        return self._counted > self.most_frames or len(self.frames) > self.most_frames

    def _brings_nothing(self, frame: Frame) -> bool:
        return not frame.fin or frame.opcode not in _MESSAGES or self.close_sent

    # Ending

    @override
    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._let_go()

    @override
    def keepalive_timeout(self) -> None:
        if self.writable.is_set() or self.ping_timeout is None:
            super().keepalive_timeout()
            self._let_go()
        else:  # its pong may be waiting here until it has read what we said: that has a deadline of its own
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)

    def _let_go(self) -> None:
        self.disconnected = (
            True  # what the application still sends finds its peer gone, and is no mistake of its
        )
        self.cut_if_stalled()

    @override
    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if not self.disconnected:
            self.cut_if_stalled()  # closing, it may have bytes left that the peer does not read


def _framed(text: bytes) -> bytes:
    """A text message as one frame of a server's (RFC 6455 5.2)."""
    size = len(text)
    if size < 126:
        return b"\x81%c%b" % (size, text)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2), text)
    return b"\x81\x7f%b%b" % (size.to_bytes(8), text)
