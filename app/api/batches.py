"""Results as the transports send them, several at a time: made once, whoever they go to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import orjson
from strawberry.types import ExecutionResult

from app.api.answers import encoded, errors_of
from app.api.errors import before_data, failure

#: Around a part of `multipart/mixed;boundary=graphql`. The delimiter that ends it goes with it: a client waits for it.
_PART = b"\r\ncontent-type: application/json\r\n\r\n%b\r\n--graphql"


class Event(NamedTuple):
    """A result. `seq` and `cursor` are its entry's, where it is about one."""

    document: bytes
    seq: int = 0
    cursor: str | None = None


class Close(NamedTuple):
    """Why a WebSocket is closed, and with which code."""

    code: int
    reason: str


@dataclass(frozen=True)
class Batch:
    """Results that go out together. `errors` is of the one that ends the stream, where it failed as a whole."""

    events: Sequence[Event]
    errors: Sequence[object] = ()
    #: Beyond what one operation got wrong, which fails alone.
    close: Close | None = None
    #: Not the operation failed, but its stream cannot go on.
    is_cut: bool = field(default=False)

    @property
    def size(self) -> int:
        """Bytes of the documents."""
        return sum(len(event.document) for event in self.events)

    def after(self, seq: int) -> "Batch":
        """What of it comes after a place in the log."""
        if not self.events or self.events[0].seq > seq:
            return self
        return Batch([event for event in self.events if event.seq > seq])

    @cached_property
    def server_sent(self) -> bytes:
        """As server-sent events. Lines end in LF: some clients split at an empty line and know no other."""
        return b"".join(map(_server_sent, self.events))

    @cached_property
    def parts(self) -> bytes:
        """As parts of a multipart subscription. What cut a stream stands beside a payload that is null."""
        if self.is_cut:
            return _PART % orjson.dumps({"payload": None, "errors": self.errors})
        return b"".join(_PART % b'{"payload":%b}' % event.document for event in self.events)

    def messages(self, id: str) -> list[bytes]:
        """As `next` messages of graphql-transport-ws."""
        begin = b'{"id":%b,"type":"next","payload":' % orjson.dumps(id)
        return [b"%b%b}" % (begin, event.document) for event in self.events]


def _server_sent(event: Event) -> bytes:
    # In JSON line ends are but the space between its parts; an upstream's answer comes as its author laid it out.
    data = event.document.translate(None, b"\r\n")
    if event.cursor is None:
        return b"event: next\ndata: %b\n\n" % data
    return b"event: next\nid: %b\ndata: %b\n\n" % (event.cursor.encode(), data)


def single(
    result: ExecutionResult, seq: int = 0, cursor: str | None = None, close: Close | None = None
) -> Batch:
    """One result. Whatever failed before it had data is the last of its stream."""
    errors = errors_of(result) if before_data(result) else ()
    place = (0, None) if errors else (seq, cursor)
    return Batch([Event(encoded(result), *place)], errors, close, is_cut=close is not None)


def cut(error: Exception, close: Close | None = None) -> Batch:
    """The end of a stream that could have gone on."""
    result = failure(error)
    return Batch([Event(encoded(result))], errors_of(result), close, is_cut=True)
