"""A store that keeps the gateway waiting, or turns it away."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import asyncpg

from tests.serving import Installation


@asynccontextmanager
async def held(installation: Installation) -> AsyncIterator[None]:
    """Nobody else commits a dispatch while this is open."""
    async with _postgres(installation) if installation.database_url else _sqlite(installation):
        yield


@asynccontextmanager
async def _sqlite(installation: Installation) -> AsyncIterator[None]:
    path = installation.settings.sqlite_path
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA wal_autocheckpoint=0")  # that is the gateway's right alone
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@asynccontextmanager
async def _postgres(installation: Installation) -> AsyncIterator[None]:
    other = await asyncpg.connect(dsn_of(installation))
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE delegations IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await other.close()


@asynccontextmanager
async def away(installation: Installation) -> AsyncIterator[None]:
    """A store that lets nobody begin: locked for longer than anybody waits, or gone."""
    if installation.database_url is None:
        async with held(installation):
            yield
        return
    # From a database of the same server: nobody can leave one that lets nobody in.
    dsn, slash, options = dsn_of(installation).rpartition("?")
    before, _, name = dsn.rpartition("/")
    other = await asyncpg.connect(f"{before}/postgres{slash}{options}")
    try:
        await other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        yield
        await other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    finally:
        await other.close()


def dsn_of(installation: Installation) -> str:
    """The database as asyncpg itself names it."""
    assert installation.database_url is not None
    return installation.database_url.replace("postgresql+asyncpg", "postgresql")
