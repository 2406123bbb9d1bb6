"""PostgreSQL over asyncpg: a pool for flows and queries, and one connection for the committer.

The committer's connection also holds this process's advisory lock: whoever can take a process's lock knows that the
process is gone, or has lost the connection with which it could still have finished anything.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from typing import Any, Concatenate

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.rules.errors import Unavailable
from app.rules.ids import BootId
from app.settings import database_name
from app.store.away import nothing_done, reason
from app.store.engine import Facts, P, Store, StoreError, T, Tx
from app.store.hot import (
    SEE_FUNCTION,
    SEE_POSTGRES,
    Batch,
    Rows,
    See,
    Step,
    Write,
)
from app.store.hot_writes import WRITE_POSTGRES, write_postgres
from app.store.migrations import upgrade
from app.store.telling import Telling

_POOL = 10
_LOCK = 5.0  # seconds
_BATCH = 10.0  # seconds for a batch of the committer's: a server that has fallen silent says nothing
_PATIENCE = 10.0  # seconds until it is one's turn: callers give up at 15
_CONNECT = {"timeout": 5.0}  # seconds for a connection to the server
#: The committer's few statements find their rows by key: that is right at every size, so they are planned once. Left to
#: itself, PostgreSQL would plan them while tables are small and read all of a table that has grown since.
_SESSION = (
    "SET default_transaction_isolation = 'read committed'; SET plan_cache_mode = force_generic_plan; SET jit = off; "
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; " + SEE_FUNCTION
)
#: What is the store's own fault, whatever was asked of it.
_AWAY = (
    *(OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError),
    *(
        asyncpg.InsufficientResourcesError,
        asyncpg.OperatorInterventionError,
        asyncpg.TransactionRollbackError,
    ),
)
_MIGRATION_LOCK = 0x43524F5353  # "CROSS"; any fixed number that no boot id hashes to in practice


class Postgres(Store):
    """A database that any number of nodes share."""

    def __init__(self, url: str, boot_id: BootId) -> None:
        super().__init__()
        self._name = database_name(url)
        self._engine = create_async_engine(
            url,
            pool_size=_POOL,
            max_overflow=_POOL,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=_CONNECT,
        )
        self._writes = self._engine.execution_options(isolation_level="READ COMMITTED")
        self._reads = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._boot_id = boot_id
        self._apart = create_async_engine(
            url, poolclass=NullPool, hide_parameters=True, connect_args=_CONNECT
        )
        self._own: AsyncConnection | None = None
        self._telling = Telling(self._apart)
        # In the order of arrival; who waits in the pool itself may be overtaken again and again.
        self._turns = asyncio.Semaphore(2 * _POOL)
        self._one = asyncio.Lock()
        self._waiting = 0  # batches

    async def write(self, flow: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def run(connection: Connection) -> tuple[T, Facts]:
            tx = Tx(connection)
            result = flow(tx, *args, **kwargs)
            tx.flush()
            return result, tx.facts

        async with self._connected(self._writes) as connection, connection.begin():  # its end is the COMMIT
            with nothing_done(_is_away):
                result, facts = await connection.run_sync(run)
        self.on_commit(facts)
        return result

    async def read(self, query: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._connected(self._reads) as connection:
            with nothing_done(_is_away):
                return await connection.run_sync(lambda sync: query(Tx(sync, snapshot=True), *args, **kwargs))

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            with nothing_done(_is_away):
                async with asyncio.timeout(_PATIENCE):
                    await self._turns.acquire()
                stack.callback(self._turns.release)
                connection = await stack.enter_async_context(engine.connect())
            yield connection

    async def commit(self, begin: Callable[[], Batch[T]]) -> T:
        # Whoever waits for it may be cancelled, a batch is not.
        return await asyncio.shield(asyncio.ensure_future(self._commit(begin)))

    async def _commit(self, begin: Callable[[], Batch[T]]) -> T:
        self._waiting += 1
        async with self._one:
            self._waiting -= 1
            try:
                async with asyncio.timeout(_BATCH):
                    driver = await self._driver()
                    result = await _drive(driver, begin())
                    if driver.is_in_transaction():
                        # Where the next batch waits already, its BEGIN need not go there and back once more.
                        await driver.execute("COMMIT AND CHAIN" if self._waiting else "COMMIT")
            except BaseException as error:
                await self._drop()  # whatever state it is in: a fresh connection has none
                if isinstance(error, (*_AWAY, DBAPIError)):
                    raise Unavailable("the store failed") from error
                raise
        return result

    async def tell(self, names: Collection[str]) -> None:
        await self._telling.tell(names)

    async def listen(self, on_told: Callable[[str], None]) -> None:
        await self._telling.listen(on_told)

    async def hold(self) -> None:
        """Takes this process's advisory lock, unless it has it: nobody settles what it has PENDING, or takes its callbacks."""
        async with self._one:
            if self._own is not None and (await _raw(self._own)).is_closed():
                await self._drop()
            await self._driver()

    async def _driver(self) -> "asyncpg.Connection[Any]":
        if self._own is None:
            self._own = await self._apart.connect()
            driver = await _raw(self._own)
            try:
                # Free at once, or as soon as the server has noticed that our last connection is gone.
                await driver.execute("SELECT pg_advisory_lock($1)", boot_lock(self._boot_id), timeout=_LOCK)
                await driver.execute(_SESSION)
            except BaseException:
                await self._drop()  # without the lock, others would settle what it has PENDING
                raise
            return driver
        return await _raw(self._own)

    async def _drop(self) -> None:
        if self._own is not None:
            own, self._own = self._own, None
            await own.invalidate()
            await own.close()

    async def migrate(self) -> None:
        def run(connection: Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            upgrade(connection)

        try:
            async with self._engine.begin() as connection:
                await connection.run_sync(run)
        except (OSError, DBAPIError, asyncpg.PostgresError, TypeError) as error:
            # TypeError: the address has a parameter that the driver does not know
            raise StoreError(
                f"CROSSGRANT_DATABASE_URL: cannot use the database {self._name}: {_unreached(error)}"
            ) from None

    async def close(self) -> None:
        async with self._one:
            await self._drop()
        await self._engine.dispose()


def _is_away(error: Exception) -> bool:
    if isinstance(error, DBAPIError):  # SQLAlchemy's, around its dialect's, around the driver's
        return error.connection_invalidated or isinstance(getattr(error.orig, "__cause__", None), _AWAY)
    return isinstance(error, _AWAY)


def _unreached(error: Exception) -> str:
    match error:
        case socket.gaierror(errno=socket.EAI_AGAIN):
            return "the host's name cannot be looked up just now"
        case socket.gaierror():
            return "the host's name is not known"
        case ConnectionRefusedError() | FileNotFoundError() | TimeoutError():
            return "nothing answers there"
    return reason(error)


def boot_lock(boot_id: str) -> int:
    """The advisory lock of a process: 63 bits of a hash of its boot id."""
    return int.from_bytes(sha256(boot_id.encode()).digest()[:8]) >> 1


async def _raw(connection: AsyncConnection) -> "asyncpg.Connection[Any]":
    driver: Any = (await connection.get_raw_connection()).driver_connection
    return driver  # type: ignore[no-any-return]  # SQLAlchemy types it as Any


async def _drive(driver: "asyncpg.Connection[Any]", batch: Batch[T]) -> T:
    try:
        step = next(batch)
        while True:
            step = batch.send(await _rows(driver, step))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # StopIteration.value has no type


async def _rows(driver: "asyncpg.Connection[Any]", step: Step | See | Write) -> Rows:
    match step:
        case Step(statement, payloads):
            return await driver.fetch(statement.postgres, *payloads)
        case Write(sections):
            await driver.fetch(WRITE_POSTGRES, *write_postgres(sections))
        case See(delegations, ledgers, payloads):
            if not driver.is_in_transaction():
                await driver.execute("BEGIN")
            return await driver.fetch(SEE_POSTGRES, delegations, ledgers, *payloads)
    return []
