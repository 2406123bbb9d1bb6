"""Large request bodies: read only for whoever shows a token that there is, and within one budget for all of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import exists, select

from app.rules.errors import Code, Unavailable
from app.rules.terms import LARGEST_REQUEST
from app.store.engine import Store, Tx
from app.store.tables import ScopedToken

#: Up to this size, in bytes, a body is read for anybody: to look up a token costs more than to hold it.
SMALL = 64 * 1024
#: What all larger ones may take of memory together, in bytes.
BUDGET = 512 * 1024 * 1024


class Uploads:
    """One per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held = 0

    @asynccontextmanager
    async def room(self, size: int, token_hash: str) -> AsyncIterator[Code | None]:
        """Room for a body of this size while the block runs, or why there is none."""
        refused = await self._refuse(size, token_hash)
        held = 0 if refused else size
        self._held += held
        try:
            yield refused
        finally:
            self._held -= held

    async def _refuse(self, size: int, token_hash: str) -> Code | None:
        try:
            known = await self._store.read(_is_token, token_hash)
        except Unavailable:
            return Code.UNAVAILABLE
        if not known:
            return Code.TOKEN_INVALID
        if size > LARGEST_REQUEST:
            return Code.REQUEST_TOO_LARGE
        return Code.OVERLOADED if self._held + size > BUDGET else None


def _is_token(tx: Tx, token_hash: str) -> bool:
    return bool(tx.scalar(select(exists().where(ScopedToken.token_hash == token_hash))))
