"""Server-sent events out of bytes as they come (WHATWG HTML, section 9.2.6): small, strict about nothing."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

#: Bytes of one event: the gateway ends a stream for whom more than 1 MiB waits.
LARGEST = 4 * 2**20

_END = re.compile(rb"\r\n|\n|\r")


class TooLong(Exception):
    """An event that does not end: this is no stream of ours."""


@dataclass(frozen=True, slots=True)
class Event:
    """What one event says. `id` is None where it names none."""

    name: str
    data: str
    id: str | None


class Events:
    """One stream's."""

    _id: str | None
    _data: list[str]

    def __init__(self) -> None:
        self._line: list[bytes] = []  # what has come of it, in pieces: joined once, however many they are
        self._after_cr = False
        self._begin()

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that end within this piece. Raises TooLong."""
        if not piece:
            return
        text = piece.removeprefix(b"\n") if self._after_cr else piece  # the other half of CRLF
        self._after_cr = piece.endswith(b"\r")
        *ends, rest = _END.split(text)
        for end in ends:
            line, self._line = b"".join([*self._line, end]), []
            if line:
                self._take(line)
            elif (event := self._ended()) is not None:
                yield event
        self._line.append(rest)
        self._size += len(piece)
        if self._size > LARGEST:
            raise TooLong

    def _take(self, line: bytes) -> None:
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        match name:  # a comment has no name
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id":
                self._id = value

    def _ended(self) -> Event | None:
        name, data, id = self._name, self._data, self._id
        self._begin()
        return Event(name or "message", "\n".join(data), id) if data else None

    def _begin(self) -> None:
        self._name, self._size = "", 0
        self._data = []
        self._id = None
