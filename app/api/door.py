"""Who comes in: from a request's headers to its caller."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping

from app.api.context import Gateway
from app.identity.callers import Caller, find_caller
from app.rules.tokens import TokenKind, well_formed
from app.store.engine import wall_clock

#: Keys that were not seen before are looked up so many at a time: they leave the store to the others.
_STRANGERS = 2
_MOST = 10_000  # keys that are remembered to have been somebody's


class Door:
    """Looks a key up for each operation anew. What it remembers says only how soon."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._strangers = asyncio.Semaphore(_STRANGERS)

    async def __call__(self, headers: Mapping[str, str]) -> Caller | None:
        """The caller, or None where the headers hold no key that is one now."""
        key = headers.get("x-api-key", "")
        if not well_formed(TokenKind.API_KEY, key):
            return None
        key_hash = self._gateway.keys.hash(key)
        if key_hash in self._seen:
            caller = await self._gateway.store.read(find_caller, key_hash)
        else:
            async with self._strangers:
                caller = await self._gateway.store.read(find_caller, key_hash)
        if caller is not None:
            self._remember(key_hash)
            self._gateway.used_keys[caller.key_id] = wall_clock()
        return caller

    def _remember(self, key_hash: str) -> None:
        self._seen[key_hash] = None
        self._seen.move_to_end(key_hash)
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)
