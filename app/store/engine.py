"""What a transaction is, and the one way to run it: `write(flow, …)` and `read(query, …)`.

A flow is a synchronous function whose first argument is a `Tx`. It holds the transaction from its first line to
its return, cannot wait for anything but the database, and never commits: `write` does. So one flow serves SQLite,
where the one writer is a thread, and PostgreSQL, where it runs in a greenlet over asyncpg.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.rules.ids import ApiKeyId, DelegationId, Instant, TenantId
from app.store.hot import Batch
from app.store.tables import Delegation, Row

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound=Row)

_CLOCK: ColumnElement[int] = literal_column("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


@dataclass(slots=True)
class Facts:
    """What a transaction did that others have to hear of."""

    appended: set[TenantId] = field(default_factory=set)
    ended: set[DelegationId] = field(default_factory=set)
    revoked: set[ApiKeyId] = field(default_factory=set)


class Tx(Session):
    """A transaction: SQLAlchemy's session, the database's clock, and what others should hear of. A snapshot only
    reads, and has one clock for all that it sees.
    """

    def __init__(self, connection: Connection, *, snapshot: bool = False) -> None:
        # Rows outlive their transaction: GraphQL types wrap them.
        super().__init__(connection, expire_on_commit=False)
        #: Whether this is SQLite; else it is PostgreSQL.
        self.on_sqlite = connection.dialect.name == "sqlite"
        self._snapshot = snapshot
        self._now: Instant | None = None
        self.facts = Facts()

    def now(self) -> Instant:
        """The database's clock, read now: after the locks, never before (promise 2)."""
        if self._now is not None:
            return self._now
        # SQLite has no clock but its process's.
        now = wall_clock() if self.on_sqlite else Instant(self.execute(select(_CLOCK)).scalar_one())
        if self._snapshot:
            self._now = now
        return now

    def first_seen(self, row: Select[R]) -> R | None:
        """One row as it is now; in a snapshot its clock comes along, which then costs no statement of its own."""
        fresh = row.execution_options(populate_existing=True)
        if self.on_sqlite or not self._snapshot:
            return self.scalars(fresh).one_or_none()
        found = self.execute(fresh.add_columns(_CLOCK)).one_or_none()
        if found is None:
            return None
        self._now = Instant(found[1])
        seen: R = found[0]
        return seen

    def inserting(self, kind: type[Row]) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that may say what is done where there is such a row already (`on_conflict_do_…`)."""
        return sqlite.insert(kind) if self.on_sqlite else postgresql.insert(kind)

    def lock(self, ids: Iterable[DelegationId]) -> None:
        """Locks delegations, in the order of their ids. Read them afterwards, in a statement of its own."""
        wanted = sorted(set(ids))
        if wanted and not self.on_sqlite:  # there the whole store is locked
            rows = select(Delegation.id).where(Delegation.id.in_(wanted)).order_by(Delegation.id)
            self.execute(rows.with_for_update(key_share=True)).all()


def wall_clock() -> Instant:
    """The process's clock."""
    return Instant(time.time_ns() // 1000)


class StoreError(Exception):
    """The store cannot be used. Its text is one line for the operator."""


class Store(ABC):
    """What the rest of the house knows of a store."""

    def __init__(self) -> None:
        #: Called on the event loop after each commit with what it did.
        self.on_commit: Callable[[Facts], None] = lambda facts: None

    @abstractmethod
    async def write(self, flow: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `flow` in one transaction and commits, or rolls back if it raises."""

    @abstractmethod
    async def read(self, query: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `query` in a snapshot that cannot write."""

    @abstractmethod
    async def commit(self, begin: Callable[[], Batch[T]]) -> T:
        """Runs a batch of fixed statements in one transaction, on the driver itself and on a thread of the store's.

        `begin` is called there, when the batch before it has ended: so the next one can be asked for meanwhile. Raises
        Unavailable where the store failed, and whatever the batch raised. Only before COMMIT is it certain that nothing
        was done.
        """

    async def tell(self, names: Collection[str]) -> None:  # noqa: B027  # one process has nobody to tell
        """Tells the other processes on this store these names, outside any other transaction."""

    async def listen(self, on_told: Callable[[str], None]) -> None:
        """Calls `on_told` with what others tell, until the store's connection is lost."""
        await asyncio.Event().wait()

    @abstractmethod
    async def hold(self) -> None:
        """Makes sure that nobody else, and no connection of this process's past, still has a batch under way."""

    @abstractmethod
    async def migrate(self) -> None:
        """Brings the schema up to date. Raises StoreError where the store cannot be reached or written."""

    @abstractmethod
    async def close(self) -> None:
        """Ends every connection."""
