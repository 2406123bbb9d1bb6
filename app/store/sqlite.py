"""SQLite: one thread with one connection writes and checkpoints, a few threads read.

SQLite before 3.51.3 can corrupt a write-ahead log that two connections reset, so no other connection of ours
checkpoints; the command line, which may write while a server runs, says so with `checkpoints=False`.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import local
from typing import Any, Concatenate

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from app.rules.errors import Unavailable
from app.store.away import nothing_done, reason
from app.store.engine import Facts, P, Store, StoreError, T, Tx, wall_clock
from app.store.hot import SEE_SQLITE, Batch, Rows, See, Step, Write
from app.store.hot_writes import write_sqlite
from app.store.migrations import upgrade

_READERS = 3
_CHECKPOINT = 8000  # pages of 4 KiB: a page that is written again and again goes to the database once
_BUSY = 10  # seconds to wait for another process's write; the command line's are short

#: The committer has a prepared statement for each section and size of batch.
_CONNECT = {"check_same_thread": False, "cached_statements": 512}

#: What the machine does to a database, and not a statement of ours.
_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    }
)


class Sqlite(Store):
    """A file in the data folder."""

    def __init__(self, path: Path, *, checkpoints: bool = True) -> None:
        super().__init__()
        self._path = path
        self._checkpoints = checkpoints
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self._mine = local()
        self._opened: list[Connection] = []

    async def write(self, flow: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def run() -> tuple[T, Facts]:
            with nothing_done(_is_away):
                connection = self._connection(writes=True)
                transaction = connection.begin()
            with transaction:  # its end is the COMMIT
                with nothing_done(_is_away):
                    tx = Tx(connection)
                    result = flow(tx, *args, **kwargs)
                    tx.flush()
                _still_open(_driver(connection))
            return result, tx.facts

        result, facts = await asyncio.get_running_loop().run_in_executor(self._writer, run)
        self.on_commit(facts)
        return result

    async def read(self, query: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def run() -> T:
            with nothing_done(_is_away):
                connection = self._connection(writes=False)
                with connection.begin():
                    return query(Tx(connection, snapshot=True), *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def commit(self, begin: Callable[[], Batch[T]]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._commit, begin)

    def _commit(self, begin: Callable[[], Batch[T]]) -> T:
        driver = _driver(self._connection(writes=True))
        try:
            driver.execute("BEGIN IMMEDIATE")
            result = _drive(driver, begin())
            _still_open(driver)
            driver.execute("COMMIT")
        except BaseException as error:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise Unavailable("the store failed") from error
            raise
        return result

    async def hold(self) -> None:
        pass  # one thread has all batches, and each ends before the next

    async def migrate(self) -> None:
        def run() -> None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._path.touch(mode=0o600)  # SQLite gives its other files the same mode
                with _alone(self._path.parent), self._connection(writes=True).begin() as transaction:
                    upgrade(transaction.connection)
            except (OSError, DBAPIError) as error:
                why = error.strerror if isinstance(error, OSError) else reason(error)
                raise StoreError(f"CROSSGRANT_DATA_DIR: cannot use {self._path.parent}: {why}") from None

        await asyncio.get_running_loop().run_in_executor(self._writer, run)

    async def close(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        # Readers first: the last connection to close checkpoints, and that is the writer's right.
        for connection in reversed(self._opened):
            connection.close()

    def _connection(self, *, writes: bool) -> Connection:
        if not hasattr(self._mine, "connection"):
            self._mine.connection = _engine(
                self._path, writes=writes, checkpoints=self._checkpoints
            ).connect()
            self._opened.insert(0 if writes else len(self._opened), self._mine.connection)
        return self._mine.connection  # type: ignore[no-any-return]  # a thread's own attribute has no type


def _is_away(error: Exception) -> bool:
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
    return code & 0xFF in _AWAY  # the rest of an extended code says which kind


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    # Who first makes a file a write-ahead log has to be alone with it: SQLite refuses the others without waiting.
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _engine(path: Path, *, writes: bool, checkpoints: bool) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}", poolclass=NullPool, connect_args=_CONNECT, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def _connect(driver: sqlite3.Connection, _record: object) -> None:
        driver.isolation_level = None  # we say BEGIN ourselves: Python's own would begin too late
        driver.execute(f"PRAGMA busy_timeout={_BUSY * 1000}")
        if writes:
            driver.execute("PRAGMA journal_mode=WAL")
            driver.execute("PRAGMA synchronous=FULL")
            driver.execute("PRAGMA foreign_keys=ON")
        else:
            driver.execute("PRAGMA query_only=ON")
        driver.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT if writes and checkpoints else 0}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _driver(connection: Connection) -> sqlite3.Connection:
    driver: Any = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _drive(driver: sqlite3.Connection, batch: Batch[T]) -> T:
    try:
        step = next(batch)
        while True:
            step = batch.send(_rows(driver, step))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # StopIteration.value has no type


def _rows(driver: sqlite3.Connection, step: Step | See | Write) -> Rows:
    match step:
        case Step(statement, payloads):
            return driver.execute(statement.sqlite, payloads).fetchall()
        case See(_, _, payloads):
            # BEGIN IMMEDIATE has locked the whole store, which has no clock but its process's.
            return driver.execute(SEE_SQLITE, [*payloads, wall_clock()]).fetchall()
        case Write(sections):
            for name, rows in sections.items():
                if rows:
                    driver.execute(*write_sqlite(name, rows))
    return []


def _still_open(driver: sqlite3.Connection) -> None:
    # A full disk makes SQLite roll back by itself; what followed would have been committed alone.
    if not driver.in_transaction:
        raise sqlite3.OperationalError("the transaction was rolled back by SQLite")
