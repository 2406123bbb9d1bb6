"""Keyset pages: which rows to ask a store for, and the cursors of those it found. Knows no SQL.

A page is a constant amount of work at any depth, and rows that come or go meanwhile neither repeat nor hide others.
"""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from app.rules.errors import BadInput
from app.rules.ids import TenantId, prefix_of

Key = TypeVar("Key", int, str)
Row = TypeVar("Row")

DEFAULT = 20
MOST = 100
LONGEST_CURSOR = 300  # characters; ours are far shorter
_LARGEST_SEQ = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Page(Generic[Key]):
    """Rows strictly between the keys: the first `limit` of them, or, where `backward`, the last.

    Ask the store for `limit + 1`, ascending by key, or descending where `backward`.
    """

    limit: int
    after: Key | None
    before: Key | None
    backward: bool


@dataclass(frozen=True, slots=True)
class Slice(Generic[Row]):
    """A page's rows, ascending, and what `pageInfo` says of them."""

    rows: list[Row]
    has_next: bool
    has_previous: bool
    start: str | None
    end: str | None


def a_seq(text: str) -> int:
    """Reads the key of what is ordered by a number. Raises ValueError."""
    if not text.isdecimal() or int(text) > _LARGEST_SEQ:
        raise ValueError(text)
    return int(text)


def an_id(prefix: str) -> Callable[[str], str]:
    """Reads the key of what is ordered by its id, a UUIDv7: by when it was made. Raises ValueError."""

    def read(text: str) -> str:
        if prefix_of(text) != prefix:
            raise ValueError(text)
        return text

    return read


@dataclass(frozen=True, slots=True)
class Keyset(Generic[Key]):
    """One kind of list: `kind` marks its cursors, `read` gets the key back from one, or raises ValueError."""

    kind: str
    read: Callable[[str], Key]

    def page(
        self,
        *,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Page[Key]:
        """The page that a connection's arguments ask for. Raises BadInput, naming the argument."""
        if first is not None and last is not None:
            raise BadInput("last: give either first or last")
        limit = _length("first", first) if last is None else _length("last", last)
        return Page(limit, self._key("after", after), self._key("before", before), last is not None)

    def cursor(self, key: Key) -> str:
        """Opaque to clients; only a list of this kind takes it."""
        return urlsafe_b64encode(f"{self.kind}:{key}".encode()).decode().rstrip("=")

    def slice(self, rows: Sequence[Row], page: Page[Key], key: Callable[[Row], Key]) -> Slice[Row]:
        """The page out of up to `limit + 1` rows in the order they were asked for."""
        return self.found(rows[: page.limit], page, key, more=len(rows) > page.limit)

    def found(
        self,
        rows: Sequence[Row],
        page: Page[Key],
        key: Callable[[Row], Key],
        *,
        more: bool,
        reached: Key | None = None,
    ) -> Slice[Row]:
        """The same, from a reader that knows itself whether there are `more`.

        `reached` is how far it looked, where that is further than its last row: the next page begins there.
        """
        keys = [key(row) for row in rows]
        if reached is not None:
            keys.append(reached)
        cursors = [self.cursor(one) for one in keys[:1] + keys[-1:]]
        start, end = (cursors[0], cursors[-1]) if cursors else (None, None)
        if page.backward:
            return Slice([*reversed(rows)], page.before is not None, more, end, start)
        return Slice([*rows], more, page.after is not None, start, end)

    def _key(self, argument: str, cursor: str | None) -> Key | None:
        if cursor is None:
            return None
        try:
            key = self.read(_text(cursor, self.kind))
        except ValueError:
            raise _foreign(argument) from None
        if self.cursor(key) != cursor:  # one key has one cursor
            raise _foreign(argument)
        return key


@lru_cache(1_000)
def log_of(tenant_id: TenantId) -> Keyset[int]:
    """One tenant's log. A place in another's is none in this one, although both count from 1."""
    return Keyset(f"audit.{tenant_id[-12:]}", a_seq)


def _length(argument: str, asked: int | None) -> int:
    if asked is None:
        return DEFAULT
    if not 0 <= asked <= MOST:
        raise BadInput(f"{argument}: {asked} is not from 0 to {MOST}; read longer lists page by page")
    return asked


def _text(cursor: str, kind: str) -> str:
    if len(cursor) > LONGEST_CURSOR:
        raise ValueError(cursor)
    text = b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    found, _, key = text.partition(":")
    if found != kind:
        raise ValueError(cursor)
    return key


def _foreign(argument: str) -> BadInput:
    return BadInput(f"{argument}: this is no cursor of this list; take one from its edges or pageInfo")
