"""A world on each store, empty, for each test; when the test is over, what always holds must hold.

Making a PostgreSQL database takes longer than most tests here: there is one for the whole run, emptied each time.
Whoever needs a database that nobody has touched asks for `database_url` instead.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from app.settings import Settings
from app.store.engine import Tx
from app.store.tables import Installation, Row
from tests.conftest import StoreKind
from tests.postgres import Postgres
from tests.promises import kept
from tests.world import World, opened, settings_for

#: For what only several connections can do to each other: SQLite has one writer.
POSTGRES = pytest.mark.parametrize("store_kind", ["postgres"], indirect=True)
SQLITE = pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def said() -> Iterator[Sequence[Mapping[str, object]]]:
    """What was logged. It is not printed: rendering one traceback takes longer than most tests here."""
    with capture_logs() as events:
        yield events


@pytest.fixture(scope="session")
def shared_database(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL database with our tables."""

    async def migrate() -> None:
        async with opened(settings_for(tmp_path_factory.mktemp("data"), dsn)):
            pass

    with postgres.database() as dsn:
        asyncio.run(migrate())
        yield dsn


@pytest.fixture
def settings(store_kind: StoreKind, request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """The settings of this test's world."""
    shared = store_kind == "postgres"
    return settings_for(tmp_path, request.getfixturevalue("shared_database") if shared else None)


@pytest_asyncio.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    """An empty world."""
    async with opened(settings) as world:
        await world.write(_empty)
        yield world
        await kept(world)


def _empty(tx: Tx) -> None:
    for table in reversed(Row.metadata.sorted_tables):
        if table.name != Installation.__tablename__:
            tx.execute(table.delete())
