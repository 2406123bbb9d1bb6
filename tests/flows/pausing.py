"""Stopping a transaction where a test wants it.

On PostgreSQL it waits for an advisory lock that the test holds, and keeps its other locks: whoever else wants those is
seen to wait too. On SQLite the writer's thread waits. No time passes but what it takes to see that.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import text

from app.store.engine import Tx
from app.store.hot import See, Statement, Step, Write
from tests.flows.nodes import Node, Rewired, node
from tests.flows.waiting import PATIENCE, until
from tests.world import World

_LOCK = 4242
_AT_GATE = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242 AND NOT granted"
_AT_ROWS = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event IN ('transactionid', 'tuple')"
)

WAIT = Step(Statement("", f"SELECT pg_advisory_xact_lock_shared({_LOCK})"), [])


def paused(statement: Step | See | Write) -> list[Step | See | Write]:
    """In a batch: waits at the gate, between what it has seen and what it writes."""
    return [WAIT, statement] if isinstance(statement, Write) else [statement]


def wait_at_gate(tx: Tx) -> None:
    """In a flow: waits at the gate."""
    tx.execute(text(WAIT.statement.postgres))


class Gate:
    """Closed when it is made. Whoever has come through keeps it from being closed again until it commits."""

    def __init__(self, connection: "asyncpg.Connection[Any]") -> None:
        self._connection = connection

    async def open(self) -> None:
        """Lets all go on that wait, and all that come."""
        await self._connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)

    async def take(self, lock: int, *, from_whom: int) -> None:
        """Takes another's advisory lock: whoever held it is gone, and finds it taken when he comes back."""
        await self._connection.execute("SELECT pg_terminate_backend($1)", from_whom)
        await self._connection.execute("SELECT pg_advisory_lock($1)", lock)

    async def waiting(self, count: int = 1) -> None:
        """Until so many wait at it."""
        await self._counted(_AT_GATE, count)

    async def blocked(self, count: int = 1) -> None:
        """Until so many transactions wait for another's locks on rows."""
        await self._counted(_AT_ROWS, count)

    async def _counted(self, query: str, count: int) -> None:
        async def enough() -> bool:
            found: int = await self._connection.fetchval(query)
            return found >= count

        await until(enough)


@asynccontextmanager
async def gate(world: World) -> AsyncIterator[Gate]:
    """A closed gate; open at the latest when the block ends."""
    url = world.settings.database_url
    assert url is not None, "only PostgreSQL has a gate"
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        yield Gate(connection)
    finally:
        await connection.close()


class _Threads:
    """The same for SQLite, whose one writer is a thread."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    def paused(self, statement: Step | See | Write) -> list[Step | See | Write]:
        if isinstance(statement, Write):
            self._reached.set()
            assert self._open.wait(PATIENCE)
        return [statement]

    async def waiting(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, PATIENCE)

    async def open(self) -> None:
        self._open.set()


@asynccontextmanager
async def stopping_node(world: World) -> AsyncIterator[tuple[Node, Gate | _Threads]]:
    """A node whose batches stop between what they have seen and what they write, until the gate is opened."""
    if world.settings.database_url is None:
        threads = _Threads()
        async with node(world, Rewired(world.store, threads.paused)) as at:
            yield at, threads
            await threads.open()
        return
    async with gate(world) as closed, node(world, Rewired(world.store, paused)) as at:
        yield at, closed
        await closed.open()
