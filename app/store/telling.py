"""How the nodes of a PostgreSQL tell each other what moved: LISTEN and NOTIFY, on a connection of their own.

A NOTIFY locks the server's one queue until its transaction has committed, so none is ever part of one that writes.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

_CHANNEL = "crossgrant"
_TELL = "SELECT pg_notify($1, name) FROM unnest($2::text[]) AS name"
_PATIENCE = 5.0  # seconds
#: A notification is no fact: its commit waits for no disk, which the committer's own commits wait for meanwhile.
_SESSION = "SET synchronous_commit = off"


class Telling:
    """One node's connection. While it is lost nothing is told or heard: who waits asks the store instead."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._driver: asyncpg.Connection[Any] | None = None
        self._turn = asyncio.Lock()

    async def tell(self, names: Collection[str]) -> None:
        """Tells the other nodes these names, each once."""
        async with self._turn:
            if self._driver is not None:
                await self._driver.execute(_TELL, _CHANNEL, list(names), timeout=_PATIENCE)

    async def listen(self, on_told: Callable[[str], None]) -> None:
        """Calls `on_told` with what others tell, until the connection is lost."""
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            own, lost = driver.get_server_pid(), asyncio.Event()

            def told(_driver: object, pid: int, _channel: str, name: str) -> None:
                if pid != own:
                    on_told(name)

            await driver.execute(_SESSION)
            driver.add_termination_listener(lambda _driver: lost.set())
            await driver.add_listener(_CHANNEL, told)
            self._driver = driver
            try:
                await lost.wait()
            finally:
                self._driver = None
                await connection.invalidate()
