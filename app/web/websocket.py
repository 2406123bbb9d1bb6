"""WebSockets whose peer neither holds a failed handshake open nor stops reading for ever."""

from typing_extensions import override
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.web.stall import CutsStalled


class BoundedWebSocketProtocol(CutsStalled, WebSocketsSansIOProtocol):
    """For `uvicorn.Config(ws=BoundedWebSocketProtocol)`."""

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # The HTTP protocol hands the whole head over. Where that made no request, uvicorn neither sends the
        # refusal that websockets has ready nor closes, and waits for nothing.
        if not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    @override
    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.cut_if_stalled()
