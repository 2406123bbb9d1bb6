"""A connection that bears only so much of its peer before an answer, and nothing after it.

aiohttp itself reads on through all the interim answers (1xx) that come, and through whatever follows an answer: at 16
bytes each, a peer that sends them without end has the event loop to itself.
"""

from typing import Any, Final

from aiohttp import StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from typing_extensions import override

#: Interim answers to one request. An honest peer sends one or two (RFC 9110 section 15.2).
_INTERIM: Final = 16
#: Bytes that come before the end of the answer's head, interim ones included.
_HEADS: Final = 256 * 1024
#: Bytes until we look again at what they were: 500 of the shortest heads.
_PIECE: Final = 8 * 1024


class Line(ResponseHandler):
    """One connection of the pool. Too much before an answer breaks it; what follows an answer closes it."""

    _awaited = True  # the head of an answer
    _interim = 0
    _room = _HEADS

    @override
    def set_response_params(self, **given: Any) -> None:
        """A request is about to go."""
        self._awaited, self._interim, self._room = True, 0, _HEADS
        super().set_response_params(**given)

    @override
    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """A head has come."""
        if 100 <= data[0].code <= 199 and data[0].code != 101:
            self._interim += 1
        else:
            self._awaited = False
        super().feed_data(data, size)

    @override
    def data_received(self, data: bytes) -> None:
        if not data:  # aiohttp's way to go on after a pause
            super().data_received(data)
        elif self._awaited and len(data) <= _PIECE:  # nearly every answer
            self._take(data)
            return
        for start in range(0, len(data), _PIECE):
            if self._awaited:
                self._take(data[start : start + _PIECE])
            elif self._is_answered():
                self._leave()
            else:
                super().data_received(data[start : start + _PIECE])

    def _take(self, piece: bytes) -> None:
        if self._exception is not None:
            return  # this was no answer
        self._room -= len(piece)
        super().data_received(piece)
        if self._interim > _INTERIM or (self._awaited and self._room < 0):
            self._buffer.clear()  # an answer may have come with the last of them
            self.set_exception(HttpProcessingError(message="no end of heads"))
            self._leave()

    def _is_answered(self) -> bool:
        return self._payload is None or self._payload.is_eof()

    def _leave(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()
